"""From columns to features and back to other tables; missing values and levels that are new, by each policy."""

import numpy as np
import pandas as pd
import pytest

from undertow import InputError
from undertow.tasks import Encoding, TableNote, read_table

FRAME = pd.DataFrame(
    {
        "g": ["a", "a", "b", "b", "c", "c"],
        "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "colour": ["red", "blue", "red", "blue", "green", "red"],
        "code": [10, 2, 10, 1, 2, 1],
        "day": pd.to_datetime(
            ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05", "2020-01-06 12:00"], format="ISO8601"
        ),
        "y": [1.0, 2.0, 3.0, 5.0, 4.0, 6.0],
    }
)
READ = {"categories": "onehot", "categorical": ["code"]}


def read(frame=FRAME, **options):
    with pytest.warns(TableNote):
        return read_table(frame, "g", "y", **(READ | options))


def test_the_same_table_gives_the_same_features():
    table = read()
    # Coded numbers in the order of numbers: 1 is the base, and 10 comes last.
    assert table.feature_names == ("x", "colour=green", "colour=red", "code=2", "code=10", "day")
    assert table.x[:, 5].tolist() == [18262.0, 18263.0, 18264.0, 18265.0, 18266.0, 18267.5]
    again = table.encoding.apply(FRAME)
    np.testing.assert_array_equal(again.x, table.x)
    assert again.complete.all()
    # Codes may come as floats or as text, days as text.
    other = FRAME.assign(code=FRAME["code"].astype(float), day=FRAME["day"].astype(str))
    np.testing.assert_array_equal(table.encoding.apply(other).x, table.x)
    text = FRAME.assign(code=FRAME["code"].astype(str))
    np.testing.assert_array_equal(table.encoding.apply(text).x, table.x)


def test_levels_that_are_new():
    encoding = read().encoding
    new = FRAME.assign(colour=["red", "pink", "blue", "red", "red", "green"])
    with pytest.raises(InputError, match=r"'colour' holds 'pink' in 1 of 6 rows.*on_unseen='skip'.*on_unseen='base'"):
        encoding.apply(new)
    skipped = encoding.apply(new, on_unseen="skip")
    assert skipped.complete.tolist() == [True, False, True, True, True, True]
    assert "1 row left without prediction: 'colour' is 'pink'" in skipped.notes[0]
    base = encoding.apply(new, on_unseen="base")
    assert base.complete.all()
    assert base.x[1, 1:3].tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(base.x[[0, 2]], skipped.x[[0, 2]])


def test_values_that_are_missing_in_another_table():
    encoding = read().encoding
    new = FRAME.assign(x=[1.0, np.nan, 3.0, 4.0, 5.0, 6.0], colour=["red", None, "blue", None, "red", "red"])
    with pytest.raises(InputError, match=r"'x' is missing.*\(by column: 'colour' in 2 rows, 'x' in 1 row\).*'mean'"):
        encoding.apply(new)
    dropped = encoding.apply(new, on_missing="drop")
    assert dropped.complete.tolist() == [True, False, True, False, True, True]
    filled = encoding.apply(new, on_missing="mean")
    assert filled.complete.all()
    # The mean of an indicator is its share.
    assert filled.x[1, :3].tolist() == [3.5, 1 / 6, 0.5]
    bare = Encoding(encoding.features, (), encoding.levels, dates=encoding.dates)
    with pytest.raises(InputError, match="does not hold the means"):
        bare.apply(new, on_missing="mean")


def test_missing_values_in_training():
    frame = FRAME.assign(
        x=[1.0, None, 3.0, 4.0, 5.0, 6.0],
        colour=["red", "blue", "red", "blue", None, None],
        y=[1.0, 2, 3, 4, 5, None],
        g=["a", "a", "b", None, "c", "c"],
    )
    with pytest.raises(InputError, match=r"task column 'g' is missing.*by column.*on_missing='drop'"):
        read_table(frame, "g", "y", **READ)
    with pytest.warns(TableNote) as said:
        table = read_table(frame, "g", "y", on_missing="drop", **READ)
    text = " ".join(str(one.message) for one in said)
    assert "4 of 6 rows left out" in text
    assert "'colour' in 2 rows" in text
    assert "1 of 3 tasks lost with these rows: 'c'" in text
    assert table.rows.tolist() == [0, 2]
    with pytest.warns(TableNote):
        table = read_table(frame, "g", "y", on_missing="mean", **READ)
    assert "means put for missing values: 'x' in 1 row, 'colour' in 1 row" in table.notes
    assert table.rows.tolist() == [0, 1, 2, 4]
    assert table.x[1, 0] == 3.0
    # "green" stands in no row that was kept: it is new where it comes.
    with pytest.raises(InputError, match="'green'"):
        table.encoding.apply(FRAME)


@pytest.mark.filterwarnings("ignore::undertow.tasks.reading.TableNote")
def test_a_column_that_is_hardly_there_goes_and_its_rows_stay():
    frame = FRAME.assign(note=[1.0, *[None] * 5])
    with pytest.raises(InputError, match="'note' is missing"):
        read_table(frame, "g", "y", **READ)
    for policy in ("drop", "mean"):
        table = read_table(frame, "g", "y", on_missing=policy, **READ)
        assert table.n_rows == 6
        assert "note" not in table.feature_names
        assert "features left out, missing in most rows: 'note' in 5 rows" in table.notes
    assert read_table(frame, "g", "y", ["x"]).n_rows == 6
    empty = frame.assign(note=None)
    assert read_table(empty, "g", "y", **READ).n_features == 6


def test_many_levels_are_named_as_a_grouping():
    frame = pd.DataFrame({"g": np.arange(200) // 10, "who": [f"p{i % 90}" for i in range(200)], "y": np.arange(200.0)})
    with pytest.raises(InputError, match=r"90 levels.*column of random_intercept"):
        read_table(frame, "g", "y", categories="onehot")


def test_ids_of_several_columns_are_one():
    frame = pd.DataFrame(
        {
            "school": ["n", "n", "s", "s", "n, klass 1", "n"],
            "klass": [1, 2, 1, 1, 2, 1],
            "x": np.arange(6.0),
            "y": np.arange(6.0),
        }
    )
    table = read_table(frame, ["school", "klass"], "y")
    named = ["school n, klass 1", "school n, klass 2", "school n\\, klass 1, klass 2", "school s, klass 1"]
    assert table.ids.tolist() == named
    assert table.counts.tolist() == [2, 1, 1, 2]
    assert read_table(frame, "school, klass", "y").ids.tolist() == table.ids.tolist()
    odd = frame.rename(columns={"school": "a,b"})
    assert read_table(odd, "a,b", "y", ["x"]).n_tasks == 3
    assert read_table(odd, "a,b,klass", "y").n_tasks == 4
    with pytest.raises(InputError, match="more than once"):
        read_table(frame, ["school", "school"], "y")
    with pytest.raises(InputError, match="'class': the frame has no such column"):
        read_table(frame, "school,class", "y")


@pytest.mark.parametrize("options", [{"on_missing": "skip"}, {"categorical": "code"}, {"categorical": ["y"]}])
def test_options_that_are_none(options):
    with pytest.raises(InputError):
        read_table(FRAME, "g", "y", **(READ | options))
    with pytest.raises(TypeError):
        read_table(FRAME, "g", "y", seperator=";")


def test_new_levels_that_are_spelled_almost_as_known_ones_are_named():
    encoding = read_table(pd.DataFrame({"g": [0, 0, 1], "y": [1.0, 2, 3], "k": ["town", "city", "city"]}), "g", "y",
                          categories="onehot").encoding  # fmt: skip
    new = pd.DataFrame({"k": ["city", "Town ", "sea"]})
    with pytest.raises(InputError, match=r"Spelled almost alike: 'Town ' and 'town'\."):
        encoding.apply(new)
    _, complete, notes, _ = encoding.apply(new, on_unseen="skip")
    assert complete.tolist() == [True, False, False]
    assert "(rows 1, 2; counted from 0)" in notes[0]
    assert "'Town ' and 'town'" in notes[0]


def test_text_of_one_level_is_a_constant_and_spelled_numbers_are_no_levels():
    rows = {"g": [0, 0, 1, 1], "y": [1.0, 2, 3, 5], "land": ["DE"] * 4, "pay": ["1,200", "900", "?", "1,000"]}
    with pytest.warns(TableNote):
        table = read_table(pd.DataFrame(rows), "g", "y", on_missing="mean")
    assert any("'land=DE' is 1" in note for note in table.notes)
    assert table.feature_names == ("pay",)
    np.testing.assert_allclose(np.sort(table.x[:, 0]), [900, 1000, 3100 / 3, 1200])
    with pytest.warns(TableNote):
        coded = read_table(pd.DataFrame(rows), "g", "y", on_missing="mean", categories="onehot")
    assert coded.feature_names == ("pay",)
    with pytest.raises(InputError, match="feature 'land' holds text"):
        read_table(pd.DataFrame(rows), "g", "y", on_missing="mean", on_constant="raise")


def test_targets_of_labels_that_are_spelled_in_two_ways_are_named():
    rows = pd.DataFrame({"g": [0, 0, 1], "x": [1.0, 2, 4], "y": ["no", "No", "yes"]})
    with pytest.raises(InputError, match="'No', 'no' differ by case or spaces only"):
        read_table(rows, "g", "y", target_kind="auto")


def test_a_table_of_features_has_their_names_and_whole_rows():
    frame = pd.DataFrame({"g": [*"aabb"], "x": [1.0, 2, 3, 4], "c": [*"uvuv"], "y": [1.0, 2, 3, 5]})
    encoding = read_table(frame, "g", "y", categories="onehot").encoding
    assert encoding is not None
    new = encoding.apply(pd.DataFrame({"c": [*"vvu"], "x": [5.0, None, 7]}), on_missing="drop").table
    assert new.to_pydict() == {"x": [5.0, 7.0], "c=v": [1.0, 0.0]}
