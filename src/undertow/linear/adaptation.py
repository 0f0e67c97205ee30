r"""Rules of adaptation as values: from omega and a task's support rows to the task's own weights theta.

``GradientRule`` takes k steps of a signed rate; ``ProximalRule`` solves ridge regression towards omega, with one
penalty or with one for each direction (a mixed model's prediction). Both are linear in omega.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from undertow._batch import TaskBatch
from undertow.linear.adapt import adapt
from undertow.linear.rules import ridge_adapt


@dataclass(frozen=True)
class GradientRule:
    """theta = omega - rate * gradient of half the mean squared support error, ``steps`` times."""

    rate: float
    """raw rate, of either sign"""
    steps: int = 1

    def adapt(self, weights: np.ndarray, tasks: TaskBatch) -> np.ndarray:
        """Return theta (m, d) from omega (d,)."""
        if self.rate == 0:
            return np.repeat(weights[None], tasks.n_tasks, axis=0)
        with warnings.catch_warnings():
            # A negative rate was warned of when the estimator was fitted.
            warnings.filterwarnings("ignore", message="adapt_rate=.* is negative", category=UserWarning)
            return adapt(weights, tasks, self.rate, self.steps)


@dataclass(frozen=True, eq=False)
class ProximalRule:
    """theta = argmin of half the squared support error + ratio/2 (theta - omega)^T C^-1 (theta - omega)."""

    ratio: float
    """noise over task variance, or the noise variance where there is a ``covariance``; infinity: no adaptation"""
    covariance: np.ndarray | None = None
    """C, (d,) or (d, d); None for the identity"""

    def adapt(self, weights: np.ndarray, tasks: TaskBatch) -> np.ndarray:
        """Return theta (m, d) from omega (d,)."""
        if math.isinf(self.ratio):
            return np.repeat(weights[None], tasks.n_tasks, axis=0)
        return ridge_adapt(weights, tasks, self.ratio, self.covariance)


Rule: TypeAlias = GradientRule | ProximalRule
