"""Rules of the house that no other tool holds: every public name is documented, and imports stay light."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "undertow",
    *(
        f"undertow.{room}"
        for room in (
            "choice",
            "comparison",
            "datasets",
            "estimators",
            "experiments",
            "gradient",
            "kernel",
            "linear",
            "mixed",
            "plots",
            "report",
            "scale",
            "tasks",
            "theory",
        )
    ),
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_docstring_and_a_place_in_the_reference(room):
    pages = (page.read_text() for page in (ROOT / "docs" / "reference" / "rooms").glob("*.md"))
    reference = set(re.findall(r"undertow[\w.]*\.(\w+)", "".join(pages)))
    module = import_module(room)
    for name in module.__all__:
        value = getattr(module, name)
        if name == "__version__" or inspect.ismodule(value):
            continue
        assert name in reference, f"{room}.{name} is missing in docs/reference/rooms"
        if callable(value):
            assert (value.__doc__ or "").strip(), f"{room}.{name} has no docstring"
            for member, item in vars(value).items() if inspect.isclass(value) else ():
                if not member.startswith("_") and (inspect.isfunction(item) or isinstance(item, property)):
                    assert (item.__doc__ or "").strip(), f"{room}.{name}.{member} has no docstring"


def imported_by(code: str) -> set[str]:
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    return {name.partition(".")[0] for name in output.split()}


def test_the_command_line_imports_nothing_heavy_before_a_command_runs():
    heavy = {"numpy", "scipy", "sklearn", "jax", "matplotlib", "pyarrow", "pandas", "polars", "narwhals"}
    assert not imported_by("import undertow.cli") & heavy
    assert not imported_by("import undertow; dir(undertow)") & heavy


def test_the_exact_half_never_imports_jax_or_sklearn():
    code = "import undertow as ut; ut.rate_path; ut.theory; ut.tasks; ut.datasets; ut.experiments"
    assert not imported_by(code) & {"jax", "optax", "equinox", "sklearn", "pandas", "polars"}


def test_files_stay_readable():
    long = {
        str(path.relative_to(ROOT)): n
        for folder in ("src", "tests", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if (n := len(path.read_text().splitlines())) > (360 if folder == "src" else 400)
    }
    assert not long


def test_functions_stay_readable():
    long = {}
    for room in ("choice", "estimators", "cli"):
        for path in (ROOT / "src/undertow" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    # Options of a command and the words of a docstring are as many as it takes.
                    first = node.body[ast.get_docstring(node) is not None :]
                    lines = (node.end_lineno or 0) - first[0].lineno + 1 if first else 0
                    if lines > 60:
                        long[f"{path.relative_to(ROOT)}: {node.name}"] = lines
    assert not long
