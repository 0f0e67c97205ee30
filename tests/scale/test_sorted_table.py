"""Tables sorted out of core: every row once, tasks whole, ids and numbers as in memory, faults said."""

import numpy as np
import pandas as pd
import pytest
from scattered import frame, scatter

import undertow as ut
from undertow._check import InputError
from undertow.scale.fragment import read_fragment
from undertow.scale.sorted_table import sort
from undertow.tasks import read_table


def sorted_by_us(source, tmp_path, **more):
    return sort(source, "shop", "sales", folder=tmp_path / "work", memory="600MB", **more)


def assert_same_rows(table, expected, size=2000):
    """The rows of all fragments, put together, are those of the table in memory."""
    assert table.features == expected.feature_names
    np.testing.assert_array_equal(table.ids, expected.ids)
    np.testing.assert_array_equal(table.counts, expected.counts)
    parts = [read_fragment(one) for one in table.fragments(size)]
    assert len(parts) > 2 or size > 2000
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), expected.ids)
    for name, values in (("x", expected.x), ("y", expected.y), ("rows", expected.rows)):
        np.testing.assert_allclose(np.concatenate([getattr(part, name) for part in parts]), values, rtol=1e-15)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("text", [False, True])
def test_files_are_one_table(kind, text, tmp_path):
    rows = frame(text=text)
    folder = scatter(rows, tmp_path / "in", kind=kind)
    expected = read_table(rows, "shop", "sales")
    assert_same_rows(sorted_by_us(folder, tmp_path), expected)
    by_glob = sort(str(folder / f"*.{kind}"), "shop", "sales", folder=tmp_path / "glob", memory="600MB")
    assert_same_rows(by_glob, expected)
    listed = sort(sorted(folder.iterdir()), "shop", "sales", folder=tmp_path / "list", memory="600MB")
    assert_same_rows(listed, expected)


def test_a_relation_is_a_table(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    rows = frame()
    con = duckdb.connect()
    relation = con.from_df(rows).filter("f0 > 4")
    assert_same_rows(sorted_by_us(relation, tmp_path), read_table(rows[rows["f0"] > 4], "shop", "sales"))
    con.close()


def test_chosen_features_keep_their_order(tmp_path):
    rows = frame()
    folder = scatter(rows, tmp_path / "in")
    expected = read_table(rows, "shop", "sales", ["f3", "f1"])
    assert_same_rows(sorted_by_us(folder, tmp_path, features=["f3", "f1"]), expected)


def test_text_features_become_the_indicators_of_read_table(tmp_path):
    rows = frame().assign(kind=lambda table: np.array(["it's", "b", "a"])[table.index % 3], ok=lambda t: t["f0"] > 5)
    for kind in ("parquet", "csv"):
        folder = scatter(rows, tmp_path / kind / "in", kind=kind)
        with pytest.raises(InputError, match="onehot"):
            sorted_by_us(folder, tmp_path / kind)
        table = sorted_by_us(folder, tmp_path / kind, categories="onehot")
        assert_same_rows(table, read_table(rows, "shop", "sales", categories="onehot"))
        assert table.levels == {"kind": ["a", "b", "it's"]}


def test_ids_that_are_one_number_stay_apart_in_csv(tmp_path):
    rows = frame(m=4)
    rows["shop"] = np.where(rows["shop"] == 3, "01", (rows["shop"] + 1).astype(str))
    table = sorted_by_us(scatter(rows, tmp_path / "in", kind="csv"), tmp_path)
    np.testing.assert_array_equal(table.ids, ["01", "1", "2", "3"])


def test_selected_tasks_come_whole(tmp_path):
    rows = frame()
    table = sorted_by_us(scatter(rows, tmp_path / "in"), tmp_path)
    expected = read_table(rows, "shop", "sales").select([5, 6, 40])
    found = table.grouped(np.array([40, 5, 6]), 2000)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_a_sorted_folder_is_taken_as_it_is_and_another_table_is_refused(tmp_path):
    folder = scatter(frame(), tmp_path / "in")
    first = sorted_by_us(folder, tmp_path)
    made = first.file.stat().st_mtime_ns
    assert sorted_by_us(folder, tmp_path).file.stat().st_mtime_ns == made
    with pytest.raises(InputError, match="another table"):
        sorted_by_us(folder, tmp_path, features=["f0"])
    scatter(frame(seed=3), tmp_path / "in")
    with pytest.raises(InputError, match="changed since"):
        sorted_by_us(folder, tmp_path)


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(tmp_path, monkeypatch):
    folder = scatter(frame(), tmp_path / "in")
    usage = type("Usage", (), {"free": 12_345})()
    monkeypatch.setattr("undertow.scale.sorted_table.shutil.disk_usage", lambda place: usage)
    n = len(frame())
    with pytest.raises(InputError, match=rf"{n} rows takes .* on disk, and 12.3 kB are free"):
        sorted_by_us(folder, tmp_path)
    assert not (tmp_path / "work" / "sorted.parquet").exists()


def write(tmp_path, **columns):
    scatter(pd.DataFrame(columns), tmp_path / "in", n_files=1)
    return tmp_path / "in"


FAULTS = [
    ({"shop": [1, None, 2], "sales": [1.0, 2, 3], "f": [1.0, 2, 4]}, "task column 'shop' is missing"),
    ({"shop": ["a", "", "b"], "sales": [1.0, 2, 3], "f": [1.0, 2, 4]}, "task column 'shop' is missing"),
    ({"shop": [1, 1, 2], "sales": ["a", "b", "c"], "f": [1.0, 2, 4]}, "target 'sales' holds values of kind VARCHAR"),
    ({"shop": [1, 1, 2], "sales": [1.0, 2, 3], "f": pd.to_datetime(["2020", "2021", "2022"])}, "kind TIMESTAMP"),
    ({"shop": [1, 1, 2], "f": [1.0, 2, 4]}, "no such column"),
    ({"shop": [1, 1, 2], "sales": [1.0, 2, 4]}, "features"),
    ({"shop": np.array([], int), "sales": np.array([]), "f": np.array([])}, "has no rows"),
]


@pytest.mark.parametrize(("columns", "message"), FAULTS)
def test_faults_of_a_table_are_said(columns, message, tmp_path):
    with pytest.raises(InputError, match=message):
        sorted_by_us(write(tmp_path, **columns), tmp_path)


def test_faults_of_files_are_said(tmp_path):
    with pytest.raises(InputError, match="no file matches"):
        sorted_by_us(str(tmp_path / "*.parquet"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        sorted_by_us(tmp_path / "empty", tmp_path)
    with pytest.raises(InputError, match="no table that can be read"):
        sorted_by_us(3, tmp_path)
    folder = scatter(frame(), tmp_path / "in")
    (folder / "part-9.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        sorted_by_us(folder, tmp_path)
    (folder / "part-9.parquet").unlink()
    scatter(frame(), folder, n_files=1, kind="csv")
    with pytest.raises(InputError, match="2 kinds"):
        sorted_by_us(folder, tmp_path)


def test_text_in_a_column_of_numbers_is_said(tmp_path):
    rows = frame()
    folder = scatter(rows, tmp_path / "in", n_files=1, kind="csv")
    file = folder / "part-0.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines * 80, "1,much,1,1,1,1"]) + "\n")
    with pytest.raises(InputError, match="'f0' holds"):
        sorted_by_us(folder, tmp_path)


def test_merging_fits_of_files_that_arrive_later(tmp_path):
    first, second = frame(), frame(m=20, seed=1)
    second["shop"] += 1000
    est = ut.scale.fit(
        ut.MAMLRegressorCV(2, 3, "gradient", n_draws=1, n_rates=21), scatter(first, tmp_path / "a"), "shop", "sales"
    )
    more = ut.scale.fit(ut.MAMLRegressorCV(), scatter(second, tmp_path / "b"), "shop", "sales", like=est)
    x, y = second[[f"f{j}" for j in range(4)]], second["sales"]
    by_rows = ut.MAMLRegressorCV().fit_like(est, x, y, groups=second["shop"])
    np.testing.assert_allclose(more.coef_, by_rows.coef_, rtol=1e-10)
    np.testing.assert_allclose(more.model_.task_omega, by_rows.model_.task_omega, atol=1e-10)
    est.merge(more)
    assert est.n_tasks_ == 80
    with pytest.raises(InputError, match="must be the same"):
        ut.scale.fit(ut.MAMLRegressorCV(), tmp_path / "b", "shop", "sales", ["f1", "f0", "f2", "f3"], like=est)


def test_a_query_that_is_interrupted_ends_as_ctrl_c(tmp_path, monkeypatch):
    def interrupted(*_):
        raise RuntimeError("Query interrupted")  # DuckDB's words

    monkeypatch.setattr("undertow.scale.source.open_source", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ut.scale.sort("t.csv", "task", "y", folder=tmp_path / "sorted")
