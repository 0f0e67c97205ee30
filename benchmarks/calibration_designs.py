"""Simulated problems for calibration.py: old ones, ones with the best train rate at 0, fresh ones.

The rules of the interval were settled on the OLD designs and the two sharp ZERO ones. The noise of a ZERO design was
found by bisection (``zero_noise`` in calibration.py), so that the slope of the expected loss is 0 at rate 0. The FRESH
designs were written down before any of them was run, and no rule was chosen by their figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

import undertow as ut


class Table(NamedTuple):
    """One training table."""

    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Population:
    """Tasks of several kinds, each with an input scale and mean weights; weights w = mean + spread L z."""

    p: int
    noise: float
    spread: float
    """standard deviation of a task's weight"""
    scales: tuple[float, ...] = (1.0,)
    """input scale of each kind"""
    means: tuple[float, ...] = (0.0,)
    """mean weight of each kind, the same for all features"""
    variances: tuple[float, ...] = ()
    """input variances; empty for ones"""
    correlation: float = 0.0
    """of the weights of neighbouring features (autoregressive)"""
    freedom: float = np.inf
    """degrees of freedom of Student's t noise, scaled to variance noise^2"""

    def rows(self, counts: np.ndarray, rng: np.random.Generator, even: bool = False) -> Table:
        """Draw a table with ``counts`` (m,) rows of each task; ``even``: as many tasks of each kind."""
        m, groups = len(counts), np.repeat(np.arange(len(counts)), counts)
        kind = np.arange(m) % len(self.scales) if even else rng.integers(0, len(self.scales), m)
        steps = np.subtract.outer(np.arange(self.p), np.arange(self.p))
        factor = np.linalg.cholesky(self.correlation ** np.abs(steps)) if self.correlation else np.eye(self.p)
        weights = np.array(self.means)[kind, None] + self.spread * rng.standard_normal((m, self.p)) @ factor.T
        x = rng.standard_normal((len(groups), self.p)) * np.array(self.scales)[kind][groups, None]
        x *= np.sqrt(self.variances or np.ones(self.p))
        if np.isinf(self.freedom):
            error = rng.standard_normal(len(groups))
        else:
            error = rng.standard_t(self.freedom, len(groups)) * np.sqrt((self.freedom - 2) / self.freedom)
        return Table(x, (x * weights[groups]).sum(axis=1) + self.noise * error, groups)


@dataclass(frozen=True)
class Setting:
    """A design: the population, the size of a table, and how the estimator is run."""

    problem: Population
    n_tasks: int
    n_rows: tuple[int, int]
    """fewest and most rows of a task"""
    n_support: int
    ridge: float | None = 1e-6
    """None: the estimator as users run it, which searches ridges and standardises"""
    steps: int = 1
    tables: int = 300
    """most tables that are worth their time"""

    def draw(self, seed: int, n_tasks: int | None = None) -> Table:
        """Draw a table; the same seed gives the same one."""
        rng = np.random.default_rng([seed, 7])
        low, high = self.n_rows
        return self.problem.rows(rng.integers(low, high + 1, n_tasks or self.n_tasks), rng)

    def new_tasks(self, n: int, seed: int) -> ut.TaskBatch:
        """Draw n new tasks with ``n_support`` support rows and 10 query rows."""
        size = self.n_support + 10
        one = self.problem.rows(np.full(n, size), np.random.default_rng([seed, 8]), even=True)
        x, y, k = one.x.reshape(n, size, -1), one.y.reshape(n, size), self.n_support
        return ut.TaskBatch(x[:, :k], y[:, :k], x[:, k:], y[:, k:])


def uneven(p: int) -> tuple[float, ...]:
    """Input variances: half .2, half 1.8. Then the best rate need not be negative."""
    return (0.2,) * (p // 2) + (1.8,) * (p - p // 2)


def mixed(p: int, noise: float, task_std: float, even: bool = True) -> Population:
    """As ``undertow.MixedLinearRegression``: task_std^2 is the variance of all of a task's weights together."""
    return Population(p, noise, task_std / np.sqrt(p), variances=() if even else uneven(p))


def two_kinds(
    p: int, noise: float, spread: float, scales: tuple[float, float], means: tuple[float, float]
) -> Population:
    """Tasks of two kinds: the fits of all rates stay apart, however many tasks there are."""
    return Population(p, noise, spread, scales, means)


OLD = {
    "few tasks": Setting(mixed(10, 1.0, 0.5), 20, (12, 12), 4),
    "many tasks": Setting(mixed(10, 1.0, 0.5), 150, (12, 12), 4),
    "ten tasks": Setting(mixed(5, 1.0, 1.0), 10, (14, 14), 4, 1e-3),
    "tasks nearly alike": Setting(mixed(5, 0.3, 0.01), 40, (15, 15), 5),
    "wide, noisy": Setting(mixed(60, 1.0, 0.5), 16, (33, 33), 30, tables=150),
    "positive best": Setting(mixed(12, 0.3, 1.0, even=False), 80, (17, 17), 12),
    "best near 0": Setting(mixed(12, 0.95, 1.0, even=False), 60, (17, 17), 12),
    "two kinds": Setting(two_kinds(4, 0.5, 0.3, (0.5, 1.5), (-1.0, 1.0)), 200, (14, 14), 5),
    "two kinds, close": Setting(two_kinds(4, 0.5, 0.3, (0.8, 1.2), (-1.0, 1.0)), 200, (14, 14), 5),
    "flat": Setting(mixed(4, 0.5, 1.0), 300, (20, 20), 10),
}

ZERO = {
    "zero, few tasks": Setting(mixed(6, 1.126, 1.0, even=False), 16, (12, 12), 6),
    "zero, many tasks": Setting(mixed(12, 1.169, 1.0, even=False), 150, (17, 17), 12),
    "zero, sharp": Setting(two_kinds(4, 0.241, 0.1, (0.8, 1.2), (-1.0, 1.0)), 200, (14, 14), 5),
    "zero, sharp, fewer tasks": Setting(two_kinds(3, 0.538, 0.1, (0.9, 1.1), (-1.0, 1.0)), 60, (14, 14), 5),
    "zero, wide": Setting(mixed(40, 1.023, 1.0, even=False), 40, (30, 30), 20, 1e-3),
    "zero, all rates alike": Setting(mixed(5, 0.0, 0.0), 40, (12, 12), 4, tables=100),
}

FRESH = {
    "heavy tails": Setting(Population(3, 1.0, 0.3, freedom=3.0), 400, (8, 8), 4),
    "80 features": Setting(Population(80, 0.7, 0.08, variances=uneven(80)), 30, (30, 30), 10, 1e-2, tables=100),
    "correlated weights": Setting(Population(8, 0.6, 0.4, correlation=0.8), 50, (12, 12), 5),
    "ragged tasks": Setting(Population(6, 0.8, 0.3, variances=uneven(6)), 60, (6, 60), 5),
    "eight tasks": Setting(Population(3, 1.0, 0.5), 8, (30, 30), 10),
    "two steps": Setting(Population(5, 0.5, 0.4), 60, (14, 14), 6, steps=2),
    "three kinds, ridge": Setting(
        Population(5, 0.7, 0.2, (0.6, 1.0, 1.4), (-0.5, 0.0, 1.0), freedom=4.0), 100, (12, 20), 5, 0.1
    ),
    "small tasks": Setting(Population(5, 0.5, 0.5, variances=(3.0, 1.0, 1.0, 0.5, 0.5)), 300, (6, 6), 3),
    "default setting": Setting(Population(3, 0.7, 0.4, means=(0.5,), correlation=0.5), 40, (8, 20), 5, None),
    "default setting, two kinds": Setting(
        Population(4, 0.5, 0.2, (0.6, 1.4), (-0.5, 1.0), freedom=5.0), 120, (10, 16), 5, None
    ),
}

SETTINGS = OLD | ZERO | FRESH


def with_noise(setting: Setting, noise: float) -> Setting:
    """The same design with another noise."""
    return replace(setting, problem=replace(setting.problem, noise=noise))
