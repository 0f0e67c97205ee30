"""The mixed model of tasks: statistics, likelihood, derivatives, steps, scoring, model; two values and counts."""

from undertow.mixed.fit import MixedFit
from undertow.mixed.generalised import GeneralisedFit, fit_generalised
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.mixed.model import STRUCTURES, MixedRule, fit_mixed
from undertow.mixed.statistics import TaskStatistics

__all__ = [
    "STRUCTURES",
    "GeneralisedFit",
    "LaplaceRule",
    "MixedFit",
    "MixedRule",
    "TaskStatistics",
    "fit_generalised",
    "fit_mixed",
]
