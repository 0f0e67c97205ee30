"""The mean of a mixed model from sums over tasks, against generalised least squares task by task."""

from itertools import pairwise

import numpy as np
import pytest

from undertow.mixed.mean import MeanSums, information, mean_sums
from undertow.mixed.model import fit_mixed
from undertow.mixed.statistics import TaskStatistics


def rows_of_tasks(m=40, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, m)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    x = np.column_stack([rng.standard_normal((offsets[-1], 3)) * [1, 10, 0.1], np.ones(offsets[-1])])
    weights = 1 + rng.standard_normal((m, 4))
    y = (x * np.repeat(weights, counts, axis=0)).sum(axis=1) + rng.standard_normal(offsets[-1])
    return x, y, offsets


def one_by_one(x, y, offsets, covariance, noise):
    total = 0.0
    for start, stop in pairwise(offsets):
        own = x[start:stop]
        h = own @ (np.diag(covariance) if covariance.ndim == 1 else covariance) @ own.T + noise * np.eye(stop - start)
        total = total + own.T @ np.linalg.inv(h) @ np.column_stack([own, y[start:stop]])
    return total


@pytest.mark.parametrize("structure", ["none", "isotropic", "diagonal", "full"])
def test_sums_of_parts_give_the_mean_of_the_fit(structure):
    x, y, offsets = rows_of_tasks()
    stats = TaskStatistics.from_rows(x, y, offsets)
    fit = fit_mixed(stats, structure)
    known = fit.task_covariance, fit.noise_variance
    expected = one_by_one(x, y, offsets, *known)
    # Parts with units of their own.
    cut = 15
    first = TaskStatistics.from_rows(x[: offsets[cut]], y[: offsets[cut]], offsets[: cut + 1])
    second = TaskStatistics.from_rows(x[offsets[cut] :], y[offsets[cut] :], offsets[cut:] - offsets[cut])
    total = information(first, *known) + information(second, *known)
    scale = np.sqrt(np.outer(np.diag(expected), np.append(np.diag(expected), expected[:, -1] @ fit.mean)))
    np.testing.assert_allclose(total / scale, expected / scale, atol=1e-11)
    kept = mean_sums(fit, stats)
    np.testing.assert_allclose(kept.information / scale, expected / scale, atol=1e-9)
    np.testing.assert_allclose(kept.mean, fit.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(MeanSums(total, kept.prior).mean, fit.mean, rtol=1e-9, atol=1e-11)
