"""A negative variance of the intercept: compound symmetry against dense matrices, and through the estimator."""

from pathlib import Path

import numpy as np
import pytest
from mixed_tables import brute_likelihood

import undertow as ut
from undertow.choice import words
from undertow.mixed import MixedRule, TaskStatistics, fit_mixed
from undertow.tasks import GroupedTable

CASE = Path(__file__).parents[2].parent / "shared" / "cases" / "t24_zero_sum.csv"


def repelling(m=60, rows=(2, 6), variance=-0.12, seed=0, noise=3.0):
    """Rows whose noise has compound symmetry: variance 1 and covariance ``variance`` within a task, times noise^2."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), rng.integers(rows[0], rows[1] + 1, m))
    x = np.column_stack([rng.standard_normal(len(groups)), np.ones(len(groups))])
    z = rng.standard_normal(len(groups))
    for i in range(m):
        own = groups == i
        values, vectors = np.linalg.eigh(np.eye(own.sum()) + variance)
        z[own] = vectors @ (np.sqrt(values.clip(0)) * z[own])
    return GroupedTable.from_arrays(x, x @ [1.0, 2.0] + noise * z, groups)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_variance_is_that_of_a_dense_likelihood(method):
    table = repelling()
    fit = fit_mixed(table, "intercept", method=method, mean_scale=np.inf)

    at = np.array([fit.task_covariance[1], fit.noise_variance])

    def brute(z):
        return brute_likelihood(table, np.diag([0, z[0]]), z[1], method == "reml")[0]

    assert fit.converged
    assert fit.repels
    assert fit.log_likelihood == pytest.approx(brute(at), abs=1e-6)
    # The maximum: no neighbour is more likely.
    for away in 0.01 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 3], [-1, -3]]):
        assert brute(at + away) < fit.log_likelihood


def test_predictions_and_their_variance_are_those_of_dense_matrices():
    table = repelling()
    fit = fit_mixed(table, "intercept", mean_scale=np.inf)
    batch = table.draw(1, seed=3)
    theta, variance = fit.adapt(batch), fit.predict_variance(batch)
    v, c = fit.noise_variance, fit.task_covariance[1]
    for i in range(batch.n_tasks):
        x, y, z = batch.support_x[i], batch.support_y[i], batch.query_x[i, 0]
        n = len(x)
        inside = c * np.ones(n) @ np.linalg.inv(v * np.eye(n) + c)
        np.testing.assert_allclose(theta[i] - fit.mean, [0, inside @ (y - x @ fit.mean)], atol=1e-9)
        rest = z - inside @ x
        own = v + c - c * inside.sum() + rest @ fit.mean_covariance @ rest
        assert variance[i, 0] == pytest.approx(own, rel=1e-9)
    # Of as many known rows as the largest task has, no further one is predicted.
    full = next(i for i, n in enumerate(np.bincount(table.groups)) if n == 6)
    rows = table.groups == full
    whole = ut.TaskBatch(table.x[rows][None], table.y[rows][None], table.x[rows][None, :1], table.y[rows][None, :1])
    np.testing.assert_array_equal(fit.adapt(whole)[0], fit.mean)
    assert fit.predict_variance(whole)[0, 0] > v + c


def test_rows_that_sum_to_nothing_have_the_correlation_of_that():
    table = repelling(200, (6, 6), -1 / 6)
    fit = fit_mixed(table, "intercept")
    assert fit.converged
    # The sum of a task's rows keeps a hundredth of the variance: 2 over the number of tasks.
    assert fit.icc == pytest.approx(-1 / 5, rel=2e-2)
    # The noise is that of the five directions that vary, and not of all six.
    assert abs(fit.noise_variance / 9 - 1) / np.sqrt(2 / 1000) < 4
    with pytest.raises(ut.InputError, match="no weights of tasks are drawn"):
        fit.problem()


def test_a_table_of_independent_rows_seldom_has_a_negative_variance():
    fits = [fit_mixed(repelling(20, (4, 4), 0.0, seed), "intercept") for seed in range(100)]
    # By chance 1 of them; more than 6 come by chance in 1 of 10,000 such hundreds.
    assert sum(fit.repels for fit in fits) <= 6
    # A search that starts from a table whose rows repel each other finds the way back.
    far = fit_mixed(repelling(40, (4, 4), -0.24), "intercept")
    other = repelling(20, (4, 4), 0.3)
    found = [fit_mixed(other, "intercept", near=near).log_likelihood for near in (None, far)]
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize("noise", [0.1, 3.0, 30.0])
def test_the_maximum_does_not_depend_on_where_the_search_starts(noise):
    table = repelling(40, (2, 6), -1 / 6)
    scratch = fit_mixed(table, "intercept")
    near = fit_mixed(repelling(30, (6, 6), -1 / 6, 1, noise), "intercept")
    assert scratch.repels
    assert near.repels
    again = fit_mixed(table, "intercept", near=near)
    assert again.log_likelihood == pytest.approx(scratch.log_likelihood, abs=1e-4)
    np.testing.assert_allclose(again.task_covariance, scratch.task_covariance, rtol=1e-3)


def test_weights_of_two_are_rows_twice():
    table = repelling(60, (3, 3), -0.3)
    twice = np.repeat(np.arange(table.n_rows), 2)
    doubled = GroupedTable.from_arrays(table.x[twice], table.y[twice], table.groups[twice])
    weighted = fit_mixed(TaskStatistics.from_tasks(table, row_weights=np.full(table.n_rows, 2.0)), "intercept")
    plain = fit_mixed(doubled, "intercept")
    assert plain.repels
    assert weighted.most_rows == pytest.approx(6)
    np.testing.assert_allclose(weighted.task_covariance, plain.task_covariance, rtol=1e-6)


def test_the_estimator_predicts_saves_and_knows_its_tasks_with_it(tmp_path):
    table = repelling(80, (6, 6), -1 / 6)
    x, y, groups = table.x[:, :1], table.y, table.groups
    fitted = ut.MAMLRegressor(rule=MixedRule("intercept"), n_support=3).fit(x, y, groups=groups)
    summary = fitted.summary()
    assert summary.icc < -0.18
    assert "repel" in str(summary)
    few = fitted.adapt(x[:3], y[:3])
    level = (y[:3] - fitted.predict(x[:3])).mean()
    np.testing.assert_allclose(few.intercept_, fitted.intercept_ - level, atol=0.06 * abs(level))
    # Known tasks are as large as any: no further row of theirs is predicted from the others.
    np.testing.assert_allclose(fitted.predict(x, groups=groups), fitted.predict(x), rtol=1e-12)
    ut.estimators.save(fitted, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.adapt(x[:3], y[:3]).predict(x), few.predict(x))
    widths = [(high - low)[0] for _, low, high in (one.predict(x, interval=0.9) for one in (fitted, few, again))]
    # Three of six rows leave .8 of the variance.
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(0.8), rel=0.02)
    assert widths[2] == widths[0]


def test_the_search_finds_it_and_says_so():
    table = repelling(150, (6, 6), -1 / 6, seed=1)
    x, y, groups = table.x[:, :1], table.y, table.groups
    search = ut.MAMLRegressorCV(n_support=3, n_draws=2, n_rates=21, ridges=(1e-3,)).fit(x, y, groups=groups)
    choice = search.choice_
    assert choice.candidates["mixed_intercept"].settings["icc"] < -0.18
    used = choice.candidates["mixed_intercept"]
    assert abs(used.mse / choice.mse_at_zero - 0.8) < 4 * used.standard_error / choice.mse_at_zero
    assert choice.mse < 1.02 * used.mse
    assert "repel" in words.repelling(choice)
    _, low, high = search.predict(x, interval=0.8)
    assert 0.75 < ((low <= y) & (y <= high)).mean() < 0.85
    more = repelling(20, (6, 6), -1 / 6, seed=2)
    added = search.partial_fit(more.x[:, :1], more.y, groups=more.groups + 1000)
    assert np.isfinite(added.coef_).all()


@pytest.mark.skipif(not CASE.is_file(), reason="the table of zero sums is not here")
def test_the_case_of_zero_sums():
    import pyarrow.csv

    columns = pyarrow.csv.read_csv(CASE).to_pydict()
    x, y = np.array(columns["x"])[:, None], np.array(columns["y"])
    fit = fit_mixed(GroupedTable.from_arrays(np.c_[x, np.ones(len(x))], y, np.array(columns["g"])), "intercept")
    assert 3 * fit.icc / (1 + 2 * fit.icc) == pytest.approx(-1, abs=0.01)
