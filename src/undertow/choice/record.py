"""What a search has found, as values. Nothing is computed here, and no sentence is made (see ``words``).

Errors are mean squared errors of held-out tasks in standardised units: for a regression, shares of the target's
variance. Raw rates act on standardised features; spectral ones are multiples of ``Choice.scale``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from undertow._plain import plain, unplain


class Verdict(StrEnum):
    """What held-out tasks say about the sign of the gradient rule's best train rate.

    Examples
    --------
    >>> from undertow.choice import Verdict
    >>> Verdict("negligible") is Verdict.NEGLIGIBLE, Verdict.NEGATIVE == "negative"
    (True, True)
    """

    NEGATIVE = "negative"
    POSITIVE = "positive"
    UNDETERMINED = "undetermined"
    """the interval of the best rate holds rates of both signs"""
    NEGLIGIBLE = "negligible"
    """whatever its sign, the rate gains too little over no inner loop to matter"""


_ERRORS = ("mse", "standard_error", "mse_at_zero")
"""Of each strategy."""


class Gain(NamedTuple):
    """Error of a rival minus error of a strategy, in per cent of the rival's; positive where the strategy is better.

    Examples
    --------
    >>> from undertow.choice import Gain
    >>> gain = Gain(percent=2.0, low=-0.5, high=4.5, standard_error=1.3)
    >>> gain.low <= 0 <= gain.high  # not significant
    True
    """

    percent: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class RateInterval:
    """Where on the circle of rates the best train rate lies.

    Examples
    --------
    >>> from undertow.choice import RateInterval
    >>> interval = RateInterval(
    ...     low_spectral=-2.0, high_spectral=-0.1, scale=0.3, level=0.95,
    ...     whole_circle=False, contains_zero=False, contains_infinity=False, sign_probability=0.98,
    ... )
    >>> interval.sign, -0.3 in interval, 0.0 in interval
    ('negative', True, False)
    """

    low_spectral: float
    """first rate of the interval, going up"""
    high_spectral: float
    """last one; below the first where the interval runs through infinity"""
    scale: float
    """spectral unit"""
    level: float
    """nominal coverage"""
    whole_circle: bool
    """whether no rate can be ruled out"""
    contains_zero: bool
    contains_infinity: bool
    sign_probability: float
    """share of bootstrap curves whose least error lies at a negative rate"""

    @property
    def low(self) -> float:
        """Raw first rate of the interval."""
        return self.low_spectral * self.scale

    @property
    def high(self) -> float:
        """Raw last rate of the interval."""
        return self.high_spectral * self.scale

    @property
    def sign(self) -> str:
        """Return "negative" or "positive" where all rates of the interval have one sign, else an empty text."""
        if self.contains_zero or self.contains_infinity:
            return ""
        return "negative" if self.high_spectral < 0 else "positive"

    def __contains__(self, rate: object) -> bool:
        """Whether a raw rate lies in the interval."""
        if not isinstance(rate, int | float | np.floating):
            return False
        if math.isinf(rate):
            return self.contains_infinity
        if self.whole_circle:
            return True
        if self.low <= self.high:
            return bool(self.low <= rate <= self.high)
        return bool(rate >= self.low or rate <= self.high)


@dataclass(frozen=True)
class Candidate:
    """One strategy: its error on tasks that neither its fit nor its tuning has seen, and what was chosen for it.

    Examples
    --------
    >>> from undertow.choice import Candidate, Gain
    >>> gain = Gain(percent=4.0, low=1.0, high=7.0, standard_error=1.5)
    >>> step = Candidate(0.72, 0.01, 0.75, gain, {"train_rate": 0.0, "adapt_rate": 0.1}, of_folds=())
    >>> step.mse < step.mse_at_zero
    True
    """

    mse: float
    """held-out mean squared error"""
    standard_error: float
    """of ``mse``, over tasks"""
    mse_at_zero: float
    """the same of its common weights on tasks without rows"""
    gain: Gain
    """over the prediction of a task without rows (see ``Choice.at_zero``)"""
    settings: dict[str, float]
    """chosen on all tasks: rates (raw, and spectral under names that say so), ratios, ridge, steps; of a blend the
    share of each strategy in it, largest first"""
    of_folds: tuple[dict[str, float], ...]
    """chosen without each fold, by fits that have not seen it; of a blend the shares"""


@dataclass(frozen=True)
class RateCurve:
    """Cross-validated error of the gradient rule over the train rate, at the ridge and steps of its signed choice.

    Examples
    --------
    >>> from undertow.choice import RateCurve
    >>> curve = RateCurve(
    ...     train_rates=(-0.5, 0.0, 0.5), adapt_rates=(0.1, 0.1, 0.1), mse=(0.80, 0.82, 0.85),
    ...     standard_errors=(0.01, 0.0, 0.02),
    ... )
    >>> curve.train_rates[curve.mse.index(min(curve.mse))]
    -0.5
    """

    train_rates: tuple[float, ...]
    """(k,) raw, around the circle, infinity once"""
    adapt_rates: tuple[float, ...]
    """(k,) raw adapt rate with the least error at each"""
    mse: tuple[float, ...]
    """(k,) error at these"""
    standard_errors: tuple[float, ...]
    """(k,) of the difference from the error at train rate 0; they allow for training tasks that folds share"""


@dataclass(frozen=True)
class Prediction:
    """The best rates by theory, at estimated noise and task variance; one target, the first.

    Examples
    --------
    >>> from undertow.choice import Prediction
    >>> said = Prediction(
    ...     noise_std=0.9, task_std=0.3, train_rate_spectral=-1.2, adapt_rate_spectral=0.1, method="exact", note=""
    ... )
    >>> said.train_rate_spectral < 0 < said.adapt_rate_spectral
    True
    """

    noise_std: float | None
    """sigma, in standardised units of the target; None where nothing could be said, as all else"""
    task_std: float | None
    """nu, with nu^2 the trace of the task covariance"""
    train_rate_spectral: float | None
    """best train rate; minus infinity stands for the point at infinity"""
    adapt_rate_spectral: float | None
    """best adapt rate"""
    method: str
    """formula used, of ``undertow.theory.METHODS``; empty where none was"""
    note: str
    """what was assumed, or why nothing could be said"""


class LargestTask(NamedTuple):
    """The task with most rows."""

    id: str
    share: float
    """of all rows, or of their weight"""


@dataclass(frozen=True)
class Choice:
    """The choice of an estimator's search, with the figures behind it: one held-out error for each strategy.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressorCV(n_support=5, rules="gradient", n_rates=21, n_draws=1, effort="fast")
    >>> choice = model.fit(table.x, table.y, groups=table.groups).choice_
    >>> choice.strategy, choice.n_tasks
    ('signed', 142)
    >>> bool(choice.mse < choice.mse_at_zero)
    True
    """

    strategy: str
    """the strategy that the estimator uses: "blend", or a single one"""
    verdict: Verdict
    """on the sign of the gradient rule's train rate"""
    at_zero: dict[str, float]
    """shares of what predicts a task without rows: common weights of "joint" and of the strategy in use, and the mean
    of the target ("constant") where it is clearly better than "joint" """
    mse_at_zero: float
    """held-out mean squared error of these, chosen without the tested fold"""
    standard_error_at_zero: float
    """of ``mse_at_zero``, over tasks"""
    candidates: dict[str, Candidate]
    """each strategy that was tried, by name (see ``undertow.choice.words.STRATEGIES``)"""
    gains: dict[str, Gain]
    """of the signed gradient rule over "step" (no inner loop), "tied" (one positive rate), "joint" (no adaptation) and
    "pooled_ridge" (ridge towards pooled weights), where these were tried"""
    best_gains: dict[str, Gain]
    """of the strategy used over each of the others"""
    interval: RateInterval
    """of the gradient rule's best train rate, at its ridge"""
    curve: RateCurve
    scale: float
    """spectral unit of a rate"""
    n_tasks: int
    """number of tasks that the errors were measured on"""
    weighting: str
    """what counts once in training, errors and intervals: each of the "tasks", or each of their query "rows" """
    n_effective: float
    """number of equally weighted tasks that the errors rest on"""
    largest: LargestTask
    """the task with most rows"""
    n_support: int
    n_folds: int
    n_draws: int
    prediction: Prediction
    """what theory says the best rates are"""

    @property
    def settings(self) -> dict[str, float]:
        """Settings of the strategy used."""
        return self.candidates[self.strategy].settings

    @property
    def signed(self) -> dict[str, float]:
        """Settings of the gradient rule's best signed train rate, which may not be the strategy used."""
        return self.candidates["signed"].settings

    @property
    def mse(self) -> float:
        """Held-out mean squared error of the strategy used."""
        return self.candidates[self.strategy].mse

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (infinities as the words "inf" and "-inf")."""
        values = asdict(self)
        values["largest"] = self.largest._asdict()
        values["candidates"] = {
            name: asdict(one) | {"gain": one.gain._asdict()} for name, one in self.candidates.items()
        }
        for name in ("gains", "best_gains"):
            values[name] = {rival: one._asdict() for rival, one in getattr(self, name).items()}
        return plain(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Choice:
        """Return the record of ``to_dict``."""
        raw = dict(unplain(values))
        raw["verdict"] = Verdict(raw["verdict"])
        raw["candidates"] = {
            name: Candidate(**{**one, "gain": Gain(**one["gain"]), "of_folds": tuple(one["of_folds"])})
            for name, one in raw["candidates"].items()
        }
        for name in ("gains", "best_gains"):
            raw[name] = {rival: Gain(**one) for rival, one in raw[name].items()}
        raw["largest"] = LargestTask(**raw["largest"])
        raw["interval"] = RateInterval(**raw["interval"])
        raw["curve"] = RateCurve(**{name: tuple(column) for name, column in raw["curve"].items()})
        raw["prediction"] = Prediction(**raw["prediction"])
        choice = cls(**raw)
        errors = [choice.mse_at_zero, *(getattr(one, field) for one in choice.candidates.values() for field in _ERRORS)]
        if not all(error >= 0 for error in errors):
            raise ValueError(f"an error of {min(errors)}: squares cannot be negative")
        return choice

    def __str__(self) -> str:
        """Say in a line what was chosen; ``undertow.choice.words`` says more."""
        return (
            f"{self.strategy}: held-out MSE {self.mse:.4g} (standard error "
            f"{self.candidates[self.strategy].standard_error:.2g}); sign of the train rate: {self.verdict.value}"
        )
