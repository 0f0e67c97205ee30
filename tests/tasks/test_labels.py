"""Labels of two tables: the same in another type, another label, or named as alike."""

import numpy as np
import pyarrow as pa
import pytest

import undertow as ut
from undertow.tasks import labels

DAYS = np.array(["2020-01-01", "2020-06-30"], dtype="datetime64[D]")
TIMES = np.array(["2020-01-01T06:30", "2020-06-30T12:00:05.5"], dtype="datetime64[us]")


@pytest.mark.parametrize(
    ("known", "new", "expected"),
    [
        ([1, 2, 3], ["3", "1", "01"], [2, 0, -1]),
        ([1, 2, 3], [3.0, 1.5, -0.0], [2, -1, -1]),
        ([0, 1], [-0.0, 1.0], [0, 1]),
        (["1", "2", "x"], [2, 5], [1, -1]),
        (["1", "2"], [2.0, 1.0], [1, 0]),
        (["1.0", "2.0"], [2, 3], [1, -1]),
        # Of two known spellings of one number the plain one is meant.
        (["1", "1.0", "2.0"], [1, 2], [0, 2]),
        (["1.00", "1.0", "2.0"], [1, 2], [-1, 2]),
        (["a", "b"], ["A", "b "], [-1, -1]),
        ([0.5, 2.0], ["0.5", "2"], [0, 1]),
        ([False, True], ["TRUE", "False"], [1, 0]),
        ([0, 1], [True, False], [1, 0]),
        (DAYS, ["2020-06-30", "2020-06-30 00:00:00", "2020-06-30 12:00:00"], [1, 1, -1]),
        (["2020-01-01"], DAYS.astype("datetime64[ns]"), [0, -1]),
        (DAYS, DAYS.astype("datetime64[ns]")[::-1], [1, 0]),
        (TIMES, TIMES.astype("datetime64[ns]")[::-1], [1, 0]),
        (TIMES.astype("datetime64[s]"), TIMES.astype("datetime64[ms]"), [0, -1]),
        (TIMES, ["2020-01-01 06:30", "2020-06-30T12:00:05.500", "2020-01-01 06:30:30"], [0, 1, -1]),
        (["2020-01-01 06:30:00"], TIMES, [0, -1]),
        ([1234567890123456789], [1234567890123456789.0], [-1]),
        ([2**64 - 1, 1], [1, 2], [1, -1]),
        ([], [1], [-1]),
    ],
)
def test_labels_of_two_types(known, new, expected):
    known, new = np.array(known), np.array(new)
    if not len(known):
        known = known.astype(np.int64)
    assert labels.places(known, new).tolist() == expected
    # The union knows as many labels as there are, and says where each stands.
    order = np.argsort(known)
    known = known[order]
    ids, codes = labels.union(known, new)
    assert len(ids) == len(known) + sum(i < 0 for i in expected)
    assert len(set(codes[: len(known)].tolist())) == len(known)
    rank = np.argsort(order)
    for code, place in zip(codes[len(known) :].tolist(), expected, strict=True):
        if place >= 0:
            assert code == codes[rank[place]]
        else:
            assert code not in codes[: len(known)]


def test_tasks_that_are_times_are_said_as_times():
    times = TIMES.repeat([1, 3])
    frame = pa.table({"g": times, "x": [1.0, 2, 4, 3], "y": [1.0, 2, 3, 5]})
    with pytest.raises(ut.InputError, match="task '2020-01-01 06:30' has 1"):
        ut.tasks.read_table(frame, "g", "y", min_rows=2)


def test_labels_that_are_alike_are_named():
    known = np.array(["Shop A", "b", "7"])
    found = labels.look_alikes(known, np.array(["shop  a", "B ", "07", "c"]))
    assert found == [("shop  a", "Shop A"), ("B ", "b"), ("07", "7")]
    big = np.array([1234567890123456789])
    assert labels.look_alikes(big, np.array([1.2345678901234568e18]))


def test_labels_that_are_likely_one_are_named_where_they_make_tasks_small():
    frame = {"g": ["a", "a ", "b", "b "] * 3, "x": list(range(12)), "y": list(range(12))}
    with pytest.raises(ut.InputError, match=r"no task has 5 rows.* 2 pairs of labels of 'g' differ by case or spaces"):
        ut.tasks.read_table(pa.table(frame), "g", "y", min_rows=5)
    with pytest.raises(ut.InputError, match=r"no task has 5 rows.*likely one task each"):
        ut.tasks.read_table(pa.table(frame), "g", "y", min_rows=5, on_small="drop")
