"""Without the extras: what needs one names it in one line with its install command, and all else works."""

import subprocess
import sys

import numpy as np
import pytest

EXTRAS = {
    "gradient": ("jax", "jaxlib", "optax", "equinox"),
    "report": ("jinja2", "vl_convert"),
    "compare": ("statsmodels",),
    "scale": ("duckdb", "dask", "distributed"),
    "excel": ("openpyxl",),
    "formula": ("formulaic",),
}
FIT = "fit rows.csv --task g --target y --draws 1"
NEEDS = {
    "gradient": ["reproduce sinusoid --quick --out o", "train run.toml --out o"],
    "report": [f"{FIT} --report r.html", "compare rows.csv --task g --target y --report r.html"],
    "compare": ["compare rows.csv --task g --target y --rivals mixedlm --out c"],
    "scale": [f"{FIT} --memory 1GB", f"{FIT} --scheduler tcp://127.0.0.1:1", f"{FIT} --work w"],
    "excel": ["fit rows.xlsx --task g --target y"],
    "formula": ["fit rows.csv --formula y~a+(1|g)", "compare rows.csv --formula y~a+(1|g)"],
}
# One process finds none of the packages, as where they are not installed.
CODE = """
import importlib.machinery as machinery, sys

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else machinery.PathFinder.find_spec(name, path, target)

    find_distributions = machinery.PathFinder.find_distributions

sys.meta_path = [Without if one is machinery.PathFinder else one for one in sys.meta_path]
from typer.testing import CliRunner
import undertow as ut
from undertow.cli import app

def show(code, text):
    print(f"{code}|" + " ".join(text.split()))

for command in COMMANDS:
    done = CliRunner().invoke(app, command.split(" "))
    assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
    show(done.exit_code, done.stderr)
for call in (lambda: ut.gradient.adapt, lambda: ut.scale.fit(ut.MAMLRegressor(), "rows.csv", "g", "y")):
    try:
        call()
    except Exception as error:
        show(type(error).__name__, str(error))
done = CliRunner().invoke(app, WORKS.split(" "))
show(done.exit_code, done.stderr)
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    x, tasks = rng.standard_normal((96, 2)), np.repeat(np.arange(12), 8)
    rows = [f"{g},{a + b + rng.standard_normal():.4f},{a:.4f},{b:.4f}" for g, (a, b) in zip(tasks, x, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["g,y,a,b", *rows]))
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    step = "train_rate = -0.01\nadapt_rate = 0.05\n"
    (tmp_path / "run.toml").write_text(
        f'case = "sinusoid"\n[model]\nhidden = [4]\n[task]\nshots = 5\n[inner]\n{step}[outer]\niterations = 2\n'
    )
    return tmp_path


@pytest.mark.long
def test_a_missing_extra_is_named_with_its_install_command(folder):
    blocked = [package for packages in EXTRAS.values() for package in packages]
    commands = [(extra, command) for extra, some in NEEDS.items() for command in some]
    given = f"BLOCKED, COMMANDS, WORKS = {blocked!r}, {[one for _, one in commands]!r}, {FIT + ' --out f'!r}"
    done = subprocess.run([sys.executable, "-c", given + CODE], capture_output=True, text=True, cwd=folder, timeout=200)
    assert done.returncode == 0, done.stderr
    *said, adapt, fit, works = done.stdout.splitlines()
    assert len(said) == len(commands)
    for (extra, command), line in zip(commands, said, strict=True):
        code, text = line.split("|", 1)
        assert code == "2", (command, line)
        assert f"undertow[{extra}]" in text, (command, line)
        assert text.count("Error:") == 1, line
        assert "pip install" in text
    assert adapt.startswith("ImportError|")
    assert 'pip install "undertow[gradient]"' in adapt
    assert fit.startswith("InputError|")
    assert 'pip install "undertow[scale]"' in fit
    assert works.startswith("0|"), works
