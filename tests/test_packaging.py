"""What is packed: the wheel holds the package and all of its data and nothing else, the sdist what the tests need."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "undertow"


def source_files():
    return {
        file.relative_to(PACKAGE.parent).as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The wheel and the sdist, built by the build backend that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("packed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "tools"), "hatchling>=1.25"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        pytest.skip("hatchling cannot be installed here")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")],
        capture_output=True, text=True, timeout=200, cwd=ROOT, check=False,
        env=os.environ | {"PYTHONPATH": str(folder / "tools")},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder / "dist"


@pytest.mark.long
def test_the_wheel_holds_the_package_and_nothing_else(packed):
    (wheel,) = packed.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    own = {name for name in names if ".dist-info/" not in name}
    assert own == source_files()
    assert {Path(name).suffix for name in own} >= {".py", ".js", ".css", ".html", ".j2", ".parquet", ".md", ".typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sum(Path(ROOT / "src" / name).stat().st_size for name in own) < 5_000_000


@pytest.mark.long
def test_the_sdist_holds_tests_docs_and_no_results(packed):
    (sdist,) = packed.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for one in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "README.md", "conftest.py", ".ci/run"):
        assert one in names
    assert {f"src/{name}" for name in source_files()} <= names
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if tracked.returncode == 0:
        folders = ("src/", "tests/", "docs/", "examples/", "benchmarks/")
        assert {name for name in names if name.startswith(folders)} <= set(tracked.stdout.splitlines())
