r"""A second grouping: one more random intercept, with a level for each value of a column that is not the task.

.. math:: y = X \beta + Z b + W u + e, \quad b \sim N(0, \rho_b \sigma^2 I), \quad u \sim N(0, \rho_u \sigma^2 I),
          \quad e \sim N(0, \sigma^2 I) ,

Z says which task a row is of, W which level. Levels may be crossed with tasks (raters and products) or hold whole
tasks (schools and classes). With :math:`M = (I + \rho_b Z Z^T)^{-1}`, which needs sums over tasks alone, and the Gram
matrix of [X, W, y] in M, the columns X are eliminated; what is left, S and s of W and the square q of y, gives

.. math:: -2 \ell = (R - p) \log \sigma^2 + \log |M^{-1}| + \log |X^T M X| + \log |I + \rho_u S|
          + \frac{1}{\sigma^2} \left[ q - s^T (S + I / \rho_u)^{-1} s \right] ,

the restricted likelihood, with sigma^2 in closed form and all :math:`\rho_u` from one eigendecomposition. The
prediction of the levels is :math:`\hat u = (S + I / \rho_u)^{-1} s` (BLUP; Henderson, Biometrics 31, 1975).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from undertow._check import InputError, Setting
from undertow.mixed.lapack import eigh

MOST_LEVELS = 2000
"""An eigendecomposition of this size takes seconds, and a fit some twenty of them."""

# Ratios of a variance to that of the noise, in logarithms: beyond them nothing changes, and below is none.
_LOW, _HIGH = math.log(1e-5), math.log(1e5)
_GRID = 12


class Ratios(NamedTuple):
    """Variances over that of the noise."""

    task: float
    level: float
    noise: float
    """sigma^2 itself"""


@dataclass(frozen=True, eq=False)
class LevelRows:
    """Rows of one target. Letters: R rows, p features (the intercept among them), m tasks, L levels."""

    x: Float[np.ndarray, "R p"]
    y: Float[np.ndarray, " R"]
    tasks: Int[np.ndarray, " R"]
    """number of each row's task"""
    levels: Int[np.ndarray, " R"]
    """number of each row's level"""
    n_levels: int
    weights: Float[np.ndarray, " R"] | None = None

    def select(self, kept: np.ndarray) -> LevelRows:
        """Return some of the rows (R,), with all levels."""
        weights = None if self.weights is None else self.weights[kept]
        return LevelRows(self.x[kept], self.y[kept], self.tasks[kept], self.levels[kept], self.n_levels, weights)

    @cached_property
    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, scipy.sparse.csr_array, np.ndarray]:
        """Of rows z = [x, y]: Z^T Z, W^T Z, sums by task, rows by task and level, and rows of each task."""
        z = np.column_stack([self.x, self.y]).astype(np.float64)
        w = np.ones(len(z)) if self.weights is None else self.weights.astype(np.float64)
        rows, of_task = np.arange(len(z)), np.unique(self.tasks, return_inverse=True)[1]
        m = int(of_task.max()) + 1
        to_level = scipy.sparse.csr_array((w, (self.levels, rows)), shape=(self.n_levels, len(z)))
        to_task = scipy.sparse.csr_array((w, (of_task, rows)), shape=(m, len(z)))
        both = scipy.sparse.coo_array((w, (of_task, self.levels)), shape=(m, self.n_levels)).tocsr()
        return (z * w[:, None]).T @ z, to_level @ z, to_task @ z, both, np.bincount(of_task, w)

    def at(self, task_ratio: float) -> At:
        """Return what is left of the levels at one ratio of the tasks."""
        zz, wz, sums, both, counts = self._sums
        share = task_ratio / (1 + counts * task_ratio)
        zz = zz - (sums * share[:, None]).T @ sums
        weighted = both.multiply(share[:, None]).tocsr()
        wz = wz - weighted.T @ sums
        ww = np.diag(both.sum(axis=0)) - (both.T @ weighted).toarray()
        values, vectors = eigh(zz[:-1, :-1])
        kept = values > 1e-11 * max(values[-1], 0.0)
        root = vectors[:, kept] / np.sqrt(values[kept])
        cross, right = wz[:, :-1] @ root, root.T @ zz[:-1, -1]
        n = float(len(self.y) if self.weights is None else self.weights.sum())
        return At(
            ww - cross @ cross.T,
            wz[:, -1] - cross @ right,
            float(zz[-1, -1] - right @ right),
            n - int(kept.sum()),
            float(np.log1p(counts * task_ratio).sum() + np.log(values[kept]).sum()),
            cross @ root.T,
        )


@dataclass(frozen=True, eq=False)
class At:
    """S (L, L), s (L,) and q of the head of this file, R - p, and the logarithms that know no level.

    of_mean: (L, p) by how much the mean's estimate falls when a level rises by one.
    """

    s: np.ndarray
    right: np.ndarray
    square: float
    freedom: float
    logs: float
    of_mean: np.ndarray

    @cached_property
    def _turned(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigh(self.s)
        return values.clip(0), (self.right @ vectors) ** 2

    def noise(self, level_ratio: float) -> float:
        """Return the best sigma^2."""
        values, squares = self._turned
        rest = self.square - float((squares * level_ratio / (1 + level_ratio * values)).sum())
        return max(rest, 1e-12 * self.square, 1e-300) / self.freedom

    def fall(self, level_ratio: float) -> float:
        """Return -2 log-likelihood."""
        values, _ = self._turned
        log_noise = math.log(self.noise(level_ratio))
        own = self.freedom * (log_noise + 1 + math.log(2 * math.pi))
        return own + self.logs + float(np.log1p(level_ratio * values).sum())

    def best(self) -> tuple[float, float]:
        """Return the least -2 log-likelihood, and its level ratio."""
        return _least(self.fall)

    def effects(self, level_ratio: float) -> np.ndarray:
        """Return the prediction of each level (L,), 0 for one without rows."""
        if level_ratio == 0:
            return np.zeros(len(self.right))
        return np.linalg.solve(self.s + np.eye(len(self.s)) / level_ratio, self.right)

    def mean_covariance(self, level_ratio: float) -> np.ndarray:
        """Return what levels, known by their prediction alone, add to the covariance of the mean's estimate (p, p)."""
        if level_ratio == 0:
            return np.zeros((self.of_mean.shape[1],) * 2)
        open_ = np.linalg.solve(self.s + np.eye(len(self.s)) / level_ratio, self.of_mean)
        return self.noise(level_ratio) * self.of_mean.T @ open_


def _least(fall: Callable[[float], float]) -> tuple[float, float]:
    """Return the least value of a function of a ratio >= 0, and the ratio."""
    grid = np.linspace(_LOW, _HIGH, _GRID)
    values = [fall(math.exp(log)) for log in grid]
    place = int(np.argmin(values))
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, _GRID - 1)]
    found: Any = minimize_scalar(
        lambda log: fall(math.exp(log)), bounds=(low, high), method="bounded", options={"xatol": 1e-7}
    )
    best = (float(found.fun), math.exp(float(found.x)))
    return min(best, (fall(0.0), 0.0))


class LevelFit(NamedTuple):
    """The maximum of the restricted likelihood."""

    ratios: Ratios
    log_likelihood: float
    effects: Float[np.ndarray, " L"]
    """BLUP of each level"""
    mean_covariance: Float[np.ndarray, "p p"]
    """what the levels add to the covariance of the mean's estimate"""

    @property
    def level_variance(self) -> float:
        """Variance of the levels."""
        return self.ratios.level * self.ratios.noise


def fit_levels(rows: LevelRows) -> LevelFit:
    """Estimate both variances and predict the levels. Raises InputError for too many levels."""
    if rows.n_levels > MOST_LEVELS:
        raise InputError(
            "levels",
            f"{rows.n_levels} levels",
            f"a random intercept is fitted for at most {MOST_LEVELS}.",
            ("Make it the column of ", Setting("task"), ", which may have any number, or merge rare levels."),
        )
    fall, task = _least(lambda ratio: rows.at(ratio).best()[0])
    at = rows.at(task)
    _, level = at.best()
    return LevelFit(Ratios(task, level, at.noise(level)), -0.5 * fall, at.effects(level), at.mean_covariance(level))
