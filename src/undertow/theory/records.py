"""What the theory hands back: small records that every file of this package may import."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class MethodChoice(NamedTuple):
    """Which formula ``method="auto"`` uses, and how far off it may be.

    Parameters
    ----------
    method
        "exact", "drawn" or "equivalent".
    expected_relative_error
        size of the relative error of E|omega* - w_0|^2 to expect. Where means are drawn, three standard errors and
        the largest draw's share; for the equivalent a typical worst case of comparisons with exact values and with
        Monte Carlo, and not a bound.
    reason
        one sentence.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> ut.theory.method_for(problem, design, train_rate=-1.0).method
    'exact'
    """

    method: str
    expected_relative_error: float
    reason: str


class Coefficients(NamedTuple):
    """E|omega* - w_0|^2 = offset |omega_0 - w_0|^2 + task nu^2 + noise sigma^2, one entry per rate, each (k,)."""

    offset: np.ndarray
    task: np.ndarray
    noise: np.ndarray

    def distance(self, offset2: float, task2: float, noise2: float) -> np.ndarray:
        """Add the three parts up. A source of size zero adds zero, also where its coefficient is infinite."""
        total = np.zeros_like(self.noise)
        for coefficient, size in zip(self, (offset2, task2, noise2), strict=True):
            if size > 0:
                total = total + coefficient * size
        return total


class OptimalRate(float):
    """The train rate with the least expected distance; a float with the facts around it.

    Parameters
    ----------
    rate
        the rate itself.
    method
        the formula that was minimised ("exact", "drawn", "leading", "next_order" or "equivalent").
    distance
        E|omega* - w_0|^2 at the optimum. With a general input covariance, the quadratic form E(omega* - w_0)^T
        Sigma_x (omega* - w_0) instead.
    relative_gain
        1 - (value at the optimum) / (value at rate 0) of what was minimised.
    shallow
        whether the better of the two trivial choices, rate 0 and infinite rate, is within 2 % of the optimum.
    interval
        (low, high), the rates around the optimum whose value is within 1 % of the least. Rates live on a circle
        that closes at infinity: low > high means that the interval runs from low up through infinity to high, and
        (-inf, inf) that every rate is in it.
    message
        one plain sentence.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> best = ut.theory.optimal_train_rate(problem, design)
    >>> best < 0, [round(end, 1) for end in best.interval], best.shallow
    (True, [-1.5, -0.8], False)
    """

    method: str
    distance: float
    relative_gain: float
    shallow: bool
    interval: tuple[float, float]
    message: str

    def __new__(
        cls,
        rate: float,
        *,
        method: str,
        distance: float,
        relative_gain: float,
        shallow: bool,
        interval: tuple[float, float],
        message: str,
    ) -> OptimalRate:
        """Make a float and hang the facts on it."""
        self = super().__new__(cls, rate)
        self.method, self.distance, self.relative_gain = method, distance, relative_gain
        self.shallow, self.interval, self.message = shallow, interval, message
        return self

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"OptimalRate({float(self):.6g}, method={self.method!r}, distance={self.distance:.6g}, "
            f"relative_gain={self.relative_gain:.3g}, interval=({low:.4g}, {high:.4g}), shallow={self.shallow})"
        )

    def __reduce__(self) -> tuple:
        # A float with keyword arguments needs telling how to be copied and pickled.
        return _rebuild, (float(self), dict(self.__dict__))

    @property
    def is_infinite(self) -> bool:
        """Whether the optimum is the point at infinity, where plus and minus infinity are one."""
        return math.isinf(self)


def _rebuild(rate: float, facts: dict) -> OptimalRate:
    return OptimalRate(rate, **facts)
