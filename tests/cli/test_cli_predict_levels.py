"""Text columns from ``undertow fit --save`` to ``undertow predict``: the same indicators, and no level that is new."""

import copy

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as arrow_csv
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.saved_model import Columns, load_model, save_model

RUN = CliRunner()


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def fitted(names):
    """An estimator on an indicator and a number, and the same with names of columns."""
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.standard_normal(200) > 0, 300 + 20 * rng.standard_normal(200)])
    bare = ut.MAMLRegressor().fit(x, x @ [1, 0.1] + rng.standard_normal(200), groups=np.arange(200) % 20)
    named = copy.copy(bare)
    named.feature_names_in_ = np.array(names, dtype=object)
    return bare, named


def test_text_columns_go_in_as_they_did_in_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    n, levels = 120, ["red", "blue", "a=b"]
    kind, x = rng.integers(0, 3, n), rng.standard_normal(n)
    y = np.array([0.0, 4.0, -4.0])[kind] + x + 0.1 * rng.standard_normal(n)
    table = pa.table({"k=i": [levels[i] for i in kind], "x": x, "g": np.arange(n) % 12, "y": y})
    arrow_csv.write_csv(table, "t.csv")
    small = ["--draws", "1", "--folds", "3", "--out", "o", "--categories", "onehot"]
    run("fit", "t.csv", "--task", "g", "--target", "y", *small, "--save", "m.safetensors")
    model, columns = load_model(tmp_path / "m.safetensors")
    assert columns.levels == {"k=i": ["a=b", "blue", "red"]}
    new = pa.table({"x": [0.5] * 4, "k=i": ["red", "a=b", "blue", None], "g": [1, 1, 2, 2]})
    pq.write_table(new, "new.parquet")
    assert "feature 'k=i' is missing (null or NaN) in 1 of 4 rows (row 3" in run(
        "predict", "m.safetensors", "new.parquet", code=2
    )
    run("predict", "m.safetensors", "new.parquet", "--on-missing", "drop", "--as-new")
    found = pq.read_table("new-predictions.parquet")["prediction"].to_pylist()
    del model.feature_names_in_
    order = columns.levels["k=i"]
    rows = [[*(float(level == one) for one in order[1:]), 0.5] for level in ("red", "a=b", "blue")]
    assert found == [*model.predict(rows).tolist(), None]
    np.testing.assert_allclose(found[:3], [0.5, -3.5, 4.5], atol=0.3)
    # A level that was not there in training is not taken for the first one.
    pq.write_table(new.slice(0, 3).set_column(1, "k=i", [["red", "green", "blue"]]), "new.parquet")
    output = run("predict", "m.safetensors", "new.parquet", "--overwrite", code=2)
    assert "feature 'k=i' holds 'green' in 1 of 3 rows (row 1; counted from 0): no level in training" in output


@pytest.mark.parametrize(
    ("more", "features", "refused"),
    [
        # Only the task left out has the level, and it sorts first: the others have an indicator each.
        ("A0", ["x", "k=a", "k=b"], "A0"),
        # It sorts last, and its indicator, of one value in the rows kept, is dropped.
        ("zzz", ["x", "k=b"], "zzz"),
    ],
)
@pytest.mark.long
def test_a_level_that_only_tasks_left_out_had_is_refused(tmp_path, monkeypatch, more, features, refused):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    n = 108
    kind, x = np.where(rng.random(n) < 0.5, "a", "b"), rng.standard_normal(n)
    rows = [
        f"{i % 12},{x[i]:.4f},{kind[i]},{x[i] + (kind[i] == 'b') + 0.1 * rng.standard_normal():.4f}" for i in range(n)
    ]
    # In the middle, so that numbers of rows and their places differ.
    rows[50:50] = [f"small,0.5,{more},1", "small,1,a,2"]
    (tmp_path / "t.csv").write_text("\n".join(["g,x,k,y", *rows]) + "\n")
    small = ["--draws", "1", "--folds", "3", "--out", "o", "--categories", "onehot"]
    left = ["--on-small", "drop", "--on-constant", "drop"]
    run("fit", "t.csv", "--task", "g", "--target", "y", *small, *left, "--save", "m.safetensors")
    model, columns = load_model(tmp_path / "m.safetensors")
    assert model.feature_names_in_.tolist() == features
    assert columns.levels == {"k": sorted(["a", "b", more])}
    assert columns.unseen == {"k": [more]}
    table = {"g": [1, 1, 2], "x": [0.0, 1.0, 2.0], "k": ["a", "b", refused]}
    pq.write_table(pa.table(table), "new.parquet")
    output = run("predict", "m.safetensors", "new.parquet", code=2)
    assert f"feature 'k' holds '{refused}' in 1 of 3 rows (row 2; counted from 0): no level in training" in output
    assert "which had 'a', 'b'." in output
    pq.write_table(pa.table(table).slice(0, 2), "new.parquet")
    run("predict", "m.safetensors", "new.parquet")
    found = pq.read_table("new-predictions.parquet")["prediction"].to_pylist()
    np.testing.assert_allclose(found, [0.0, 2.0], atol=0.3)


def test_the_column_of_an_indicator_is_no_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, own = fitted(["k=b", "area"])
    save_model(own, tmp_path / "k.safetensors", Columns("g", None, {"k": ["a", "b"]}))
    pq.write_table(pa.table({"k": ["a", "b"], "area": [310.0, 290.0], "g": [1, 1]}), "t.parquet")
    assert "--target k: it is a feature" in run("predict", "k.safetensors", "t.parquet", "--target", "k", code=2)


def test_a_number_column_named_as_the_first_level_stays_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare, own = fitted(["k=b", "k=a"])
    save_model(own, tmp_path / "m.safetensors", Columns("g", None, {"k": ["a", "b"]}))
    pq.write_table(pa.table({"k": ["a", "b"], "k=a": [310.0, 290.0], "g": [99, 99]}), "t.parquet")
    run("predict", "m.safetensors", "t.parquet")
    found = pq.read_table("t-predictions.parquet")["prediction"].to_pylist()
    assert found == bare.predict([[0.0, 310.0], [1.0, 290.0]]).tolist()
