"""The summary: coefficients, errors and spreads against a mixed model of the raw rows, and what it prints."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made import table

import undertow as ut
from undertow.estimators.summary import AT_MEANS, Coefficient
from undertow.mixed import MixedRule, fit_mixed


@pytest.fixture(scope="module")
def rows():
    return table(m=30, p=3, seed=2)


def test_coefficients_and_spreads_are_those_of_the_raw_rows(rows):
    x, y, groups = rows
    rule = MixedRule("full", mean_scale=math.inf)
    found = ut.MAMLRegressor(rule=rule, clip=math.inf).fit(x, y, groups=groups).summary()
    # A full covariance does not care about the units of the columns, nor the restricted likelihood about a shift.
    raw = np.column_stack([x - x.mean(axis=0), np.ones(len(x))])
    fit = fit_mixed(ut.tasks.GroupedTable.from_arrays(raw, y, groups), "full", mean_scale=math.inf)
    ours = np.array([one[1:] for one in found.coefficients])
    np.testing.assert_allclose(ours[:, 0], fit.mean, rtol=1e-4)
    np.testing.assert_allclose(ours[:, 1], np.sqrt(fit.mean_covariance.diagonal()), rtol=1e-3)
    np.testing.assert_allclose(ours[:, 4], np.sqrt(fit.variances), rtol=1e-3)
    np.testing.assert_allclose(ours[:, 3] - ours[:, 2], 2 * 1.959964 * ours[:, 1], rtol=1e-6)
    assert found.noise_std == pytest.approx(fit.noise_std, rel=1e-3)
    assert found.icc == pytest.approx(fit.variances[3] / (fit.variances[3] + fit.noise_variance), rel=1e-3)
    assert found.coefficients[-1].name == AT_MEANS
    assert found.error is None


def test_error_is_that_of_the_choice_and_the_screen_is_short(rows):
    x, y, groups = rows
    model = ut.MAMLRegressorCV(4, cv=3, n_draws=1).fit(x, y, groups=groups)
    found = model.summary()
    unit = model.model_.standard.target_spread[0]
    assert found.error == pytest.approx(unit * math.sqrt(model.choice_.mse))
    assert found.error_low < found.error < found.error_high
    assert len(str(found).splitlines()) <= 24
    assert found.to_dict()["n_tasks"] == 30


def test_the_task_that_was_moved_is_the_oddest(rows):
    x, y, groups = rows
    moved = np.where(groups == 7, y + 200, y)
    found = ut.MAMLRegressor(rule=MixedRule("diagonal")).fit(x, moved, groups=groups).summary()
    assert found.oddest[0].task == 7
    assert found.oddest[0].distance > 3 * found.median_distance


def test_weights_of_tasks_predict_as_the_estimator_does(rows):
    x, y, groups = rows
    model = ut.MAMLRegressor(rule=MixedRule("diagonal"), clip=math.inf).fit(x, y, groups=groups)
    place = np.searchsorted(model.task_ids_, groups)
    by_hand = (x * model.task_coef_[place]).sum(axis=1) + model.task_intercept_[place]
    np.testing.assert_allclose(by_hand, model.predict(x, groups=groups), rtol=1e-8)
    with pytest.raises(AttributeError):
        _ = model.adapt(x[:3], y[:3]).task_coef_


def test_a_summary_without_a_mixed_model_has_coefficients_only(rows):
    x, y, groups = rows
    found = ut.MAMLRegressor().fit(x, y, groups=groups).summary()
    assert all(one.standard_error is None for one in found.coefficients)
    assert "std. error" in str(found)
    with pytest.raises(ut.InputError, match="2"):
        ut.MAMLRegressor().fit(x, np.stack([y, y], axis=1), groups=groups).summary()


def test_a_column_of_one_value_in_each_task_has_no_spread_between_tasks():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 6)
    x = np.column_stack([rng.normal(size=30)[g], rng.normal(size=180), (rng.random(30) < 0.5)[g]])
    y = x @ [1.0, 2.0, 3.0] + rng.normal(size=30)[g] + rng.normal(size=180)
    model = ut.MAMLRegressor(rule=ut.MixedRule("diagonal"), n_support=2).fit(x, y, groups=g)
    found = model.summary()
    assert [c.task_std is None for c in found.coefficients] == [True, False, True, False]
    assert all(c.low < c.value < c.high for c in found.coefficients)
    # Weights of rows, and single precision, change nothing of it.
    weighted = ut.MAMLRegressor(rule=ut.MixedRule("diagonal"), n_support=2)
    weighted.fit(x.astype(np.float32), y.astype(np.float32), groups=g, sample_weight=rng.integers(1, 4, 180))
    assert [c.task_std is None for c in weighted.summary().coefficients] == [True, False, True, False]
    x[0, 0] += 1.0
    varying = ut.MAMLRegressor(rule=ut.MixedRule("diagonal"), n_support=2).fit(x, y, groups=g).summary()
    assert varying.coefficients[0].task_std is not None


def test_large_numbers_are_written_in_full():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(12), 6), rng.normal(size=(72, 1))
    y = 1e5 * (x[:, 0] + rng.normal(size=12)[g] + rng.normal(size=72))
    assert "e+" not in str(ut.MAMLRegressor(rule=ut.MixedRule("diagonal"), n_support=2).fit(x, y, groups=g).summary())


@pytest.mark.parametrize(("value", "error"), [(123456789.25, 1.5), (41234.5678, 0.0012), (-2e7, 3e6), (0.40521, 0.008)])
def test_the_ends_of_an_interval_are_told_apart_however_far_from_0(value, error):
    ends = value - 2 * error, value + 2 * error
    said = Coefficient("level", value, error, *ends, 0.5).cells()[2]
    shown = [float(part.replace(",", "")) for part in said.split(" to ")]
    np.testing.assert_allclose(shown, ends, atol=0.4 * error)


def test_numbers_that_are_none_are_written_as_they_are():
    assert Coefficient("level", math.inf, 1.0, math.inf, math.inf, 1.0).cells()[0] == "inf"
    assert Coefficient("level", 2.0, math.nan, math.nan, math.nan, 1.0).cells() == ["2", "nan", "nan to nan", "1"]


def test_a_task_whose_kept_rows_are_zero_leaves_the_summary_finite():
    """As a forged file may have it."""
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(8), 6)
    x = rng.standard_normal((48, 2))
    model = ut.MAMLRegressor(rule=ut.MixedRule("diagonal"), n_support=2).fit(x, x.sum(axis=1), groups=groups)
    known = model.model_.task_rows
    rows = np.where((np.arange(len(known.rows)) < known.offsets[1])[:, None], 0, known.rows)
    model.model_ = replace(model.model_, task_rows=replace(known, rows=rows))
    with np.errstate(all="raise"):
        assert all(np.isfinite(one.value) for one in model.summary().coefficients)
