"""Constructors of the estimators: with settings that are given, and with settings that a search chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from undertow.choice.record import Choice
from undertow.choice.search import RULES
from undertow.estimators.base import MetaEstimator
from undertow.estimators.parameters import publish_search, train_given, train_searched
from undertow.estimators.training import Trained
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.model import MixedRule
from undertow.tasks.losses import TaskLosses
from undertow.tasks.rows import TaskRows


# The constructor stores its arguments and no more, as scikit-learn asks; equality and text are scikit-learn's.
@dataclass(eq=False, repr=False)
class Given(MetaEstimator):
    """Trained at rates, ratios and ridge that are given."""

    train_rate: float = 0.0
    adapt_rate: float = 0.1
    n_support: int = 5
    ridge: float = 1e-3
    steps: int = 1
    rate_unit: str = "spectral"
    _: KW_ONLY
    rule: GradientRule | ProximalRule | MixedRule | None = None
    n_draws: int | None = None
    standardize: bool = True
    clip: float | None = None
    fit_intercept: bool = True
    on_small: str = "drop"
    weighting: str = "tasks"
    support: str = "random"
    row_weights: str = "frequency"
    floor: float | None = None
    n_jobs: int | None = None
    random_state: Any = 0

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_given(self, everything, large, seed)


@dataclass(eq=False, repr=False)
class Searched(MetaEstimator):
    """Trained at settings chosen by nested cross-validation over tasks."""

    n_support: int = 5
    cv: Any = 5
    rules: str | Sequence[str] = RULES
    _: KW_ONLY
    blend: bool = True
    ridges: Any = None
    steps: int | Sequence[int] = (1,)
    n_rates: int | None = None
    n_draws: int | None = None
    level: float = 0.95
    standardize: bool = True
    clip: float | None = None
    fit_intercept: bool = True
    on_small: str = "drop"
    weighting: str = "tasks"
    support: str = "random"
    row_weights: str = "frequency"
    effort: str = "default"
    random_slopes: Sequence[int | str] | None = None
    floor: float | None = None
    n_jobs: int | None = None
    random_state: Any = 0
    choice_: Choice | None = field(init=False)
    strategy_: str = field(init=False)
    held_out_: TaskLosses | None = field(init=False)
    curve_: str = field(init=False)
    curve_errors_: dict[str, float] = field(init=False)

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_searched(self, everything, large, seed)

    def _publish_training(self, trained: Trained) -> None:
        super()._publish_training(trained)
        publish_search(self, trained)
