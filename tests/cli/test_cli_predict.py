"""``undertow predict``: what it writes is what the estimator says in Python, and nothing is read or lost by mistake."""

import copy
import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.saved_model import Columns, save_model
from undertow.estimators.saving import load, save
from undertow.mixed.model import MixedRule

RUN = CliRunner()
SHOPS = ["01", "1", "a, b", "c"]


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def rows_of(seed, n, shops=40):
    rng = np.random.default_rng(seed)
    shop = np.arange(n) % shops
    slopes = 1 + np.random.default_rng(99).standard_normal((shops, 2))
    x = rng.standard_normal((n, 2)) * [1, 20] + [0, 300]
    y = 5 + ((x - [0, 300]) / [1, 20] * slopes[shop]).sum(1) + 0.3 * rng.standard_normal(n)
    return x, y, shop


@pytest.fixture(scope="module")
def model():
    x, y, shop = rows_of(0, 600)
    # No task of the new tables is one of these.
    estimator = ut.MAMLRegressor(rule=MixedRule("full")).fit(x, y, groups=100 + shop)
    estimator.feature_names_in_ = np.array(["price", "area"], dtype=object)
    return estimator


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    """A model file, and a table of four shops, in no order: one of them has no row with a target."""
    monkeypatch.chdir(tmp_path)
    save_model(model, tmp_path / "m.safetensors", Columns("shop", "sales", {}))
    x, y, _ = rows_of(1, 24)
    lines = ["price,note,area,shop,sales"]
    for i in range(24):
        shop = SHOPS[(5 * i) % 4]
        target = f"{y[i]:.6f}" if i < 12 and shop != "c" else ""
        quoted = f'"{shop}"' if "," in shop else shop
        lines.append(f'{x[i, 0]:.6f},"n, {i}",{x[i, 1]:.2f}0,{quoted},{target}')
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def cells(file):
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def expected(model, rows):
    """Predictions by a loop over tasks in Python."""
    bare = load_bare(model)
    x = np.array([[float(row["price"]), float(row["area"])] for row in rows])
    out, n_adapted = [None] * len(rows), [0] * len(rows)
    for shop in SHOPS:
        mine = [i for i, row in enumerate(rows) if row["shop"] == shop]
        support = [i for i in mine if rows[i]["sales"]]
        adapted = bare.adapt(x[support], [float(rows[i]["sales"]) for i in support]) if support else bare
        for i in mine:
            n_adapted[i] = len(support)
            if not rows[i]["sales"]:
                out[i] = adapted.predict(x[[i]])[0]
    return out, n_adapted


def load_bare(model):
    bare = copy.copy(model)
    del bare.feature_names_in_
    return bare


def test_each_task_adapts_on_its_rows_with_a_target_and_nothing_else_changes(folder, model):
    output = run("predict", "m.safetensors", "new.csv")
    before, after = cells(folder / "new.csv"), cells(folder / "new-predictions.csv")
    assert [{k: row[k] for k in before[0]} for row in after] == before
    out, n_adapted = expected(model, before)
    assert [int(row["n_adapted"]) for row in after] == n_adapted
    assert set(n_adapted) == {0, 3}
    for row, value in zip(after, out, strict=True):
        assert row["prediction"] == "" if value is None else float(row["prediction"]) == pytest.approx(value, rel=1e-12)
    assert "24 rows of 4 tasks (shop)" in output
    assert "adapted on 9 rows of 3 tasks (those with sales)" in output
    assert "predicted 15 rows of 4 tasks" in output
    assert "1 new task has no row with a target: the common weights predict ('c')" in output
    # Adapting matters here: the tasks' own slopes are far apart.
    omega = load_bare(model).predict([[float(row["price"]), float(row["area"])] for row in before])
    own = [abs(value - omega[i]) for i, value in enumerate(out) if value is not None and n_adapted[i]]
    assert max(own) > 0.5


def test_parquet_keeps_kinds_and_order_and_gives_the_same_numbers(folder):
    run("predict", "m.safetensors", "new.csv")
    run("predict", "m.safetensors", "new.csv", "--out", "p.parquet")
    table = pq.read_table(folder / "p.parquet")
    assert table.column_names == ["price", "note", "area", "shop", "sales", "prediction", "n_adapted"]
    assert table.schema.field("price").type == pa.float64()
    assert table["shop"].to_pylist() == [row["shop"] for row in cells(folder / "new.csv")]
    texts = [row["prediction"] for row in cells(folder / "new-predictions.csv")]
    assert table["prediction"].to_pylist() == [float(text) if text else None for text in texts]
    # And a Parquet table in gives the same again, by default as Parquet.
    pq.write_table(table.drop_columns(["prediction", "n_adapted"]), folder / "new.parquet")
    run("predict", "m.safetensors", "new.parquet")
    assert pq.read_table(folder / "new-predictions.parquet").equals(table)
    run("predict", "m.safetensors", "new.parquet", "--out", "again.csv")
    again = cells(folder / "again.csv")
    assert [row["prediction"] for row in again] == texts
    assert [row["shop"] for row in again] == [row["shop"] for row in cells(folder / "new.csv")]


def test_without_a_target_column_all_rows_are_predicted_by_the_common_weights(folder, model):
    rows = cells(folder / "new.csv")
    table = pa.table({name: [float(row[name]) for row in rows] for name in ("price", "area")})
    pq.write_table(table.append_column("shop", [[row["shop"] for row in rows]]), folder / "bare.parquet")
    output = run("predict", "m.safetensors", "bare.parquet")
    assert "there is no column 'sales': new tasks are predicted by the common weights." in output
    found = pq.read_table(folder / "bare-predictions.parquet")
    x = np.column_stack([table["price"], table["area"]])
    np.testing.assert_array_equal(found["prediction"], load_bare(model).predict(x))
    assert set(found["n_adapted"].to_pylist()) == {0}


@pytest.fixture
def holes(folder):
    lines = (folder / "new.csv").read_text().splitlines()
    for i in (2, 15):
        cut = lines[1 + i].split(",")
        lines[1 + i] = ",".join(["", *cut[1:]])
    (folder / "holes.csv").write_text("\n".join(lines))
    return folder


def test_a_missing_feature_is_refused_with_its_rows_or_skipped(holes, model):
    output = run("predict", "m.safetensors", "holes.csv", code=2)
    assert "feature 'price' is missing (null or NaN) in 2 of 24 rows (rows 2, 15; counted from 0)" in output
    assert "--on-missing drop" in output
    assert not (holes / "holes-predictions.csv").exists()
    output = run("predict", "m.safetensors", "holes.csv", "--on-missing", "drop")
    assert "2 rows left without prediction, missing: 'price' in 2 rows" in output
    after = cells(holes / "holes-predictions.csv")
    rows = cells(holes / "holes.csv")
    complete = [i for i in range(24) if i not in (2, 15)]
    out, n_adapted = expected(model, [rows[i] for i in complete])
    for i, value, n in zip(complete, out, n_adapted, strict=True):
        assert int(after[i]["n_adapted"]) == n
        assert after[i]["prediction"] == "" if value is None else float(after[i]["prediction"]) == pytest.approx(value)
    # Row 2 had a target: its task adapts on one row less, and says so in all of its rows.
    assert rows[2]["sales"]
    assert {n for n, i in zip(n_adapted, complete, strict=True) if rows[i]["shop"] == rows[2]["shop"]} == {2}
    assert after[2]["prediction"] == after[15]["prediction"] == ""


def written(folder, columns):
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return "t.parquet"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"price": [1.0, np.inf]}, "feature 'price' is infinite in 1 of 2 rows (row 1"),
        ({"price": ["x", "2"]}, "feature 'price' holds"),
        ({"price": [None, None]}, "is missing (null or NaN) in 2 of 2 rows"),
        ({"price": [1.0, np.nan]}, "is missing (null or NaN) in 1 of 2 rows (row 1"),
        ({"sales": [1.0, -np.inf]}, "target 'sales' is infinite in 1 of 2 rows (row 1"),
        ({"sales": ["1", "high"]}, "target 'sales' holds"),
        ({"prediction": [1, 2]}, "has a column 'prediction' already"),
        ({"price": None, "Price": [1, 2]}, "lacks 1 of the 2 columns that the model reads: 'price'"),
        ({"price": None, "Price": [1, 2]}, "Did you mean 'Price'?"),
        ({"shop": None}, "shop"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(folder, columns, words):
    table = {"price": [1.0, 2.0], "area": [True, False], "shop": ["a", "b"], "sales": [None, 2.0]} | columns
    file = written(folder, {name: values for name, values in table.items() if values is not None})
    assert words in run("predict", "m.safetensors", file, "--on-missing", "refuse", code=2)
    assert {path.name for path in folder.iterdir()} == {"m.safetensors", "new.csv", "t.parquet"}


def test_no_file_is_lost(folder, monkeypatch):
    (folder / "new-predictions.csv").write_text("mine")
    assert "is there already" in run("predict", "m.safetensors", "new.csv", code=2)
    same = ["predict", "m.safetensors", "new.csv", "--out", "new.csv", "--overwrite"]
    assert "is the table itself" in run(*same, code=2)
    assert "must end in .csv or .parquet" in run("predict", "m.safetensors", "new.csv", "--out", "p.xlsx", code=2)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("undertow.cli.predict_rows.write_csv", full)
        assert "No space left" in run("predict", "m.safetensors", "new.csv", "--overwrite", code=2)
    assert (folder / "new-predictions.csv").read_text() == "mine"
    run("predict", "m.safetensors", "new.csv", "--overwrite")
    assert len(cells(folder / "new-predictions.csv")) == 24
    assert {path.name for path in folder.iterdir()} == {"m.safetensors", "new.csv", "new-predictions.csv"}


@pytest.mark.parametrize("numeric", [True, False])
def test_a_classifier_predicts_classes(folder, numeric):
    x, y, shop = rows_of(0, 300)
    labels = np.where(y > 5, 7, 3) if numeric else np.where(y > 5, "much", "few")
    own = ut.MAMLClassifier(adapt_rate=0.5).fit(x, labels, groups=shop)
    own.feature_names_in_ = np.array(["price", "area"], dtype=object)
    save(own, folder / "c.safetensors")
    new = labels.tolist()
    new = [label if i % 3 == 0 else None for i, label in enumerate(new)]
    file = written(folder, {"area": x[:, 1], "price": x[:, 0], "g": shop, "kind": new})
    asked = ["predict", "c.safetensors", file, "--overwrite"]
    assert "Give --task COL" in run(*asked, code=2)
    run(*asked, "--task", "g", "--target", "kind", "--as-new")
    found = pq.read_table(folder / "t-predictions.parquet")
    assert found.schema.field("prediction").type == (pa.int64() if numeric else pa.string())
    known = np.array([label is not None for label in new])
    bare = load_bare(own)
    for one in range(40):
        support, query = known & (shop == one), ~known & (shop == one)
        ours = bare.adapt(x[support], labels[support]).predict(x[query])
        assert np.array(found["prediction"].to_pylist(), dtype=object)[query].tolist() == ours.tolist()
    assert all(value is None for value in np.array(found["prediction"].to_pylist(), dtype=object)[known])
    strange = written(folder, {"area": x[:, 1], "price": x[:, 0], "g": shop, "kind": [5 if numeric else "?"] * 300})
    output = run("predict", "c.safetensors", strange, "--task", "g", "--target", "kind", "--overwrite", code=2)
    assert "in 300 of 300 rows" in output
    assert "no class in training" in output


@pytest.mark.parametrize("rule", [None, MixedRule("full")])
def test_a_target_with_an_axis_of_its_own_predicts_alike(folder, rule):
    x, y, shop = rows_of(0, 300)
    asked = ["new.csv", "--features", "price,area", "--task", "shop", "--target", "sales", "--out"]
    for name, target in (("flat", y), ("column", y[:, None])):
        save(ut.MAMLRegressor(rule=rule).fit(x, target, groups=shop), folder / f"{name}.safetensors")
        run("predict", f"{name}.safetensors", *asked, f"{name}.csv")
    flat, column = cells(folder / "flat.csv"), cells(folder / "column.csv")
    # Both kinds of rows are there: of adapted tasks, and of the one that the common weights predict.
    assert {row["n_adapted"] for row in flat if row["prediction"]} == {"0", "3"}
    for one, other in zip(flat, column, strict=True):
        assert bool(one["prediction"]) == bool(other["prediction"])
        assert not one["prediction"] or float(other["prediction"]) == pytest.approx(float(one["prediction"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "area"], "--target area: it is a feature of the model"),
        (["--task", "price"], "--task price: it is a feature of the model"),
        (["--task", "sales"], "--task and --target are both 'sales'"),
    ],
)
def test_a_column_has_one_role(folder, options, words):
    assert words in run("predict", "m.safetensors", "new.csv", *options, code=2)
    assert not (folder / "new-predictions.csv").exists()


def test_where_all_targets_are_known_there_is_nothing_to_predict(folder):
    rows = [row for row in cells(folder / "new.csv") if row["sales"]]
    for name, kept in (("known", rows), ("one", rows[:1])):
        lines = [f"{row['price']},{row['area']},{row['shop'].replace(',', '')},{row['sales']}" for row in kept]
        (folder / f"{name}.csv").write_text("\n".join(["price,area,shop,sales", *lines]))
    output = run("predict", "m.safetensors", "known.csv")
    assert "there is nothing to predict: every row has a sales" in output
    assert "predicted 0" not in output
    output = run("predict", "m.safetensors", "one.csv")
    assert "'one.csv': 1 row of 1 task (shop)" in output
    assert "adapted on 1 row of 1 task (those with sales)\n" in output
    (folder / "none.csv").write_text("price,area,shop\n,1,a\n")
    output = run("predict", "m.safetensors", "none.csv", "--on-missing", "drop")
    assert "there is nothing to predict: no row has all features" in output
    assert "1 row left without prediction" in output


def test_a_directory_is_called_one(folder):
    assert "The model '.' is a directory" in run("predict", ".", "new.csv", code=2)
    assert "The new table '.' is a directory" in run("predict", "m.safetensors", ".", code=2)


def test_a_model_that_does_not_adapt_says_so(folder):
    x, y, shop = rows_of(0, 300)
    own = ut.MAMLRegressorCV(5, 3, "gradient", n_draws=1, n_rates=9).fit(x, y, groups=0 * shop)
    assert own.strategy_ == "joint"
    save(own, folder / "j.safetensors")
    asked = ["predict", "j.safetensors", "new.csv", "--features", "price,area", "--task", "shop", "--target", "sales"]
    assert "this model does not adapt" in run(*asked)


def test_ids_that_only_their_spelling_tells_apart_are_two_tasks(folder):
    rows = cells(folder / "new.csv")[:8]
    lines = ["price,area,shop,sales"]
    for i, row in enumerate(rows):
        lines.append(f"{row['price']},{row['area']},{'01' if i < 3 else '1'},{i if i < 2 else ''}")
    (folder / "ids.csv").write_text("\n".join(lines))
    output = run("predict", "m.safetensors", "ids.csv")
    assert "8 rows of 2 tasks" in output
    assert [row["n_adapted"] for row in cells(folder / "ids-predictions.csv")] == ["2"] * 3 + ["0"] * 5
    run("predict", "m.safetensors", "ids.csv", "--out", "ids.parquet")
    assert pq.read_table(folder / "ids.parquet")["shop"].to_pylist() == ["01"] * 3 + ["1"] * 5


def test_a_model_without_names_of_columns_needs_them_said(folder, model):
    save(load_bare(model), folder / "bare.safetensors")
    asked = ["predict", "bare.safetensors", "new.csv", "--task", "shop", "--target", "sales"]
    assert "--features A,B,..." in run(*asked, code=2)
    assert "was fitted to 2" in run(*asked, "--features", "price", code=2)
    run(*asked, "--features", "price, area", "--out", "a.csv")
    run("predict", "m.safetensors", "new.csv", "--out", "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    assert "--features price,area: " in run("predict", "m.safetensors", "new.csv", "--features", "price,area", code=2)


def test_models_that_are_none_or_have_several_targets_are_refused(folder):
    x, y, shop = rows_of(0, 300)
    save(ut.MAMLRegressor().fit(x, np.column_stack([y, y]), groups=shop), folder / "two.safetensors")
    output = run("predict", "two.safetensors", "new.csv", "--task", "shop", "--features", "price,area", code=2)
    assert "predicts 2 targets" in output
    assert "no such file" in run("predict", "none.safetensors", "new.csv", code=2)
    (folder / "torn.safetensors").write_text("torn")
    assert "no complete safetensors file" in run("predict", "torn.safetensors", "new.csv", code=2)
    assert "there is no such file" in run("predict", "m.safetensors", "nwe.csv", code=2)
    own = load(folder / "m.safetensors")
    for odd in ({"levels": []}, {"levels": {"k": []}}, {"levels": {"k": [1]}}, {"unseen": {"k": [1]}}, {"other": 1}):
        save(own, folder / "odd.safetensors", notes={"table": {"task": "shop"} | odd})
        assert "is no model file, or was changed" in run("predict", "odd.safetensors", "new.csv", code=2)


def test_the_columns_in_a_model_file_do_not_hinder_other_readers(folder, model):
    again = load(folder / "m.safetensors")
    x = rows_of(5, 10)[0]
    np.testing.assert_array_equal(load_bare(again).predict(x), load_bare(model).predict(x))


def test_values_far_outside_the_fitted_range_and_cut_off_ones_are_named(folder):
    x, y, _ = rows_of(1, 24)
    lines = ["price,area,shop,sales", *(f"{x[i, 0]},{x[i, 1] + 1000 * (i < 5)},s,{y[i]}" for i in range(24))]
    (folder / "far.csv").write_text("\n".join([*lines, f"{x[0, 0]},{x[0, 1]},s,"]) + "\n")
    said = " ".join(run("predict", "m.safetensors", "far.csv", "--out", "out.csv").split())
    assert "far outside what the model was fitted to" in said
    assert "5 rows (rows 0, 1, 2, 3, 4; counted from 0), area from" in said
    assert "price from" not in said
    assert "far outside" not in run("predict", "m.safetensors", "new.csv", "--out", "near.csv")
    old_x, old_y, shop = rows_of(0, 600)
    limited = ut.MAMLRegressor(rule=MixedRule("full"), clip=3.0).fit(old_x, old_y, groups=100 + shop)
    limited.feature_names_in_ = np.array(["price", "area"], dtype=object)
    save_model(limited, folder / "limited.safetensors", Columns("shop", "sales", {}))
    said = " ".join(run("predict", "limited.safetensors", "far.csv", "--out", "cut.csv").split())
    assert "cut off at 3 s.d., values in a column: area 5" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new.csv", "m.safetensors"), "the model comes first"),
        (("m.safetensors", "m.safetensors"), "the new table comes second"),
        (("m.safetensors", "new.csv", "--interval", 90), "Use 0.9 for 90 %"),
        (("m.safetensors", "new.csv", "--target", "Sales"), "Did you mean 'sales'?"),
        (("m.safetensors", "new.csv", "--weights", "w"), "has no such column"),
        (("n.safetensors", "new.csv"), "Did you mean 'm.safetensors'?"),
        (("m.safetensors", "other.csv"), "'other.csv' has no column 'shop', in which m.safetensors has the tasks"),
    ],
)
def test_slips_are_named_before_a_file_that_is_there(folder, arguments, said):
    (folder / "new-predictions.csv").write_text("mine")
    (folder / "other.csv").write_text("price,area,store\n1,2,a\n")
    assert said in " ".join(run("predict", *arguments, code=2).split())
    assert (folder / "new-predictions.csv").read_text() == "mine"


def test_rows_far_outside_are_numbered(folder):
    lines = (folder / "new.csv").read_text().splitlines()
    lines[6] = "1e6" + lines[6][lines[6].index(",") :]
    (folder / "new.csv").write_text("\n".join(lines))
    assert "straight line: 1 row (row 5; counted from 0), price" in " ".join(
        run("predict", "m.safetensors", "new.csv").split()
    )
