r"""The mean of a mixed model as a solution of sums over tasks, its variances taken as known: further tasks only add.

.. math:: \mu = \Big( \sum_i X_i^T H_i^{-1} X_i + \Lambda \Big)^{-1} \sum_i X_i^T H_i^{-1} y_i ,
          \qquad H_i = X_i \Sigma_w X_i^T + \sigma^2 I ,

with the letters of ``likelihood``; generalised least squares (Aitken, Proceedings of the RSE 55, 1936).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from undertow.mixed.fit import MixedFit
from undertow.mixed.scoring import LEAST_SUM, root_of
from undertow.mixed.statistics import TaskStatistics


class MeanSums(NamedTuple):
    """What the mean of one target is solved from; p features, in the units of the data."""

    information: Float[np.ndarray, "p p1"]
    """(p, p + 1) sum over tasks of X^T H^{-1} [X, y]"""
    prior: Float[np.ndarray, " p"]
    """(p,) diagonal of Lambda, which more tasks leave as it is"""

    @property
    def mean(self) -> Float[np.ndarray, " p"]:
        """mu (p,); directions that no task tells anything about stay at 0."""
        matrix = self.information[:, :-1] + np.diag(self.prior)
        return np.linalg.pinv(matrix, hermitian=True) @ self.information[:, -1]


def mean_sums(fit: MixedFit, stats: TaskStatistics) -> MeanSums:
    """Return the sums behind a fit's mean. stats: of the tasks that it was fitted to."""
    prior = np.where(stats.constant, 0.0, (stats.unit / fit.mean_scale) ** 2)
    precision = np.linalg.pinv(fit.mean_covariance, hermitian=True)
    return MeanSums(np.column_stack([precision - np.diag(prior), precision @ fit.mean]), prior)


def information(stats: TaskStatistics, covariance: Any, noise_variance: float) -> Float[np.ndarray, "p p1"]:
    """Return the sum over tasks of X^T H^{-1} [X, y], (p, p + 1), in the units of the data.

    covariance: Sigma_w, (p,) or (p, p); a lone variance may be negative. noise_variance: sigma^2. stats: some or all
    tasks; units may differ from those of other tasks whose sums are added.
    """
    p = stats.n_features
    units = np.append(stats.unit, stats.target_unit)
    # In units of the statistics, where all numbers are about 1; the target's unit is that of the noise too.
    root = root_of(np.asarray(covariance, dtype=np.float64))
    root = root * (stats.unit if root.ndim == 1 else stats.unit[:, None]) / stats.target_unit
    noise, sign = noise_variance / stats.target_unit**2, -1.0 if (root < 0).any() and root.ndim == 1 else 1.0
    gram = np.zeros((p, p + 1))
    for block in stats.blocks:
        b, k, _ = block.rows.shape
        z = block.x * root if root.ndim == 1 else (block.x.reshape(b * k, p) @ root).reshape(b, k, -1)
        if sign < 0:
            # A task larger than any that the variance was estimated from may have none that is so far below 0.
            z = np.where(((z**2).sum(axis=(1, 2)) < (1 - LEAST_SUM / 2) * noise)[:, None, None], z, 0.0)
        h = sign * z @ z.transpose(0, 2, 1)
        h[:, np.arange(k), np.arange(k)] += noise
        solved = np.linalg.solve(h, block.rows * block.weights[:, None, None])
        gram += block.x.reshape(b * k, p).T @ solved.reshape(b * k, p + 1)
    return gram * np.outer(stats.unit, units) / stats.target_unit**2
