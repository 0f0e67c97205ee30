"""What a target is: numbers, two values, or counts."""

import numpy as np
import pandas as pd
import pytest
from cases import case

import undertow as ut
from undertow.tasks import read_table


def read(values, kind="auto"):
    n = len(values)
    frame = pd.DataFrame({"g": np.arange(n) // 2, "x": np.arange(n) * 1.5, "y": values})
    return read_table(frame, "g", "y", ["x"], target_kind=kind)


@pytest.mark.parametrize(
    ("values", "kind", "classes", "numbers"),
    [
        (["no", "Yes", "Yes", "no"], "two-valued", ("no", "Yes"), [0, 1, 1, 0]),
        (["b", "a", "a", "b"], "two-valued", ("a", "b"), [1, 0, 0, 1]),
        ([True, False, True, True], "two-valued", ("False", "True"), [1, 0, 1, 1]),
        ([0, 1, 1, 0], "two-valued", ("0", "1"), [0, 1, 1, 0]),
        ([2.0, 1.0, 1.0, 2.0], "two-valued", ("1", "2"), [1, 0, 0, 1]),
        ([0, 3, 7, 0], "count", (), [0, 3, 7, 0]),
        ([0, 3, -7, 0], "number", (), [0, 3, -7, 0]),
        ([0, 3, 0.5, 0], "number", (), [0, 3, 0.5, 0]),
    ],
)
def test_kinds_are_recognised(values, kind, classes, numbers):
    table = read(values)
    assert (table.target_kind, table.classes) == (kind, classes)
    np.testing.assert_array_equal(table.y, numbers)


def test_numbers_stay_numbers_unless_another_kind_is_asked_for():
    assert read([2, 1, 1, 2], "number").y.tolist() == [2, 1, 1, 2]
    assert read_table(pd.DataFrame({"g": [0, 1], "x": [1, 2], "y": [3, 5]}), "g", "y").target_kind == "number"
    with pytest.raises(ut.InputError, match="target_kind='two-valued'"):
        read(["no", "yes", "yes", "no"], "number")


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([1, 2, 3, 4], "two-valued", "has not two values"),
        (["a", "b", "c", "a"], "auto", "holds text"),
        ([1, -2, 3, 4], "count", "whole numbers from 0 on"),
        ([1, 2.5, 3, 4], "count", "whole numbers from 0 on"),
        ([1, 2, 3, 4], "counts", "choose one of"),
    ],
)
def test_another_kind_than_the_values_are_is_refused(values, kind, said):
    with pytest.raises(ut.InputError, match=said):
        read(values, kind)


def test_no_prediction_and_no_interval_of_counts_is_below_0(tmp_path):
    table = read_table(case("counts.csv"), "shop", "sold", target_kind="auto")
    assert table.target_kind == "count"
    bounded = ut.MAMLRegressor(rule=ut.MixedRule(), floor=0.0).fit(table.x, table.y, groups=table.groups)
    free = ut.MAMLRegressor(rule=ut.MixedRule()).fit(table.x, table.y, groups=table.groups)
    plain = free.predict(table.x, table.groups)
    assert plain.min() < 0
    ut.estimators.save(bounded, tmp_path / "m.safetensors")
    for model in (bounded, ut.estimators.load(tmp_path / "m.safetensors")):
        found = model.predict(table.x, table.groups, interval=0.9)
        np.testing.assert_array_equal(found[0], np.maximum(plain, 0))
        assert min(part.min() for part in found) == 0
    with pytest.raises(ut.InputError, match="y goes down to 0"):
        ut.MAMLRegressor(floor=1.0).fit(table.x, table.y, groups=table.groups)
    with pytest.raises(ut.InputError, match="a class has no least value"):
        ut.MAMLClassifier(floor=0.0).fit(table.x, table.y > 1, groups=table.groups)
