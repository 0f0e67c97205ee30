"""Tables whose tasks follow the mixed model, and the model written out as dense matrices."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable

ROOT = np.array([[0.7, 0.0, 0.0], [0.3, 0.4, 0.0], [-0.2, 0.1, 0.5]])
MEAN = np.array([1.0, -0.5, 2.0])


def draw(m=40, rows=(1, 12), noise=0.8, root=ROOT, mean=MEAN, seed=0, intercept=True):
    """A ragged table whose tasks follow the model; the last feature is constant."""
    rng = np.random.default_rng(seed)
    counts = np.full(m, rows) if np.isscalar(rows) else rng.integers(rows[0], rows[1] + 1, m)
    groups = np.repeat(np.arange(m), counts)
    x = rng.standard_normal((len(groups), len(mean)))
    if intercept:
        x[:, -1] = 1.0
    weights = mean + rng.standard_normal((m, root.shape[1])) @ root.T
    y = (x * weights[groups]).sum(1) + noise * rng.standard_normal(len(groups))
    return GroupedTable.from_arrays(x, y, groups)


def dense(table, covariance, noise):
    """V of all rows, written out."""
    same = table.groups[:, None] == table.groups[None, :]
    return np.where(same, table.x @ covariance @ table.x.T, 0.0) + noise * np.eye(table.n_rows)


def brute_likelihood(table, covariance, noise, restricted, precision=None):
    v = dense(table, covariance, noise)
    x, y = table.x, table.y
    if precision is not None:
        # A normal prior on some weights of the mean is integrated out; the flat ones stay fixed effects.
        free = precision == 0
        v = v + (x[:, ~free] / precision[~free]) @ x[:, ~free].T
        x = x[:, free]
    inverse = np.linalg.inv(v)
    gls = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ y)
    value = multivariate_normal(np.zeros(len(y)), v, allow_singular=False).logpdf(y - x @ gls)
    if restricted:
        value -= 0.5 * np.linalg.slogdet(x.T @ inverse @ x)[1] - 0.5 * x.shape[1] * np.log(2 * np.pi)
    return value, gls


def unscaled(table):
    """Statistics in the data's own units, so that values compare without a change of units."""
    stats = TaskStatistics.from_tasks(table)
    factors = np.append(stats.unit, stats.target_unit)
    for block in stats.blocks:
        block.rows[...] *= factors
        block.residual[...] *= stats.target_unit**2
    return stats


def same(a, b, atol=2e-4):
    np.testing.assert_allclose(a.mean, b.mean, atol=atol)
    np.testing.assert_allclose(a.task_covariance, b.task_covariance, atol=atol)
    assert a.noise_variance == pytest.approx(b.noise_variance, abs=atol)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=1e-5)
