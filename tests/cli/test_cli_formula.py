"""``--formula`` from ``undertow fit`` to ``undertow predict`` and ``undertow compare``."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app

pytest.importorskip("formulaic")
RUN = CliRunner()
FORMULA = "sold ~ scale(log(size)) * kind + (1 | shop)"
SMALL = ["--draws", "1", "--folds", "3", "--n-support", "3", "--effort", "fast"]


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    shop, size = np.repeat(np.arange(20), 8), rng.uniform(1, 50, 160)
    kind = rng.choice(["big", "small"], 160)
    sold = np.log(size) * (1 + rng.standard_normal(20)[shop]) + 2 * (kind == "small") + 0.1 * rng.standard_normal(160)
    return {"shop": shop, "size": size, "kind": kind, "week": rng.integers(0, 4, 160), "sold": sold}


@pytest.fixture(scope="module")
def folder(columns, tmp_path_factory):
    """A folder with a table, and a model that was fitted to it by a formula."""
    folder = tmp_path_factory.mktemp("formula")
    arrow_csv.write_csv(pa.table(columns), folder / "t.csv")
    said = run("fit", folder / "t.csv", "--formula", FORMULA, *SMALL, "--out", folder / "o", "--save",
               folder / "m.safetensors")  # fmt: skip
    assert "--task shop --target sold --features size,kind --categories onehot" in said
    assert "mixed model, random intercept" in said
    return folder


@pytest.fixture
def table(folder, columns, monkeypatch):
    monkeypatch.chdir(folder)
    return columns


def test_a_saved_model_makes_the_columns_of_a_formula_again(table):
    first = {name: values[:8] for name, values in table.items()}
    missing = [*first["sold"][:4], *[None] * 4]
    arrow_csv.write_csv(pa.table(first | {"shop": ["new"] * 8, "sold": missing}), "n.csv")
    run("predict", "m.safetensors", "n.csv")
    shown = arrow_csv.read_csv("n-predictions.csv")["prediction"].to_pylist()[4:]
    # In Python, the same rows of the training table.
    whole = ut.tasks.read_table("t.csv", formula=FORMULA)
    model = ut.estimators.load("m.safetensors")
    x = whole.x[np.argsort(whole.rows)][:8]
    del model.feature_names_in_
    assert np.allclose(shown, model.adapt(x[:4], first["sold"][:4]).predict(x[4:]))
    arrow_csv.write_csv(pa.table(first | {"size": [0.0, *first["size"][1:]], "sold": missing}), "bad.csv")
    assert "log(size)" in run("predict", "m.safetensors", "bad.csv", code=2)


def test_a_formula_in_a_model_file_runs_nothing_but_arithmetic(table):
    notes, model = ut.estimators.read_notes("m.safetensors"), ut.estimators.load("m.safetensors")
    first = notes["table"]["formula"]["columns"][0]
    for strange in (["__import__", "size"], ["exec", "size"], ["log", "other"], "size + 1", {"log": "size"}, ["log"]):
        first[1] = strange
        ut.estimators.save(model, "strange.safetensors", notes=notes)
        assert "no model file" in run("predict", "strange.safetensors", "t.csv", code=2)


def test_comparison_reads_a_formula_and_its_second_grouping(table):
    small = ["--rivals", "pooled", "--time-limit", "inf", "--folds", "2", "--out", "c", "--n-support", "3"]
    said = run("compare", "t.csv", "--formula", "sold ~ log(size) + (1 | shop)", *small)
    assert "columns made: 'log(size)'" in said
    said = run("compare", "t.csv", "--formula", "sold ~ size + (1 | shop) + (1 | week)", *small, "--overwrite")
    assert "what levels of week add is predicted from training tasks for every rival" in said


def test_roles_are_said_once(table):
    assert "--task shop" in run("fit", "t.csv", "--formula", "sold ~ size + (1 | shop)", "--task", "shop", code=2)
    assert "--task" in run("fit", "t.csv", "--formula", "sold ~ size", code=2)
    assert "in memory" in run("fit", "t.csv", "--formula", "sold ~ size + (1 | shop)", "--memory", "1GB", code=2)
