"""What an experiment found: the decisive statistic, its 95 % interval, and what follows from it by a stated rule.

A claim that a statistic lies on one side of a limit is "confirmed" where the whole interval does, "not confirmed" where
the whole interval lies on the other side, and "not decided" where the interval includes the limit or does not exist.
A claim of several parts is as good as its weakest part; for "confirmed" that needs no correction for their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import special

LEVEL = 0.95

Conclusion: TypeAlias = Literal["confirmed", "not confirmed", "not decided"]
ENOUGH_RUNS = 10
"""From fewer runs than these an interval by resampling is too narrow to decide anything."""

_WEAKEST_FIRST: tuple[Conclusion, ...] = ("not confirmed", "not decided", "confirmed")


@dataclass(frozen=True)
class Finding:
    """The decisive number of an experiment.

    statistic: what was estimated, in a few words. estimate, low, high: its value and the ends of its 95 % interval, in
    ``unit`` ("%", "times", ... or none). result: what follows for the experiment's claim. lines: the numbers behind
    it, one to three short lines for people.
    """

    statistic: str
    estimate: float
    low: float
    high: float
    _: KW_ONLY
    result: Conclusion
    lines: tuple[str, ...]
    unit: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file; None for a number that is not finite, which JSON does not know."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in {**asdict(self), "level": LEVEL}.items()
        }


def below(low: float, high: float, limit: float = 0.0) -> Conclusion:
    """Whether a statistic lies below the limit, by its interval."""
    return above(-high, -low, -limit)


def above(low: float, high: float, limit: float = 0.0) -> Conclusion:
    """Whether a statistic lies above the limit, by its interval."""
    if low > limit:
        return "confirmed"
    return "not confirmed" if high < limit else "not decided"


def within(lows: np.ndarray, highs: np.ndarray, margin: float) -> Conclusion:
    """Whether all of several numbers lie closer to 0 than the margin, by their simultaneous intervals, (k,) each."""
    if len(lows) and (lows > -margin).all() and (highs < margin).all():
        return "confirmed"
    return "not confirmed" if ((lows > margin) | (highs < -margin)).any() else "not decided"


def weakest(conclusions: Iterable[Conclusion]) -> Conclusion:
    """What the parts of a claim say together."""
    return min(conclusions, key=_WEAKEST_FIRST.index)


def resampled(conclusion: Conclusion, runs: int) -> Conclusion:
    """The conclusion from an interval that comes from resampled runs: none where they are too few."""
    return conclusion if runs >= ENOUGH_RUNS else "not decided"


def half_width(runs: Any, number: int = 1) -> Any:
    """Half the width of a 95 % interval of a mean over ``runs``, in standard errors (Student's t).

    number: of intervals that are to hold together (Bonferroni).
    """
    return special.stdtrit(np.asarray(runs) - 1, 1 - (1 - LEVEL) / 2 / number)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent values, (runs,), and the ends of its 95 % interval."""
    mean = float(values.mean())
    half = float(half_width(len(values)) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def stated(estimate: float, low: float, high: float, unit: str = "") -> tuple[str, str]:
    """A number and its interval as text, with the digits that the interval's width supports."""
    width = high - low
    decimals = min(max(1 - math.floor(math.log10(width)), 0), 4) if 0 < width < math.inf else 3
    after = f" {unit}" if unit else ""
    # A ratio has no sign to show.
    sign = "" if unit == "times" else "+"
    one = lambda value: f"{value:{sign}.{decimals}f}"  # noqa: E731
    return one(estimate) + after, f"{one(low)} to {one(high)}{after}"


def sentence(estimate: float, low: float, high: float, unit: str = "") -> str:
    """A number with its interval, for a line of text."""
    value, ends = stated(estimate, low, high, unit)
    return f"{value} (95 % interval {ends})" if math.isfinite(low + high) else f"{value} (no interval)"


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or the plural, for a line of text or a title."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
