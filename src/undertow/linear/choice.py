r"""What the data say about the training rate: an interval on the circle, the odds of its sign, gains, and a verdict.

The best rate is a stationary point of the expected loss on the circle, which has no ends. So a rate is left out of the
interval where the slope of the cross-validated loss differs from 0 by more than chance, or where its loss is clearly
above the least one; no shape of the curve is assumed, and a flat curve gives the whole circle. Standard errors are over
blocks of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from undertow.linear import circle
from undertow.linear.held_out import NEGLIGIBLE, mean_over_tasks
from undertow.linear.influence import Influences
from undertow.linear.prediction import Prediction
from undertow.linear.strategy_words import describe

VERDICTS = ("negative", "positive", "no evidence either way", "the inner loop is not worth it here")

# A gain's own-loss variance misses the same; twice it is what simulation asks for.
_GAIN_FACTOR = 2.0
# Level of the second rule of the interval: less than that of the first, which then has the interval's own level. The
# best of many rates looks better than it is, so this rule leaves rates out more often than its level says.
_CLEARLY = 0.01


class Gain(NamedTuple):
    """Loss of a rival minus loss of the choice, in per cent of the rival's; positive where the choice is better."""

    percent: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class RateInterval:
    """Where on the circle of rates the best training rate lies, in spectral units."""

    low: float
    """first rate of the interval, going up"""
    high: float
    """last one; below ``low`` where the interval runs through infinity"""
    level: float
    """nominal coverage"""
    whole_circle: bool
    """whether no rate can be ruled out"""
    contains_zero: bool
    contains_infinity: bool
    sign_probability: float
    """share of bootstrap curves whose least loss lies at a negative rate"""

    def __contains__(self, rate: object) -> bool:
        """Whether a spectral rate lies in the interval."""
        if not isinstance(rate, int | float | np.floating):
            return False
        if math.isinf(rate):
            return self.contains_infinity
        if self.whole_circle:
            return True
        if self.low <= self.high:
            return bool(self.low <= rate <= self.high)
        return bool(rate >= self.low or rate <= self.high)

    def __str__(self) -> str:
        if self.whole_circle:
            return "the whole circle"
        through = " through infinity" if self.low > self.high else ""
        return f"from {self.low:.3g} to {self.high:.3g}{through}"


@dataclass(frozen=True)
class Choice:
    """The choice of an estimator's search, with the figures behind it."""

    verdict: str
    """one of VERDICTS: about the sign of the gradient rule's training rate"""
    explanation: str
    """the verdict in a few sentences"""
    strategy: str
    """the strategy that the estimator uses: "blend", or the one with the least held-out loss"""
    settings: dict[str, float]
    """its rates, ratios, ridge, steps; rates raw. Of a blend: the share of each strategy in it, largest first"""
    train_rate: float
    """the gradient rule's best signed training rate, spectral; it may not be the strategy used"""
    adapt_rate: float
    """and its adaptation rate, spectral"""
    interval: RateInterval
    """of the best training rate of the gradient rule, at its ridge"""
    gains: dict[str, Gain]
    """signed gradient rule against "step" (no inner loop), "tied" (one positive rate), "joint" (no adaptation) and
    "pooled_ridge" (ridge towards pooled weights), where these were tried; on held-out tasks"""
    losses: dict[str, tuple[float, float]]
    """held-out loss of each strategy, in standardised units, and its standard error over tasks"""
    best_gains: dict[str, Gain]
    """strategy used against each of the others"""
    n_tasks: int
    """number of tasks that the losses were measured on"""
    n_support: int
    prediction: Prediction | None = None
    """what theory says the best rates are, from the estimated noise and task variance; None in older files"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (infinities as the words "inf" and "-inf")."""
        return plain(asdict(self) | {name: {k: list(v) for k, v in getattr(self, name).items()} for name in _MAPS})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Choice:
        """Return the record of ``to_dict``."""
        raw = unplain(values)
        return cls(
            **{k: v for k, v in raw.items() if k not in (*_MAPS, "interval", "prediction")},
            interval=RateInterval(**raw["interval"]),
            gains={k: Gain(*v) for k, v in raw["gains"].items()},
            best_gains={k: Gain(*v) for k, v in raw["best_gains"].items()},
            losses={k: (v[0], v[1]) for k, v in raw["losses"].items()},
            prediction=None if raw.get("prediction") is None else Prediction(**raw["prediction"]),
        )

    def __str__(self) -> str:
        return f"{self.verdict}: {self.explanation}"


_MAPS = ("gains", "losses", "best_gains")


def rate_interval(
    found: Influences, angles: np.ndarray, *, level: float = 0.95, n_boot: int = 500, seed: int = 0
) -> RateInterval:
    """Return the interval of the best rate.

    found: influences at rates whose ``angles`` (k,) are spaced evenly around the circle, in order, both ends counted
        once. seed: of the bootstrap, which gives each block of tasks a random weight.
    """
    mean, n_blocks = found.mean, len(found.weight)
    best = int(mean.argmin())
    slope = found.take(np.roll(np.arange(len(angles)), -1)) - found.take(np.roll(np.arange(len(angles)), 1))
    bound = stdtrit(n_blocks - 1, 0.5 + level / 2) if n_blocks > 1 else np.inf
    kept = np.abs(slope.mean) <= bound * np.sqrt(slope.variance()[0])
    above = found - found.take(np.full(len(angles), best))
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
        low=-np.inf if whole else math.tan(low),
        high=np.inf if whole else math.tan(high),
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


def _negative_share(found: Influences, angles: np.ndarray, n_boot: int, seed: int) -> float:
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
    """Return the gain over a rival from losses of the same tasks (m,), with an interval at ``level``."""
    base = float(weights @ rival / weights.sum())
    if base <= 0:
        return Gain(0.0, 0.0, 0.0, 0.0)
    mean, error = mean_over_tasks(rival - ours, weights)
    error *= math.sqrt(_GAIN_FACTOR)
    bound = float(stdtrit(max(len(weights) - 1, 1), 0.5 + level / 2))
    share, error = 100 * mean / base, 100 * error / base
    # No loss falls by more than all of it.
    return Gain(share, share - bound * error, min(share + bound * error, 100.0), error)


def decide(choice: Choice) -> Choice:
    """Return the choice with its verdict and explanation filled in."""
    step, interval = choice.gains["step"], choice.interval
    gains = f"held-out gain over no inner loop {percent(step.percent)}, interval {_ends(step)}"
    where = "any rate may be the best" if interval.whole_circle else f"best training rate {interval} in spectral units"
    if interval.contains_infinity or interval.contains_zero:
        signed = ""
    else:
        signed = "negative" if interval.high < 0 else "positive"
    if step.high < NEGLIGIBLE:
        verdict = VERDICTS[3]
        text = f"A signed training rate cannot gain as much as {NEGLIGIBLE:g} % here ({gains})."
    elif signed and step.low > 0:
        verdict, text = signed, f"The best training rate is {signed} ({where}; {gains})."
    elif signed:
        verdict = signed
        text = (
            f"The best training rate is {signed} ({where}), but what it gains over no inner loop cannot be told from "
            f"chance ({gains})."
        )
    else:
        verdict = VERDICTS[2]
        text = f"The tasks do not tell the sign of the best training rate ({where}; {gains})."
    if choice.strategy not in ("signed", "step", "tied", "joint"):
        text += f" {_used(choice)}"
    return replace(choice, verdict=verdict, explanation=text)


def _used(choice: Choice) -> str:
    """What is used in place of a gradient step, and what it is worth."""
    over = choice.best_gains["signed"]
    used = describe(choice.strategy)
    if choice.strategy == "blend":
        used += f" ({'; '.join(f'{100 * share:.0f} % {describe(name)}' for name, share in choice.settings.items())})"
    if over.low > 0:
        return (
            f"One gradient step is not the best way to adapt here: {used} has a loss lower by "
            f"{percent(over.percent).lstrip('+')} (interval {_ends(over)}), and is used."
        )
    return (
        f"Used is {used}; its held-out gain over the signed gradient step, {percent(over.percent)}, cannot be told "
        f"from chance (interval {_ends(over)})."
    )


def percent(value: float) -> str:
    """Return a percentage with its sign: two digits, or whole where it is 10 or more."""
    return f"{value:+.0f} %" if abs(value) >= 9.95 else f"{value:+.2g} %"


def _ends(one: Gain) -> str:
    return f"{percent(one.low).removesuffix(' %')} to {percent(one.high)}"


def uniform_angles(n_rates: int) -> np.ndarray:
    """Angles around the circle, evenly spaced, the point infinity once."""
    return circle.grid(n_rates)[:-1]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: an infinity or NaN as its name."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else repr(float(value))
    return value


def unplain(value: Any) -> Any:
    """Return the value that ``plain`` was given."""
    if isinstance(value, Mapping):
        return {k: unplain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [unplain(v) for v in value]
    return float(value) if isinstance(value, str) and value in ("inf", "-inf", "nan") else value
