"""Constructors of the estimators: with settings that are given, and with settings that a search chooses."""

from __future__ import annotations

from collections.abc import Sequence
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


class Given(MetaEstimator):
    """Trained at rates, ratios and ridge that are given."""

    def __init__(
        self,
        train_rate: float = 0.0,
        adapt_rate: float = 0.1,
        n_support: int = 5,
        ridge: float = 1e-3,
        steps: int = 1,
        rate_unit: str = "spectral",
        *,
        rule: GradientRule | ProximalRule | MixedRule | None = None,
        n_draws: int | None = None,
        standardize: bool = True,
        clip: float | None = None,
        fit_intercept: bool = True,
        on_small: str = "drop",
        weighting: str = "tasks",
        support: str = "random",
        row_weights: str = "frequency",
        floor: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.train_rate = train_rate
        self.adapt_rate = adapt_rate
        self.n_support = n_support
        self.ridge = ridge
        self.steps = steps
        self.rate_unit = rate_unit
        self.rule = rule
        self.n_draws = n_draws
        self.standardize = standardize
        self.clip = clip
        self.fit_intercept = fit_intercept
        self.on_small = on_small
        self.weighting = weighting
        self.support = support
        self.row_weights = row_weights
        self.floor = floor
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_given(self, everything, large, seed)


class Searched(MetaEstimator):
    """Trained at settings chosen by nested cross-validation over tasks."""

    choice_: Choice | None
    strategy_: str
    held_out_: TaskLosses | None
    curve_: str
    curve_errors_: dict[str, float]

    def __init__(
        self,
        n_support: int = 5,
        cv: Any = 5,
        rules: str | Sequence[str] = RULES,
        *,
        blend: bool = True,
        ridges: Any = None,
        steps: int | Sequence[int] = (1,),
        n_rates: int | None = None,
        n_draws: int | None = None,
        level: float = 0.95,
        standardize: bool = True,
        clip: float | None = None,
        fit_intercept: bool = True,
        on_small: str = "drop",
        weighting: str = "tasks",
        support: str = "random",
        row_weights: str = "frequency",
        effort: str = "default",
        random_slopes: Sequence[int | str] | None = None,
        floor: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.n_support = n_support
        self.cv = cv
        self.rules = rules
        self.blend = blend
        self.ridges = ridges
        self.steps = steps
        self.n_rates = n_rates
        self.n_draws = n_draws
        self.level = level
        self.standardize = standardize
        self.clip = clip
        self.fit_intercept = fit_intercept
        self.on_small = on_small
        self.weighting = weighting
        self.support = support
        self.row_weights = row_weights
        self.effort = effort
        self.random_slopes = random_slopes
        self.floor = floor
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_searched(self, everything, large, seed)

    def _publish_training(self, trained: Trained) -> None:
        super()._publish_training(trained)
        publish_search(self, trained)
