"""``undertow predict`` on tasks that the model was fitted to: what it learned of them is used, aloud."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.saved_model import Columns, save_model
from undertow.mixed.model import MixedRule

RUN = CliRunner()
RNG = np.random.default_rng(0)
SHOPS, EACH = 30, 12
SHOP = np.repeat(np.arange(SHOPS), 2 * EACH)
X = RNG.standard_normal((len(SHOP), 2))
TRUTH = 5 + (X * (1 + RNG.standard_normal((SHOPS, 2)))[SHOP]).sum(1) + 3 * RNG.standard_normal(SHOPS)[SHOP]
Y = TRUTH + 0.5 * RNG.standard_normal(len(SHOP))
TRAIN = np.arange(len(SHOP)) % 2 == 0


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def model():
    return ut.MAMLRegressor(rule=MixedRule("full")).fit(X[TRAIN], Y[TRAIN], groups=SHOP[TRAIN])


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    model.feature_names_in_ = np.array(["a", "b"], dtype=object)
    save_model(model, tmp_path / "m.safetensors", Columns("shop", "y", {}))
    del model.feature_names_in_
    return tmp_path


def test_rows_that_were_trained_on_are_named_where_they_come_again(folder):
    again = {"a": X[:, 0], "b": X[:, 1], "shop": SHOP, "y": np.where(TRAIN & (SHOP < 2), Y, np.nan)}
    pq.write_table(pa.table(again), "again.parquet")
    assert "labelled rows of 2 known tasks are the rows of training" in run("predict", "m.safetensors", "again.parquet")
    fresh = again | {"y": np.where(~TRAIN & (SHOP < 2), Y, np.nan)}  # as many rows, and others
    pq.write_table(pa.table(fresh), "fresh.parquet")
    assert "rows of training" not in run("predict", "m.safetensors", "fresh.parquet")
    # The same features, as of a design that is repeated, and other targets.
    pq.write_table(pa.table(again | {"y": again["y"] + 1}), "repeated.parquet")
    assert "rows of training" not in run("predict", "m.safetensors", "repeated.parquet")


def new_table(ids, targets=None, rows=~TRAIN, file="new.parquet"):
    columns = {"a": X[rows, 0], "b": X[rows, 1], "shop": ids, "y": pa.nulls(rows.sum(), pa.float64())}
    if targets is not None:
        columns["y"] = targets
    pq.write_table(pa.table(columns), file)


def predicted(file="new-predictions.parquet"):
    return np.array(pq.read_table(file)["prediction"].to_pylist(), dtype=float)


def test_known_tasks_are_predicted_by_what_training_said_of_them(folder, model):
    new_table(SHOP[~TRAIN])
    output = run("predict", "m.safetensors", "new.parquet")
    assert "30 of 30 tasks are known to the model" in output
    np.testing.assert_allclose(predicted(), model.predict(X[~TRAIN], groups=SHOP[~TRAIN]), rtol=1e-12)
    own = np.mean((predicted() - Y[~TRAIN]) ** 2)
    run("predict", "m.safetensors", "new.parquet", "--as-new", "--overwrite")
    np.testing.assert_allclose(predicted(), model.predict(X[~TRAIN]), rtol=1e-12)
    assert own < 0.1 * np.mean((predicted() - Y[~TRAIN]) ** 2)


@pytest.mark.parametrize("known", [str, float, lambda i: f"{i}.0", np.int8])
def test_ids_of_another_type_are_the_same_tasks(folder, model, known):
    new_table([known(i) for i in SHOP[~TRAIN]])
    assert "30 of 30 tasks are known" in run("predict", "m.safetensors", "new.parquet")
    np.testing.assert_allclose(predicted(), model.predict(X[~TRAIN], groups=SHOP[~TRAIN]), rtol=1e-12)


def test_ids_that_only_look_alike_are_named(folder):
    new_table([f"{i:02d}" for i in SHOP[~TRAIN]])
    output = run("predict", "m.safetensors", "new.parquet")
    assert "20 of 30 tasks are known" in output
    assert "spelled almost as known tasks, and taken for new ones: '00' (known: '0'), '01' (known: '1')" in output


def test_new_rows_of_a_known_task_are_added_to_those_of_training(folder, model):
    """The rows of training and the new ones together are what ``adapt`` to all of them at once says."""
    here = np.flatnonzero(~TRAIN)
    shown = np.isin(np.arange(len(here)) % EACH, (0, 1, 2))
    new_table(SHOP[here], [y if one else None for y, one in zip(Y[here], shown, strict=True)])
    output = run("predict", "m.safetensors", "new.parquet")
    assert "adapted on 90 rows of 30 tasks (those with y)" in output
    found = predicted()
    for shop in (0, 7, 29):
        of_shop = shop == SHOP
        rows = np.concatenate([np.flatnonzero(TRAIN & of_shop), here[shown & of_shop[here]]])
        query = ~shown & of_shop[here]
        expected = model.adapt(X[rows], Y[rows]).predict(X[here[query]])
        np.testing.assert_allclose(found[query], expected, rtol=1e-9)
    with open("p.csv", "w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "shop", "y"], *([*X[i], SHOP[i], ""] for i in here)])
    run("predict", "m.safetensors", "p.csv")
    with open("p-predictions.csv", newline="") as file:
        alone = np.array([float(row["prediction"]) for row in csv.DictReader(file)])
    errors = [np.mean((one - TRUTH[here])[~shown] ** 2) for one in (found, alone)]
    assert errors[0] < errors[1]


def test_rows_without_a_task_are_of_an_unknown_one(folder, model):
    ids = [None if i % 10 == 0 else int(one) for i, one in enumerate(SHOP[~TRAIN])]
    new_table(ids, [float(y) if i % 20 == 0 or i % 4 == 1 else None for i, y in enumerate(Y[~TRAIN])])
    output = run("predict", "m.safetensors", "new.parquet")
    assert "36 rows have no shop: an unknown task" in output
    table = pq.read_table("new-predictions.parquet")
    nowhere = np.array([one is None for one in ids])
    assert set(np.array(table["n_adapted"])[nowhere]) == {0}
    wanted = nowhere & (np.arange(len(ids)) % 20 != 0)
    np.testing.assert_allclose(predicted()[wanted], model.predict(X[~TRAIN][wanted]), rtol=1e-12)


def test_a_file_without_the_rows_of_its_tasks_says_so(folder, model):
    from dataclasses import replace

    model.feature_names_in_ = np.array(["a", "b"], dtype=object)
    whole = model.model_
    model.publish(replace(whole, stored_omega=whole.task_omega, task_rows=None))
    save_model(model, folder / "bare.safetensors", Columns("shop", "y", {}))
    model.publish(whole)
    del model.feature_names_in_
    here = np.flatnonzero(~TRAIN)
    new_table(SHOP[here], [float(Y[i]) if k < 2 else None for k, i in enumerate(here)])
    output = run("predict", "bare.safetensors", "new.parquet")
    assert "does not hold their earlier rows" in output
    expected = model.adapt(X[here[:2]], Y[here[:2]]).predict(X[here[2:EACH]])
    np.testing.assert_allclose(predicted()[2:EACH], expected, rtol=1e-9)
    others = model.predict(X[here[EACH:]], groups=SHOP[here[EACH:]])
    np.testing.assert_allclose(predicted()[EACH:], others, rtol=1e-12)


def test_intervals_are_those_of_python_and_narrower_for_known_tasks(folder, model):
    new_table(SHOP[~TRAIN])
    run("predict", "m.safetensors", "new.parquet", "--interval", "0.8")
    known = pq.read_table("new-predictions.parquet").to_pydict()
    value, low, high = model.predict(X[~TRAIN], SHOP[~TRAIN], interval=0.8)
    for ours, theirs in zip((value, low, high), ("prediction", "low", "high"), strict=True):
        np.testing.assert_allclose(known[theirs], ours, rtol=1e-12)
    run("predict", "m.safetensors", "new.parquet", "--interval", "0.8", "--as-new", "--overwrite")
    as_new = pq.read_table("new-predictions.parquet").to_pydict()
    assert (np.subtract(as_new["high"], as_new["low"]) > high - low).all()
    assert "--interval 7" in run("predict", "m.safetensors", "new.parquet", "--interval", "7", "--overwrite", code=2)
