"""Where a measured curve is lowest, with an interval that takes the sharing of draws into account."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from undertow.trials.finding import mean_interval

BOOTSTRAP = 2000
"""Resamples of the runs behind an interval."""


@dataclass(frozen=True)
class Optimum:
    """The rate at which the mean loss is lowest.

    rate: the vertex of the parabola through the lowest point and its neighbours. low, high: a 95 % percentile interval
    from resampled runs. at_edge: True where the lowest point is an end of the sweep, so the optimum may lie beyond.
    gain: relative fall of the loss from rate 0 to the lowest point, in the same runs; gain_se its standard error
    (both None where 0 is not in the sweep or nothing is lost there). The lowest point was chosen on the data, so the
    gain leans to the high side.
    """

    rate: float
    low: float
    high: float
    at_edge: bool
    gain: float | None
    gain_se: float | None

    @property
    def ends(self) -> tuple[float, float, float]:
        """The rate and the two ends of its interval."""
        return self.rate, self.low, self.high

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)


def empirical_optimum(rates: np.ndarray, losses: np.ndarray, seed: int) -> Optimum:
    """The Optimum of a swept rate, (k,), from losses of shape (runs, k) whose rows share their draws."""
    runs, points = losses.shape
    mean = losses.mean(axis=0)
    counts = np.random.default_rng([seed, runs, points]).multinomial(runs, np.full(runs, 1 / runs), size=BOOTSTRAP)
    low, high = np.quantile(_vertices(rates, counts @ losses / runs), [0.025, 0.975])
    best = int(mean.argmin())
    gain = gain_se = None
    zero = int(np.flatnonzero(rates == 0.0)[0]) if 0.0 in rates else None
    if zero is not None and mean[zero] > 0:
        saved = losses[:, zero] - losses[:, best]
        gain = float(saved.mean() / mean[zero])
        gain_se = float(saved.std(ddof=1) / np.sqrt(runs) / mean[zero])
    vertex = float(_vertices(rates, mean[None])[0])
    return Optimum(vertex, float(low), float(high), best in (0, points - 1), gain, gain_se)


def just_below_zero(rates: np.ndarray, losses: np.ndarray) -> dict[str, float] | None:
    """The loss at the negative rate next to 0 against the loss at 0, as a share of the latter, with its 95 % interval.

    losses: (runs, k), whose rows share their draws. Returns rate, difference, low and high; None without such rates.
    """
    negative = np.flatnonzero(rates < 0)
    if 0.0 not in rates or not len(negative):
        return None
    below, zero = int(negative[-1]), losses[:, rates == 0.0][:, 0]
    difference, low, high = mean_interval((losses[:, below] - zero) / zero.mean())
    return {"rate": float(rates[below]), "difference": difference, "low": low, "high": high}


def _vertices(rates: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Lowest rate of each curve in (b, k): the vertex of the parabola through the lowest three points."""
    if len(rates) < 3:
        return rates[curves.argmin(axis=1)]
    best = curves.argmin(axis=1)
    middle = best.clip(1, len(rates) - 2)
    x0, x1, x2 = rates[middle - 1], rates[middle], rates[middle + 1]
    row = np.arange(len(curves))
    y0, y1, y2 = curves[row, middle - 1], curves[row, middle], curves[row, middle + 1]
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (x0 + x1) / 2 - left * (x2 - x0) / 2 / (right - left)
    # At an end of the sweep the curve may have no vertex inside: then the end itself is all one can say.
    return np.where(best == middle, vertex.clip(x0, x2), rates[best])
