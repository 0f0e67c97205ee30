"""What a search has found, as values: gains, the interval of the best rate, the choice. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from undertow._plain import plain, unplain


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
class Prediction:
    """The best rates by theory, at estimated noise and task variance; one target, the first."""

    noise_std: float | None
    """sigma, in standardised units of the target; None where nothing could be said, as all else"""
    task_std: float | None
    """nu, with nu^2 the trace of the task covariance"""
    train_rate: float | None
    """best training rate, spectral; minus infinity stands for the point at infinity"""
    adapt_rate: float | None
    """best adaptation rate, spectral"""
    method: str
    """formula used, of ``undertow.theory.METHODS``; empty where none was"""
    note: str
    """what was assumed, or why nothing could be said"""


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
