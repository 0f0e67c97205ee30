"""Intervals: the variance behind them against the mixed model's own, and their coverage of tasks never seen."""

from dataclasses import replace

import numpy as np
import pytest
from made import table, task_rows

import undertow as ut
from undertow.choice.uncertainty import LEVELS, of_model
from undertow.linear.rules import GradientRule
from undertow.mixed import MixedRule, fit_mixed


@pytest.fixture(scope="module")
def normal():
    """A fit, its rows and the uncertainty that it claims."""
    rows = task_rows(*table(m=40, p=3, seed=1))
    data = ut.tasks.GroupedTable.from_arrays(rows.inputs(), rows.y[:, 0], rows.codes)
    # The mean's own error is left out: the mixed model does not correct its mean by a new task's rows.
    fit = replace(fit_mixed(data, "full"), mean_covariance=np.zeros((4, 4)))
    return fit, rows, of_model([fit], rows, 5)


def test_variance_given_rows_is_that_of_the_mixed_model(normal):
    fit, rows, uncertainty = normal
    x, z = rows.inputs(np.arange(6)), rows.inputs(np.arange(20, 32))
    batch = ut.TaskBatch(x[None], np.zeros((1, 6)), z[None], np.zeros((1, 12)))
    truth = np.sqrt(fit.predict_variance(batch)[0])
    level = float(LEVELS[67])
    factor = uncertainty.at_support[0, 67]
    at_once = replace(uncertainty.after(x), n_adapted=5).half_widths(z, level)[:, 0] / factor
    in_turn = replace(uncertainty.after(x[:2]).after(x[2:]), n_adapted=5).half_widths(z, level)[:, 0] / factor
    np.testing.assert_allclose(at_once, truth, rtol=1e-9)
    np.testing.assert_allclose(in_turn, truth, rtol=1e-9)


@pytest.mark.parametrize("rules", [("gradient", "proximal", "mixed"), ("gradient",)])
def test_intervals_cover_rows_of_new_tasks(rules):
    x, y, groups = table(m=420, p=2, seed=3)
    seen = groups < 120
    model = ut.MAMLRegressorCV(4, rules=rules, cv=3, n_draws=1).fit(x[seen], y[seen], groups=groups[seen])
    for n in (0, 4):
        covered, widths = [], []
        for task in range(120, 420):
            rows = np.flatnonzero(groups == task)
            own = model.adapt(x[rows[:n]], y[rows[:n]]) if n else model
            _, low, high = own.predict(x[rows[n:]], interval=0.8)
            covered.append(np.mean((low <= y[rows[n:]]) & (y[rows[n:]] <= high)))
            widths.append(np.mean(high - low))
        # Both the tasks behind the quantile and the tasks tested are a sample.
        error = np.std(covered) * np.sqrt(1 / 300 + 1 / 120)
        assert abs(np.mean(covered) - 0.8) < 4 * error
        if n == 0:
            at_zero = np.mean(widths)
    assert np.mean(widths) < at_zero


def test_known_tasks_have_narrower_intervals_than_new_ones():
    x, y, groups = table(m=60, p=2, seed=4)
    place = np.concatenate([np.arange(n) for n in np.bincount(groups)])[np.argsort(np.argsort(groups, kind="stable"))]
    kept = place >= 3
    model = ut.MAMLRegressor(n_support=3, rule=MixedRule("full")).fit(x[kept], y[kept], groups=groups[kept])
    x, y, groups = x[~kept], y[~kept], groups[~kept]
    _, low, high = model.predict(x, groups=groups, interval=0.9)
    _, wide_low, wide_high = model.predict(x, groups=groups + 1000, interval=0.9)
    assert (high - low < wide_high - wide_low).all()
    covered = [np.mean((low <= y)[groups == task] & (y <= high)[groups == task]) for task in range(60)]
    assert abs(np.mean(covered) - 0.9) < 4 * np.std(covered) / np.sqrt(60)


def test_several_targets_have_intervals_in_their_own_units():
    x, y, groups = table(m=30, p=2, seed=5)
    both = ut.MAMLRegressorCV(4, cv=3, n_draws=1).fit(x, np.stack([y, 10 * y + 3], axis=1), groups=groups)
    value, low, high = both.predict(x[:7], interval=0.5)
    assert value.shape == low.shape == high.shape == (7, 2)
    np.testing.assert_allclose(high[:, 1] - low[:, 1], 10 * (high - low)[:, 0], rtol=1e-4)


@pytest.mark.wrong_type
@pytest.mark.parametrize("interval", [0.0, 1.0, 0.999, -0.1, 90, "wide"])
def test_a_share_that_is_none_is_named(interval):
    x, y, groups = table(m=12, p=2)
    model = ut.MAMLRegressor(rule=MixedRule("isotropic")).fit(x, y, groups=groups)
    with pytest.raises(ut.InputError, match="interval="):
        model.predict(x, interval=interval)


def test_without_anything_known_of_errors_the_way_out_is_named():
    x, y, groups = table(m=12, p=2)
    with pytest.raises(ut.InputError, match="MixedRule"):
        ut.MAMLRegressor(rule=GradientRule(0.1)).fit(x, y, groups=groups).predict(x, interval=0.9)
    with pytest.raises(ut.InputError, match="regressors"):
        ut.MAMLClassifierCV(3, cv=3).fit(x, y > np.median(y), groups=groups).predict(x, interval=0.9)


def test_a_saved_model_keeps_its_intervals(tmp_path):
    x, y, groups = table(m=20, p=2)
    model = ut.MAMLRegressorCV(4, cv=3, n_draws=1).fit(x, y, groups=groups)
    ut.estimators.save(model, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    for ours, theirs in zip(
        model.predict(x, groups=groups, interval=0.9), again.predict(x, groups=groups, interval=0.9), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (m.adapt(x[:3], y[:3]).predict(x, interval=0.9)[1] for m in (model, again))
    np.testing.assert_array_equal(ours, theirs)
