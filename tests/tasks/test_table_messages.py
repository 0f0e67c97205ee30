"""Each fault of a table is named, with the value, the rule and the way out."""

import datetime
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from undertow import InputError
from undertow._check import Setting
from undertow.tasks import TableNote, from_table, read_table
from undertow.tasks.task_columns import split_names

GOOD = {"school": ["a", "a", "b", "b"], "age": [1.0, 2.0, 3.0, 4.0], "score": [1.0, 2.0, 3.0, 4.0]}


def frame(**changes):
    columns = {**GOOD, **changes}
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def fault(source, task="school", target="score", features=None, **options):
    with pytest.raises(InputError) as error:
        read_table(source, task, target, features, **options)
    return str(error.value)


def holds(message, *parts):
    for part in parts:
        assert part in message, message


def test_missing_columns():
    holds(
        fault(frame(), target="scores"),
        "target='scores'",
        "no such column",
        "'school', 'age', 'score'",
        "Did you mean 'score'?",
    )
    holds(fault(frame(), task="School"), "task='School'", "Did you mean 'school'?")
    holds(fault(frame(), target="SCORE"), "Did you mean 'score'?")
    holds(fault(frame(), features=["ages"]), "features='ages'", "Did you mean 'age'?")
    message = fault(frame(), target="zzzzz")
    assert "Did you mean" not in message
    wide = frame(**{f"column{i:02}": [1, 2, 3, 4] for i in range(40)})
    holds(fault(wide, target="nothing like it"), "'column26', ...")
    holds(fault(frame().set_index("school")), "task='school'", "index", "frame.reset_index()")


def test_roles():
    holds(fault(frame(), target="school"), "target='school'", "also the column of task")
    holds(fault(frame(), task=None), "task: it is not given", "says which task a row belongs to")
    holds(fault(frame(), target=None), "target: it is not given")
    holds(fault(frame(), features=["age", "school"]), "'school', which is the task", "Leave it out")
    holds(fault(frame(), features=["score"]), "which is the target")
    holds(fault(frame(), features=["age", "age"]), "'age' more than once")
    holds(fault(frame(), features="age"), "features='age'", "['age']")
    holds(fault(frame(age=None, n=[1, 2, 3, 4]), weights="n"), "no features are left", "'n' is the weights")
    holds(fault(frame(age=None)), "no features are left", "'school', 'score'", "Name with features")
    holds(fault(frame(), features=[]), "no features are left")


@pytest.mark.wrong_type
def test_features_that_are_no_names():
    holds(fault(frame(), features=3), "features=3", "a list of column names")


def test_column_names():
    twice = pd.DataFrame([[1, 2.0, 3.0, 4.0]], columns=["school", "age", "age", "score"])
    holds(fault(twice), "more than one column named 'age'", "Rename or drop")
    arrow = pa.Table.from_arrays([pa.array([1])] * 4, names=["school", "age", "age", "score"])
    holds(fault(arrow), "more than one column named 'age'")
    holds(fault(pd.DataFrame([[1, 2.0]], columns=["school", 0])), "named 0", "frame.columns = ")
    holds(
        fault(frame(**{"": [0, 1, 2, 3]})), "column without a name", "index=False", "the columns you want with features"
    )


def test_text_features():
    message = fault(frame(sex=["M", "F", "M", "F"]))
    holds(message, "feature 'sex' holds text ('M', 'F')", "categories='onehot'", "the columns you want with features")
    holds(
        fault(frame(size=["1.5", "2", "1e3", "4"])),
        "'size' holds numbers stored as text ('1.5', '2', '1e3', ...)",
        "astype(float)",
        "categories='onehot'",
    )
    holds(
        fault(frame(size=["1.5", "2", "n/a", "4"])),
        "'size' holds numbers, but also text ('n/a')",
        "in 1 of 4 rows (row 2; counted from 0)",
        "Mend these cells",
    )
    holds(fault(frame(sex=pd.Categorical(["M", "F", "M", "F"]))), "feature 'sex' holds text")
    holds(fault(pl.DataFrame({**GOOD, "sex": ["M", "F", "M", "F"]})), "feature 'sex' holds text")
    holds(fault(frame(sex=["M", "F", "M", "F"]), target="sex"), "target 'sex' holds text", "Encode it as numbers")


def test_mixed_kinds():
    message = fault(frame(mess=[1, "two", 3, 4]))
    holds(message, "column 'mess' mixes kinds", "int such as 1", "str such as 'two'", "astype(str)")
    holds(fault(frame(school=[1, "a", 1, "a"])), "column 'school' mixes kinds")


def test_onehot():
    many = pa.table({"school": ["a"] * 60, "score": np.arange(60.0), "name": [f"n{i:02}" for i in range(60)]})
    holds(
        fault(many, categories="onehot"),
        "feature 'name' has 60 levels ('n00', 'n01', 'n02', 'n03', 'n04', ...)",
        "at most 50",
        "max_levels=60",
    )
    assert read_table(many, "school", "score", categories="onehot", max_levels=60).n_features == 59
    digits = many.set_column(2, "name", pa.array([str(i) for i in range(60)]))
    holds(fault(digits, categories="onehot"), "60 levels", "look like numbers")
    holds(fault(frame(sex=["M", None, "M", "F"]), categories="onehot"), "feature 'sex' is missing", "row 1;")
    holds(fault(frame(sex=["M", "", "", "F"]), categories="onehot"), "empty text", "(rows 1, 2;")
    holds(
        fault(frame(**{"sex": ["M", "F", "M", "F"], "sex=M": [1, 2, 3, 4]}), categories="onehot"), "both named 'sex=M'"
    )
    holds(fault(frame(sex=["M"] * 4), categories="onehot", on_constant="raise"), "'sex=M' is 1", "on_constant")
    holds(fault(frame(), categories="drop"), "categories='drop'", "'raise', 'onehot'")
    holds(fault(frame(), max_levels=1), "max_levels=1", "at least 2")


MISSING = [
    pd.DataFrame({**GOOD, "age": [1.0, np.nan, 3.0, np.nan]}),
    pd.DataFrame({**GOOD, "age": pd.array([1, None, 3, None], dtype="Int64")}),
    pl.DataFrame({**GOOD, "age": [1.0, float("nan"), 3.0, None]}),
    pa.table({**GOOD, "age": [1, None, 3, None]}),
    pa.table({**GOOD, "age": [True, None, True, None]}),
]


@pytest.mark.parametrize("source", MISSING)
def test_missing_numbers(source):
    holds(
        fault(source),
        "feature 'age' is missing (null or NaN) in 2 of 4 rows (rows 1, 3; counted from 0)",
        "Drop or fill",
    )
    holds(fault(source, target="age", features=["score"]), "target 'age' is missing", "(rows 1, 3;")


def test_numbers_that_are_not_finite():
    holds(fault(frame(age=[1.0, 2.0, np.inf, 4.0])), "feature 'age' is infinite in 1 of 4 rows (row 2;")
    holds(fault(frame(age=[-np.inf, np.nan, 3.0, 4.0])), "'age' is infinite in 1 of 4 rows")
    holds(fault(frame(age=[np.inf, -np.inf, 3.0, 4.0])), "is infinite in 2 of 4 rows")
    holds(fault(frame(age=[None] * 4)), "no features are left", "'age' in 4 rows")
    holds(fault(frame(age=[None] * 4), on_constant="raise"), "'age' is missing in all 4 rows", "Leave the column out")
    many = pd.DataFrame({"school": "a", "age": [1.0, *[np.nan] * 89], "score": np.arange(90.0)})
    holds(fault(many), "in 89 of 90 rows (rows 1, 2, 3, 4, 5, ...; counted from 0)")
    # Finite, but no variance of them is.
    holds(fault(frame(age=[1e308, 1e308, 1.0, 2.0])), "'age' goes up to 1e+308", "too large", "Change its unit")
    holds(fault(frame(score=[1e-300, 0, 0, 0])), "target 'score' goes up to 1e-300", "too small")


def test_row_numbers_are_those_of_the_table_and_not_of_its_index():
    source = frame(age=[1.0, 2.0, 3.0, np.nan])
    source.index = pd.Index([10, 20, 30, 40])
    holds(fault(source), "(row 3; counted from 0)")


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        (["a", None, "b", "b"], "in 1 of 4 rows (row 1;"),
        (["a", "", "b", ""], "in 2 of 4 rows (rows 1, 3;"),
        ([1.0, np.nan, 2.0, 2.0], "in 1 of 4 rows (row 1;"),
        (pd.array([1, 2, None, 2], dtype="Int64"), "in 1 of 4 rows (row 2;"),
        (pd.Categorical(["a", "b", "a", None]), "in 1 of 4 rows (row 3;"),
        ([None] * 4, "in 4 of 4 rows"),
    ],
)
def test_missing_tasks(labels, where):
    holds(fault(frame(school=labels)), "task column 'school' is missing", where, "Drop or fill")


def test_nan_among_polars_tasks():
    holds(fault(pl.DataFrame({**GOOD, "school": [1.0, float("nan"), 2.0, 2.0]})), "task column 'school'", "row 1;")


def test_dates_and_other_kinds():
    days = [datetime.date(2020, 1, day) for day in (1, 2, 3, 4)]
    holds(fault(frame(day=days), target="day"), "target 'day' holds dates")
    holds(fault(pa.table({**GOOD, "pair": [[1, 2]] * 4})), "feature 'pair' holds values of kind list", "Leave it out")
    holds(fault(pa.table({**GOOD, "school": [[1, 2]] * 4})), "task column 'school' holds values of kind list")
    holds(fault(pa.table({**GOOD, "school": [b"a"] * 4})), "kind binary", "text, a number or a date")


def test_small_tasks():
    source = frame(school=["a", "b", "b", "b"])
    holds(
        fault(source, min_rows=2),
        "1 of 2 tasks have fewer than 2 rows (task 'a' has 1)",
        "min_rows=2",
        "on_small='drop'",
    )
    holds(fault(source, min_rows=9, on_small="drop"), "no task has 9 rows", "Ask for fewer rows")
    holds(fault(source, on_small="skip"), "on_small='skip'")
    holds(fault(source, min_rows=0), "min_rows=0")
    with pytest.raises(InputError) as error:
        from_table(source, "school", "score", n_support=2)
    holds(
        str(error.value),
        "task 'a' has 1",
        "n_support=2",
        "fewer than 3 rows, one of them a query row",
        "on_small='drop'",
    )
    assert from_table(source, "school", "score", n_support=2, on_small="drop").ids.tolist() == ["b"]
    # In a table of one row every feature is constant, but that is not what is wrong with it.
    with pytest.raises(InputError, match=r"n_support=1: .*task 'a' has 1"):
        from_table(source.iloc[:1], "school", "score", n_support=1)
    with pytest.raises(InputError, match="n_support=0"):
        from_table(source, "school", "score", n_support=0)


def test_constant_features():
    source = frame(age=[7.5] * 4, size=[1, 2, 3, 4])
    message = fault(source, on_constant="raise")
    holds(message, "1 of 2 features have one value", "'age' is 7.5", "on_constant='drop'", "on_constant='keep'")
    holds(fault(frame(age=[7.5] * 4), on_constant="drop"), "no features are left", "'age' is 7.5")
    holds(fault(source, on_constant="ignore"), "on_constant='ignore'", "'drop'")


def test_empty_tables():
    holds(fault(frame().iloc[:0]), "has no rows")
    holds(fault(pl.DataFrame(GOOD).clear()), "has no rows")
    holds(fault(pd.DataFrame()), "task='school'", "no such column")


def test_sources_that_are_no_tables():
    holds(fault(np.zeros((3, 3))), "type ndarray is no table", ".parquet")
    holds(fault({"school": [1]}), "type dict is no table")
    holds(fault(None), "type NoneType is no table")
    holds(fault(pd.Series([1.0])), "type Series")
    holds(fault(pl.Series([1.0])), "type Series")


def test_files(tmp_path):
    frame().to_csv(tmp_path / "exam.csv", index=False)
    holds(fault(tmp_path / "exams.csv"), "exams.csv", "no such file", "Did you mean 'exam.csv'?", "working directory")
    holds(fault(str(tmp_path / "nowhere" / "t.csv")), "no such file")
    (tmp_path / "t.xls").write_text("1")
    holds(fault(tmp_path / "t.xls"), "t.xls", "must end in .csv, .csv.gz, .tsv, .tsv.gz, .parquet")
    (tmp_path / "dir.csv").mkdir()
    holds(fault(tmp_path / "dir.csv"), "is a directory. Give one file")
    (tmp_path / "fake.parquet").write_text("school,age,score\n")
    holds(fault(tmp_path / "fake.parquet"), "fake.parquet", "cannot be read", "complete")
    (tmp_path / "fake.csv.gz").write_text("school,age,score\n")
    holds(fault(tmp_path / "fake.csv.gz"), "fake.csv.gz", "cannot be read")
    (tmp_path / "empty.csv").write_text("")
    holds(fault(tmp_path / "empty.csv"), "cannot be read", "Empty CSV")
    (tmp_path / "latin.csv").write_bytes("school,age,score\né,1,2\n".encode("latin-1"))
    holds(fault(tmp_path / "latin.csv"), "latin.csv", "column 'school' is not UTF-8", "iconv -f LATIN1 -t UTF-8")
    (tmp_path / "header.csv").write_bytes("école,age,score\na,1,2\n".encode("latin-1"))
    holds(fault(tmp_path / "header.csv"), "header.csv", "a column name is not UTF-8", "iconv -f LATIN1 -t UTF-8")
    (tmp_path / "short.csv").write_text("school,age,score\na,1,2\na,1\n")
    holds(fault(tmp_path / "short.csv"), "cannot be read", "has 2 columns, and the first line 3")
    frame().to_csv(tmp_path / "index.csv")
    holds(fault(tmp_path / "index.csv"), "column without a name", "index=False")
    (tmp_path / "twice.csv").write_text("school,age,age,score\na,1,1,2\n")
    holds(fault(tmp_path / "twice.csv"), "more than one column named 'age'")
    (tmp_path / "gap.csv").write_text("school,age,score\na,1,2\na,,3\na,NA,4\n")
    holds(fault(tmp_path / "gap.csv"), "feature 'age' is missing (null or NaN) in 2 of 3 rows (rows 1, 2;")


def test_a_damaged_parquet_file(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"school": "a", "age": np.random.default_rng(0).normal(size=5000), "score": 1.0}).to_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:20_000] = b"\xff" * 19_996
    path.write_bytes(data)
    holds(fault(path), "t.parquet", "cannot be read")


def test_arguments_of_a_way_out_are_settings():
    with pytest.raises(InputError) as text:
        read_table(frame(age=["x", "y", "x", "y"]), "school", "score")
    assert {Setting("categories", "onehot"), Setting("features")} <= set(text.value.way_out)
    with pytest.raises(InputError) as constant:
        read_table(frame(age=[1.0] * 4), "school", "score", on_constant="raise")
    assert (constant.value.argument, constant.value.value) == ("on_constant", "raise")
    assert {Setting("on_constant", "drop"), Setting("on_constant", "keep")} <= set(constant.value.way_out)
    with pytest.raises(InputError) as column:
        read_table(frame(), "school", "scores")
    assert (column.value.argument, column.value.value) == ("target", "scores")
    assert "--on-constant" in constant.value.text(lambda one: f"--{one.name.replace('_', '-')} {one.value}")


def test_a_task_in_each_row():
    message = fault(frame(), task="age", features=["score"], target="school", min_rows=2, target_kind="two-valued")
    holds(message, "4 of 4 tasks have fewer than 2 rows", "Each row has a task of its own", "task")


def test_numbers_of_rows_are_named():
    rng = np.random.default_rng(0)
    many = pd.DataFrame(
        {"pupil": np.arange(7, 37), "age": rng.random(30), "school": [*"abc"] * 10, "score": rng.random(30)}
    )
    with pytest.warns(TableNote, match=r"'pupil' numbers the rows \(7 to 36\)"):
        read_table(many, "school", "score")
    assert not read_table(many, "school", "score", ["pupil"]).notes
    assert not read_table(many.iloc[::-1], "school", "score").notes


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (["01067", "10115", "80331"], True),
        (["0830", "1215", "1745"], True),
        (["10115", "20095", "80331"], True),
        (["202211", "202212", "202301"], True),
        (["2019", "2020", "2021"], False),
        (["1500", "25000", "180000"], False),
        (["10115.5", "20095.25", "80331.5"], False),
        (["0.5", "0.75", "0"], False),
        (["2022-11-01", "2022-12-01", "2023-01-01"], False),
        (["1000", "2000"], False),
    ],
)
def test_numbers_that_may_be_codes_are_named(tmp_path, values, codes):
    path = tmp_path / "t.csv"
    rows = [f"{'ab'[i % 2]},{values[i % len(values)]},{i % 7}" for i in range(36)]
    path.write_text("\n".join(["g,place,y", *rows]) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableNote)
        by_itself = read_table(path, "g", "y").notes
        assert not any("'place'" in note for note in read_table(path, "g", "y", ["place"]).notes if "dates" not in note)
        assert read_table(path, "g", "y", categorical=["place"]).notes == ()
    assert any("'place'" in note and "categorical" in note for note in by_itself) == codes


def test_few_rows_say_nothing_of_codes():
    values = np.random.default_rng(0).integers(10_000, 99_999, 400)
    many = pd.DataFrame({"g": np.arange(400) % 9, "place": values, "y": np.arange(400) % 7})
    assert not any("'place'" in note for note in read_table(many, "g", "y").notes)


def test_names_of_columns_with_commas_and_quotes_are_found_in_a_list():
    columns = ("shop", "price, net", 'temp "out"', 'a "b, c"')
    assert split_names(columns, 'price, net,temp "out"') == ["price, net", 'temp "out"']
    assert split_names(columns, 'shop,"price, net"') == ["shop", "price, net"]
    assert split_names(columns, 'a "b, c", shop') == ['a "b, c"', "shop"]
    # A slip within quotes stays one name, for which a near one is found.
    for known in (columns[:2], ()):
        assert split_names(known, 'shop,"prize, net"') == ["shop", "prize, net"]
