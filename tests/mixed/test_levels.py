"""A second grouping against dense matrices: likelihood, its maximum, and the prediction of levels."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import undertow as ut
from undertow.mixed.levels import MOST_LEVELS, LevelRows, fit_levels


def rows(nested, m=12, n_levels=6, n=6, seed=0, spread=(0.8, 1.1)):
    rng = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(m), n)
    levels = tasks % n_levels if nested else rng.integers(0, n_levels, len(tasks))
    x = np.column_stack([rng.standard_normal(len(tasks)), np.ones(len(tasks))])
    b, u = spread[0] * rng.standard_normal(m), spread[1] * rng.standard_normal(n_levels)
    y = x @ [1.0, 2.0] + b[tasks] + u[levels] + 0.7 * rng.standard_normal(len(tasks))
    return LevelRows(x, y, tasks, levels, n_levels)


def dense(r, task, level):
    """Covariance of the rows over the noise."""
    same, alike = r.tasks[:, None] == r.tasks, r.levels[:, None] == r.levels
    return np.eye(len(r.y)) + task * same + level * alike


def likelihood(r, task, level, noise):
    v = noise * dense(r, task, level)
    inner = r.x.T @ np.linalg.solve(v, r.x)
    mean = np.linalg.solve(inner, r.x.T @ np.linalg.solve(v, r.y))
    value = multivariate_normal(np.zeros(len(v)), v).logpdf(r.y - r.x @ mean)
    return value - 0.5 * np.linalg.slogdet(inner)[1] + 0.5 * len(mean) * np.log(2 * np.pi), mean


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "crossed"])
def test_likelihood_and_levels_are_those_of_dense_matrices(nested):
    r = rows(nested)
    fit = fit_levels(r)
    task, level, noise = fit.ratios
    value, mean = likelihood(r, task, level, noise)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-6)
    away = np.linalg.solve(dense(r, task, level), r.y - r.x @ mean)
    np.testing.assert_allclose(fit.effects, level * np.bincount(r.levels, away), atol=1e-9)
    for factors in 1 + 0.02 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]):
        assert likelihood(r, *(factors * fit.ratios))[0] < fit.log_likelihood


def test_weights_are_copies_and_a_level_without_rows_adds_nothing():
    r = rows(False)
    twice = np.tile(np.arange(len(r.y)), 2)
    copied = fit_levels(r.select(twice))
    weighted = fit_levels(LevelRows(r.x, r.y, r.tasks, r.levels, r.n_levels + 1, np.full(len(r.y), 2.0)))
    np.testing.assert_allclose(weighted.effects[:-1], copied.effects, atol=1e-6)
    assert weighted.effects[-1] == 0


def test_levels_that_do_not_differ_have_no_variance_somewhere():
    fits = [fit_levels(rows(False, spread=(0.8, 0.0), seed=seed)) for seed in range(8)]
    none = next(fit for fit in fits if fit.level_variance == 0)
    np.testing.assert_array_equal(none.effects, 0)


def test_too_many_levels_are_refused_with_a_way_out():
    r = rows(False)
    with pytest.raises(ut.InputError, match=r"at most.*task"):
        fit_levels(LevelRows(r.x, r.y, r.tasks, r.levels, MOST_LEVELS + 1))
