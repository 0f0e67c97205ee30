r"""What the data say about the train rate: an interval on the circle, the odds of its sign, gains, and a verdict.

The best rate is a stationary point of the expected loss on the circle, which has no ends. So a rate is left out of the
interval where the slope of the cross-validated loss differs from 0 by more than chance, or where its loss is clearly
above the least one; no shape of the curve is assumed, and a flat curve gives the whole circle. Standard errors are over
blocks of tasks.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from undertow.choice.influence import BlockLosses
from undertow.choice.record import Gain, RateCurve, RateInterval, Verdict
from undertow.tasks.losses import NEGLIGIBLE, t_quantile

# The variance over tasks ignores that fits share training tasks; factor 2 was set by benchmarks/calibration.py.
_GAIN_FACTOR = 2.0
# Level of the second rule of the interval: less than that of the first, which then has the interval's own level. The
# best of many rates looks better than it is, so this rule leaves rates out more often than its level says.
_CLEARLY = 0.01


def rate_interval(
    found: BlockLosses, angles: np.ndarray, scale: float, *, level: float = 0.95, n_boot: int = 500, seed: int = 0
) -> RateInterval:
    """Return the interval of the best rate.

    found: losses at rates whose ``angles`` (k,) are spaced evenly around the circle, in order, both ends counted
        once. scale: spectral unit. seed: of the bootstrap, which gives each block of tasks a random weight.
    """
    mean, n_blocks = found.mean, len(found.weight)
    best = int(mean.argmin())
    slope = found.take(np.roll(np.arange(len(angles)), -1)) - found.take(np.roll(np.arange(len(angles)), 1))
    bound = stdtrit(n_blocks - 1, 0.5 + level / 2) if n_blocks > 1 else np.inf
    kept = np.abs(slope.mean) <= bound * np.sqrt(slope.variance()[0])
    above = found - found.take(np.array([best]))
    clearly = stdtrit(n_blocks - 1, 1 - _CLEARLY) if n_blocks > 1 else np.inf
    kept &= above.mean <= clearly * np.sqrt(above.variance()[0])
    kept[best] = True
    arc = _arc(kept)
    low, high = float(angles[arc[0]]), float(angles[arc[-1]])
    whole = len(arc) == len(angles)
    # The true end lies between a rate that is kept and its neighbour that is not.
    half = np.pi / len(angles) / 2
    low, high = _turned(low - half), _turned(high + half)
    zero, end = int(np.abs(angles).argmin()), int(np.abs(np.abs(angles) - np.pi / 2).argmin())
    return RateInterval(
        low_spectral=-np.inf if whole else math.tan(low),
        high_spectral=np.inf if whole else math.tan(high),
        scale=scale,
        level=level,
        whole_circle=whole,
        contains_zero=zero in arc,
        contains_infinity=end in arc,
        sign_probability=_negative_share(found, angles, n_boot, seed),
    )


def _turned(angle: float) -> float:
    """The same point of the circle, in [-pi/2, pi/2)."""
    return (angle + np.pi / 2) % np.pi - np.pi / 2


def _arc(kept: np.ndarray) -> np.ndarray:
    """Positions of the smallest arc that holds all kept points, in order around the circle."""
    k, held = len(kept), np.flatnonzero(kept)
    if len(held) == k:
        return held
    gaps = np.diff(np.append(held, held[0] + k))
    widest = int(gaps.argmax())
    first, length = held[(widest + 1) % len(held)], k - gaps[widest] + 1
    return (first + np.arange(length)) % k


def _negative_share(found: BlockLosses, angles: np.ndarray, n_boot: int, seed: int) -> float:
    """Bootstrap over blocks: random weights with mean 1 move the curve along the influences."""
    n_blocks = len(found.weight)
    share = float(np.mean(found.variance()[1]))
    factor = math.sqrt(share * n_blocks / max(n_blocks - 1, 1))
    weights = np.random.default_rng(seed).standard_normal((n_boot, n_blocks))
    curves = found.mean + factor * weights @ found.of_block
    at = angles[curves.argmin(axis=1)]
    middle = (np.abs(at) < 1e-12) | (np.abs(at) > np.pi / 2 - 1e-12)
    return float(np.mean(np.where(middle, 0.5, at < 0)))


def gain(rival: np.ndarray, ours: np.ndarray, weights: np.ndarray, level: float = 0.95) -> Gain:
    """Return the gain over a rival from errors of the same tasks (m,), with an interval at ``level``.

    The standard error is that of the ratio of both errors by the jackknife, which leaves out one task at a time (Efron,
    The Jackknife, the Bootstrap and Other Resampling Plans, SIAM 1982): a task that is hard for both says little of it.
    """
    n, base = len(weights), float(weights @ rival)
    if base <= 0:
        return Gain(0.0, 0.0, 0.0, 0.0)
    left = float(weights @ ours) / base
    # How far the ratio is from that without the task. One task may have all of the rival's loss.
    moved = weights * (ours - left * rival) / base / np.maximum(1 - weights * rival / base, 1 / n)
    error = math.sqrt(_GAIN_FACTOR * (n - 1) / n * ((moved - moved.mean()) ** 2).sum())
    share, error = 100 * (1 - left), 100 * error
    bound = t_quantile(weights, level)
    half = bound * error if math.isfinite(bound) else bound  # one task shows no error, and nothing of others
    # No loss falls by more than all of it.
    return Gain(share, share - half, min(share + half, 100.0), error)


def verdict_of(interval: RateInterval, over_step: Gain) -> Verdict:
    """Return the verdict from the interval of the best rate and the signed rule's gain over no inner loop."""
    if over_step.high < NEGLIGIBLE:
        return Verdict.NEGLIGIBLE
    return Verdict(interval.sign) if interval.sign else Verdict.UNDETERMINED


def curve_of(found: BlockLosses, train_rates: np.ndarray, adapt_rates: np.ndarray) -> RateCurve:
    """Return the error over the train rate, and its standard error as a difference from that at rate 0."""
    zero = np.flatnonzero(train_rates == 0)[:1]
    variance = (found - found.take(zero)).variance()[0]
    # Influences are those of half the mean squared error.
    columns = train_rates, adapt_rates, 2 * found.mean, 2 * np.sqrt(variance)
    return RateCurve(*(tuple(column.tolist()) for column in columns))
