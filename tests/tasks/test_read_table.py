"""The same rows from every kind of table, and every kind of column."""

import datetime
import decimal
import gzip
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow import InputError
from undertow.tasks import GroupedTable, TableNote, from_table, read_table

KINDS = ["pandas", "polars", "lazy", "arrow", "batch", "csv", "csv.gz", "tsv", "parquet", "pandas arrow", "stream"]


@pytest.fixture
def columns():
    rng = np.random.default_rng(3)
    n = 60
    return {
        "score": rng.normal(size=n).tolist(),
        "school": rng.choice(["south", "north", "été", "west, far"], n).tolist(),
        "age": rng.integers(5, 90, n).tolist(),
        "sex": rng.choice(["M", "F", "X"], n).tolist(),
        "log.ses": rng.normal(size=n).tolist(),
        "urban": rng.choice([True, False], n).tolist(),
    }


class Stream:
    """Anything that speaks the Arrow stream protocol."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def as_kind(columns, kind, folder):
    frame = pd.DataFrame(columns)
    table = pa.table(columns)
    match kind:
        case "pandas":
            # Row labels are no row numbers.
            return frame.set_index(np.arange(len(frame))[::-1])
        case "pandas arrow":
            return frame.convert_dtypes(dtype_backend="pyarrow")
        case "polars":
            return pl.DataFrame(columns)
        case "lazy":
            return pl.LazyFrame(columns)
        case "arrow":
            # Several chunks.
            return pa.concat_tables([table.slice(0, 7), table.slice(7)])
        case "batch":
            return table.combine_chunks().to_batches()[0]
        case "stream":
            return Stream(table)
        case "csv" | "csv.gz":
            frame.to_csv(folder / f"t.{kind}", index=False)
            return folder / f"t.{kind}"
        case "tsv":
            frame.to_csv(folder / "t.tsv", index=False, sep="\t")
            return str(folder / "t.tsv")
        case "parquet":
            pq.write_table(table, folder / "t.parquet", row_group_size=13)
            return folder / "t.parquet"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_batch(columns, kind, tmp_path):
    source = as_kind(columns, kind, tmp_path)
    table = read_table(source, "school", "score", categories="onehot")
    # The oracle: plain Python, row by row.
    schools = sorted(set(columns["school"]))
    rows = [i for school in schools for i, s in enumerate(columns["school"]) if s == school]
    assert table.ids.tolist() == schools
    assert table.rows.tolist() == rows
    assert table.counts.tolist() == [columns["school"].count(school) for school in schools]
    assert table.feature_names == ("age", "sex=M", "sex=X", "log.ses", "urban")
    expected = [
        [
            columns["age"][i],
            columns["sex"][i] == "M",
            columns["sex"][i] == "X",
            columns["log.ses"][i],
            columns["urban"][i],
        ]
        for i in rows
    ]
    assert np.array_equal(table.x, np.array(expected, dtype=float))
    assert table.y.tolist() == [columns["score"][i] for i in rows]
    assert (table.task, table.target) == ("school", "score")

    batch = from_table(source, "school", "score", n_support=3, seed=5, categories="onehot")
    reference = from_table(pa.table(columns), "school", "score", n_support=3, seed=5, categories="onehot")
    for ours, theirs in zip(batch, reference, strict=True):
        assert np.array_equal(ours, theirs)


def test_from_table_is_read_and_drawn(columns):
    frame = pd.DataFrame(columns)
    batch = from_table(frame, "school", "score", 4, 9, ["age", "urban"])
    drawn = read_table(frame, "school", "score", ["age", "urban"]).draw(4, 9)
    for ours, theirs in zip(batch, drawn, strict=True):
        assert np.array_equal(ours, theirs)
    assert batch.support_x.shape == (4, 4, 2)
    # Raw values: an age is an age.
    assert batch.support_x[..., 0].min() >= 5


def test_features_come_in_the_order_asked_for(columns):
    table = read_table(pd.DataFrame(columns), "school", "score", ["log.ses", "age"])
    assert table.feature_names == ("log.ses", "age")
    assert np.array_equal(table.x[:, 1], np.array(columns["age"])[table.rows])
    names = pd.Index(["age"])
    assert read_table(pd.DataFrame(columns), "school", "score", names).feature_names == ("age",)


NUMBERS = [3, 1, 2, 5]
NUMERIC = {
    "int8": pa.array(NUMBERS, pa.int8()),
    "uint64": pa.array(NUMBERS, pa.uint64()),
    "float32": pa.array(NUMBERS, pa.float32()),
    "float16": pa.array(np.array(NUMBERS, dtype=np.float16)),
    "decimal128": pa.array([decimal.Decimal(v) for v in NUMBERS], pa.decimal128(10, 2)),
    "decimal256": pa.array([decimal.Decimal(v) for v in NUMBERS], pa.decimal256(50, 2)),
    "dictionary": pa.array(NUMBERS).dictionary_encode(),
    "pandas int": pd.Series(NUMBERS, dtype="Int64"),
    "pandas float": pd.Series(NUMBERS, dtype="Float32"),
    "pandas object": pd.Series(NUMBERS, dtype=object),
    "pandas decimal": pd.Series([decimal.Decimal(v) for v in NUMBERS]),
    "pandas categorical": pd.Series(NUMBERS, dtype="category"),
    "polars decimal": pl.Series([decimal.Decimal(v) for v in NUMBERS]),
    "polars int128": pl.Series(NUMBERS, dtype=pl.Int128),
}


@pytest.mark.parametrize("kind", NUMERIC)
def test_every_kind_of_number(kind):
    values = NUMERIC[kind]
    frame = {pa.Array: pa.table, pd.Series: pd.DataFrame, pl.Series: pl.DataFrame}[
        next(c for c in (pa.Array, pd.Series, pl.Series) if isinstance(values, c))
    ]({"x": values, "y": values, "g": ["a", "a", "b", "b"]})
    table = read_table(frame, "g", "y")
    assert table.x[:, 0].tolist() == [float(v) for v in NUMBERS]
    assert table.y.tolist() == [float(v) for v in NUMBERS]


@pytest.mark.parametrize(
    "values", [[True, False, True], pd.Series([True, False, True], dtype="boolean"), pl.Series([True, False, True])]
)
def test_booleans_are_0_and_1(values):
    frame = (pl.DataFrame if isinstance(values, pl.Series) else pd.DataFrame)({"x": values, "y": [1, 2, 3], "g": 1})
    assert read_table(frame, "g", "y").x[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_huge_integers_are_rounded_and_not_refused():
    huge = [2**62 + 1, 2**63 - 1, 7]
    assert read_table(pd.DataFrame({"x": huge, "y": huge, "g": 1}), "g", "y").x[:, 0].tolist() == [
        float(v) for v in huge
    ]
    huger = [2**70, 1, 2]
    assert read_table(pd.DataFrame({"x": huger, "y": 1, "g": 1}), "g", "y").x[0, 0] == 2.0**70


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        ([10, 9, 10, -1], [-1, 9, 10]),
        (["b", "a", "b", "Z"], ["Z", "a", "b"]),
        ([1.5, -2.0, 1.5, 0.0], [-2.0, 0.0, 1.5]),
        ([True, False, True, False], [False, True]),
        (pd.Categorical(["b", "a", "b", "c"], categories=["c", "unused", "b", "a"]), ["a", "b", "c"]),
        (pd.array([2**60 + 1, 2**60, 5, 5], dtype="Int64"), [5, 2**60, 2**60 + 1]),
        ([decimal.Decimal("10.50"), decimal.Decimal("9.25")] * 2, ["9.25", "10.50"]),
        (pd.to_datetime(["2020-01-02", "2020-01-01"] * 2), None),
        ([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)] * 2, None),
    ],
)
def test_task_labels_of_every_kind_are_sorted(labels, ids):
    frame = pd.DataFrame({"g": labels, "x": [0.0, 1.0, 2.0, 3.0], "y": 0.0})
    table = read_table(frame, "g", "y")
    assert list(table.ids) == sorted(table.ids) or ids is not None
    if ids is not None:
        assert table.ids.tolist() == ids
    assert table.ids.dtype != object
    keys = [str(v) for v in frame["g"]]
    for task in range(table.n_tasks):
        rows = table.rows[table.offsets[task] : table.offsets[task + 1]]
        assert len({keys[row] for row in rows}) == 1
        assert rows.tolist() == sorted(rows)
    assert table.x[:, 0].tolist() == table.rows.tolist()


def test_text_in_dictionaries_is_text():
    table = pa.table(
        {
            "g": pa.array(["b", "a", "b"]).dictionary_encode(),
            "sex": pa.array(["M", "F", "M"]).dictionary_encode(),
            "y": [1.0, 2.0, 3.0],
        }
    )
    read = read_table(table, "g", "y", categories="onehot")
    assert read.feature_names == ("sex=M",)
    assert read.x[:, 0].tolist() == [0.0, 1.0, 1.0]
    chunked = pa.concat_tables(
        [
            table,
            pa.table(
                {
                    "g": pa.array(["c", "a"]).dictionary_encode(),
                    "sex": pa.array(["F", "X"]).dictionary_encode(),
                    "y": [4.0, 5.0],
                }
            ),
        ]
    )
    assert read_table(chunked, "g", "y", categories="onehot").feature_names == ("sex=M", "sex=X")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_kind_of_text(kind):
    labels = pa.array(["b", "a", "b"], pa.string()).cast(kind)
    read = read_table(pa.table({"g": labels, "s": labels, "y": [1.0, 2.0, 3.0]}), "g", "y", categories="onehot")
    assert read.ids.tolist() == ["a", "b"]
    assert read.feature_names == ("s=b",)
    assert read.x[:, 0].tolist() == [0.0, 1.0, 1.0]


def test_a_categorical_of_numbers_is_numbers_or_levels():
    frame = pd.DataFrame({"g": [1, 1, 2], "x": pd.Categorical([10, 30, 20]), "y": 0.0})
    assert read_table(frame, "g", "y").x[:, 0].tolist() == [10.0, 30.0, 20.0]
    onehot = read_table(frame, "g", "y", categories="onehot")
    assert onehot.feature_names == ("x=20", "x=30")
    assert onehot.x.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_constant_features_and_small_tasks_go_when_asked():
    frame = pd.DataFrame({"g": [1, 1, 1, 2], "a": [0.0, 0, 0, 1], "b": [1.0, 2, 3, 4], "y": 0.0})
    with pytest.warns(TableNote, match="one value in all rows: 'a' is 0"):
        kept = read_table(frame, "g", "y", min_rows=2, on_small="drop")
    # "a" varies in the table but not in the task that is left.
    assert kept.feature_names == ("b",)
    assert kept.ids.tolist() == [1]
    assert read_table(frame, "g", "y", min_rows=2, on_small="drop", on_constant="keep").feature_names == ("a", "b")
    with pytest.warns(TableNote, match="one value in all rows"):
        assert from_table(frame, "g", "y", 2, on_small="drop").n_features == 1


def test_a_record_knows_its_columns(columns):
    record = types.SimpleNamespace(table=pa.table(columns), task="school", target="score", features=("age", "urban"))
    table = read_table(record)
    assert (table.task, table.target, table.feature_names) == ("school", "score", ("age", "urban"))
    other = read_table(record, target="age", features=["score"])
    assert (other.target, other.feature_names) == ("age", ("score",))
    del record.features
    assert read_table(record, categories="onehot").n_features == 5


def test_a_frame_with_columns_table_task_target_is_a_frame():
    frame = pd.DataFrame({"table": [1.0, 2.0, 3.0], "task": ["a", "a", "b"], "target": [0.0, 1.0, 2.0]})
    assert read_table(frame, "task", "target").feature_names == ("table",)


def test_text_that_means_missing_elsewhere_is_text_in_a_csv(tmp_path):
    """NA is the code of Namibia."""
    (tmp_path / "t.csv").write_text("country,x,y\nNA,1,1\nNA,2,2\nDE,3,3\n")
    assert read_table(tmp_path / "t.csv", "country", "y").ids.tolist() == ["DE", "NA"]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["01", "1", "10"], ["01", "1", "10"]),
        (["-01", "-1", "1"], ["-01", "-1", "1"]),
        (["10", "9", "0"], [0, 9, 10]),
        (["0.5", "-0.5", "1.5"], [-0.5, 0.5, 1.5]),
        (["007", "0.5", "1"], ["0.5", "007", "1"]),
        (["12345678901234567890", "12345678901234567891"], ["12345678901234567890", "12345678901234567891"]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz"])
def test_ids_that_a_csv_tells_apart_stay_apart(tmp_path, written, ids, kind):
    separator = "\t" if kind == "tsv" else ","
    path = tmp_path / f"t.{kind}"
    lines = [f"{label}{separator}{i}{separator}1" for i, label in enumerate(written)]
    with (gzip.open if kind == "csv.gz" else open)(path, "wt") as file:
        file.write("\n".join([separator.join("gxy"), *lines]))
    table = read_table(path, "g", "y")
    assert sorted(table.ids.tolist()) == sorted(ids)


def test_periods_are_labels():
    frame = pd.DataFrame({"g": pd.period_range("2020-01", periods=2, freq="M").repeat(2), "x": range(4), "y": 0.0})
    assert read_table(frame, "g", "y").ids.tolist() == ["2020-01", "2020-02"]
    assert read_table(pa.Table.from_pandas(frame), "g", "y").n_tasks == 2
    frame.loc[1, "g"] = pd.NaT
    with pytest.raises(InputError, match=r"task column 'g' is missing.*row 1;"):
        read_table(frame, "g", "y")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_small_file_is_read_by_one_thread(columns, kind, tmp_path, monkeypatch):
    import pyarrow.csv

    asked = []
    options, read = pyarrow.csv.ReadOptions, pq.ParquetFile.read
    note = lambda options: asked.append(options.get("use_threads", True)) or options  # noqa: E731
    monkeypatch.setattr(pyarrow.csv, "ReadOptions", lambda **o: options(**note(o)))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, **o: read(self, **note(o)))
    read_table(as_kind(columns, kind, tmp_path), "school", "score", ["age"])
    assert asked
    assert not any(asked)


def test_the_table_says_how_many_tasks_were_left_out():
    frame = pd.DataFrame({"g": [1, 1, 1, 2, 3], "x": [1.0, 2, 3, 4, 5], "y": 0.0})
    assert read_table(frame, "g", "y").n_left_out == 0
    assert read_table(frame, "g", "y", min_rows=2, on_small="drop").standardized()[0].n_left_out == 2


def test_a_csv_may_change_its_mind_late_and_quote_line_breaks(tmp_path):
    """Text after megabytes of numbers, and a line break in every label after that."""
    path = tmp_path / "t.csv"
    numbers = "".join(f"{i % 7},{i},{i}.5\n" for i in range(200_000))
    text = "".join(f'"late\n\n\n\n\n\n\n\ntext, {i % 3}",1,2\n' for i in range(200_000))
    path.write_text("g,x,y\n" + numbers + text, encoding="utf-8-sig")
    table = read_table(path, "g", "y")
    late = [f"late\n\n\n\n\n\n\n\ntext, {i}" for i in range(3)]
    assert table.ids.tolist() == ["0", "1", "2", "3", "4", "5", "6", *late]
    assert table.n_rows == 400_000


def test_an_index_that_parquet_kept_is_no_feature(tmp_path):
    frame = pd.DataFrame({"g": [1, 1, 2], "x": [1.0, 2.0, 3.0], "y": 0.0}, index=[5, 9, 7])
    frame.to_parquet(tmp_path / "t.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "t.parquet").names
    assert read_table(tmp_path / "t.parquet", "g", "y").feature_names == ("x",)


def test_neither_pandas_nor_polars_is_needed(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("g,s,x,y\na,F,1,1\na,M,2,2\n")
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pandas", "polars", "sklearn", "jax"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import pyarrow.csv
from undertow.tasks import from_table
path = {str(tmp_path / "t.csv.gz")!r}
for source in (path, pyarrow.csv.read_csv(path)):
    assert from_table(source, "g", "y", n_support=1, categories="onehot").support_x.shape == (1, 1, 2)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_task_can_be_read():
    table = read_table(pd.DataFrame({"g": "only", "x": [1.0, 2.0], "y": 0.0}), "g", "y")
    assert isinstance(table, GroupedTable)
    assert table.n_tasks == 1
