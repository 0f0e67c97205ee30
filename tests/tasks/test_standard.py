"""Standardised features against numbers worked out one column at a time."""

import statistics

import numpy as np
import pytest

from undertow import InputError
from undertow.tasks import GroupedTable
from undertow.tasks.standard import Standard


def table_of(x, y=None, groups=None):
    x = np.asarray(x, dtype=float)
    y = np.arange(len(x), dtype=float) if y is None else y
    return GroupedTable.from_arrays(x, y, np.zeros(len(x), int) if groups is None else groups)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, size=(60, 3)) * [1.0, 1e-3, 1e6]
    return table_of(x, rng.normal(size=60), rng.integers(0, 6, 60))


def test_numbers_are_those_of_the_statistics_module(table):
    z, standard = table.standardized(clip=None)
    for j in range(3):
        column = table.x[:, j].tolist()
        assert np.isclose(standard.centre[j], statistics.fmean(column), rtol=1e-13, atol=0)
        assert np.isclose(standard.spread[j], statistics.pstdev(column), rtol=1e-13, atol=0)
        expected = [(v - statistics.fmean(column)) / statistics.pstdev(column) for v in column]
        assert np.allclose(z.x[:, j], expected, rtol=0, atol=1e-12)
    assert np.array_equal(z.y, table.y)
    assert np.array_equal(z.rows, table.rows)


@pytest.mark.parametrize("unit", [1.0, 1e-170, 1e170])
def test_rare_indicators_are_scaled_down_and_nothing_else_is(unit):
    x = np.zeros((400, 3))
    x[:3, 0] = unit  # 11.5 standard deviations away
    x[:, 1] = np.arange(400)
    x[:4, 2] = [30.0, 60.0, 90.0, 90.0]  # as rare, but of several values
    z, standard = table_of(x).standardized()
    assert z.x[:, 0].max() == pytest.approx(4.0)
    # A straight line: what is predicted is as with any other unit of the column.
    np.testing.assert_allclose(z.x[:, 0], (x[:, 0] - x[:, 0].mean()) / standard.spread[0], rtol=1e-12)
    np.testing.assert_allclose(z.x[:, 1:].std(axis=0), 1, rtol=1e-12)
    assert z.x[:, 2].max() > 10
    even, _ = table_of(np.tile([[0.0], [1.0]], (20, 1))).standardized()
    assert np.abs(even.x).max() == pytest.approx(1.0)


def test_a_limit_cuts_off_and_counts():
    x = np.column_stack([np.arange(400.0), np.r_[1e3, np.arange(399.0) / 399]])
    z, standard = table_of(x).standardized(clip=4.0)
    assert standard.clipped(x).tolist() == [0, 1]
    assert z.x.max() == 4.0
    z2, _ = table_of(x).standardized(clip=1.0)
    assert np.abs(z2.x).max() == 1.0
    free, plain = table_of(x).standardized()
    assert plain.clipped(x).sum() == 0
    assert free.x.max() > 10


def test_values_beyond_the_fitted_range_by_more_than_its_width_are_far():
    x = np.column_stack([np.linspace(10, 20, 400), np.full(400, 3.0)])
    _, standard = table_of(x).standardized()
    assert (standard.low.tolist(), standard.high.tolist()) == ([10, 3], [20, 3])
    new = np.array([[15.0, 3.0], [0.5, 3.0], [29.0, 3.5], [-1.0, 3.0], [1020.0, 2.0]])
    assert standard.far(new).sum(axis=0).tolist() == [2, 2]
    assert standard.far(new).any(axis=1).tolist() == [False, False, True, True, True]


def test_constant_features_become_0_and_an_intercept_must_wait():
    x = np.column_stack([np.arange(5.0), np.full(5, 0.1), np.full(5, 1e6)])
    z, standard = table_of(x).standardized()
    assert (z.x[:, 1:] == 0).all()
    assert standard.spread[1:].tolist() == [1.0, 1.0]
    assert standard.clipped(x).sum() == 0
    with pytest.raises(InputError, match=r"Standardise first, then call with_intercept"):
        table_of(x).with_intercept().standardized()


def test_a_feature_that_varies_little_is_not_constant():
    z, _ = table_of([[1e9], [1e9 + 1], [1e9], [1e9 + 1]]).standardized()
    assert z.x[:, 0].tolist() == [-1.0, 1.0, -1.0, 1.0]


def test_a_feature_of_mean_0_and_deviation_1_is_clipped_too():
    x = np.zeros((128, 1))
    x[0], x[1] = 8.0, -8.0  # mean 0 and mean square 1, exactly
    z, standard = table_of(x).standardized(clip=4.0)
    assert (standard.centre[0], standard.spread[0]) == (0.0, 1.0)
    assert standard.clipped(x).tolist() == [2]
    assert np.abs(z.x).max() == 4.0


def test_equal_values_whose_mean_is_rounded_are_constant():
    """The mean of ten times 0.1 need not be 0.1."""
    x = np.full((10, 1), 0.1) * np.arange(1, 200) / 7
    assert (x.mean(0) != x[0]).any()
    z, standard = table_of(x).standardized()
    assert (standard.spread == 1).all()
    assert (z.x == 0).all()


def test_extreme_units_neither_overflow_nor_vanish():
    x = np.array([[1e300, 1e-300], [-1e300, -1e-300]] * 2)
    z, _ = table_of(x).standardized()
    assert np.allclose(np.abs(z.x), 1.0, rtol=1e-12, atol=0)


def test_test_tasks_are_measured_in_the_unit_of_training_tasks(table):
    train, test = table.select(slice(0, 4)), table.select(slice(4, None))
    own, standard = train.standardized()
    assert np.array_equal(train.standardized_as(standard).x, own.x)
    applied = test.standardized_as(standard)
    assert np.allclose(applied.x, np.clip((test.x - train.x.mean(0)) / train.x.std(0), -4, 4), rtol=0, atol=1e-12)
    assert list(applied.ids) == list(test.ids)


def test_it_can_be_undone(table):
    z, standard = table.standardized(clip=None, target=True)
    assert abs(z.y.mean()) < 1e-14
    assert np.isclose(z.y.std(), 1.0, rtol=1e-13, atol=0)
    assert np.allclose(standard.restore_targets(z.y[:, None])[:, 0], table.y, rtol=1e-13, atol=1e-14)
    coef, intercept = standard.restore_weights(np.array([[0.5, -1.0, 2.0]]))
    assert np.allclose(table.x @ coef[0] + intercept, standard.restore_targets((z.x @ [0.5, -1.0, 2.0])[:, None])[:, 0])
    batch = z.draw(1)
    raw = table.draw(1)
    assert np.allclose(standard.features(raw.support_x), batch.support_x, rtol=0, atol=1e-14)


def test_a_constant_target_becomes_0():
    z, standard = table_of([[1.0], [2.0]], [5.0, 5.0]).standardized(target=True)
    assert z.y.tolist() == [0.0, 0.0]
    assert standard.target_spread.tolist() == [1.0]


def test_other_features_are_refused(table):
    _, standard = table.standardized()
    with pytest.raises(InputError, match=r"intercept.*must be the same, in the same order.*features"):
        table.with_intercept().standardized_as(standard)


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan, -np.inf])
def test_clip_must_be_positive(table, clip):
    with pytest.raises(InputError) as error:
        table.standardized(clip)
    assert error.value.argument == "clip"
    assert error.value.value is clip


def test_no_limit_is_written_in_two_ways(table):
    assert np.array_equal(table.standardized(None)[0].x, table.standardized(np.inf)[0].x)


def test_numbers_whose_differences_leave_the_range_are_refused():
    x = np.column_stack([np.arange(6.0), [1e308, -1e308, 0, 0, 1, 2]])
    with pytest.raises(InputError, match="1e\\+308"):
        table_of(x).standardized()


def test_deviations_keep_their_digits_where_some_rows_say_little_of_the_others():
    # Evenly spread rows weigh next to nothing, and lie far away from those that count.
    rng = np.random.default_rng(0)
    y, w = 1e8 + rng.standard_normal((2048, 1)), np.ones(2048)
    y[np.linspace(0, 2047, 1024).astype(int)], w[np.linspace(0, 2047, 1024).astype(int)] = 0.0, 1e-6
    mean = np.average(y, weights=w, axis=0)
    deviation = np.sqrt(np.average((y - mean) ** 2, weights=w, axis=0))
    for order in (np.arange(2048), rng.permutation(2048)):
        x = np.empty_like(y)
        x[order] = y
        standard = Standard.fit(x, y, w, features=True, targets=True, intercept=True, clip=None, order=order)
        np.testing.assert_allclose(standard.centre, mean, rtol=1e-15)
        np.testing.assert_allclose(standard.spread, deviation, rtol=1e-12)
