"""The mixed model of tasks: statistics, likelihood, derivatives, steps, scoring, model."""

from undertow.mixed.fit import MixedFit
from undertow.mixed.model import STRUCTURES, MixedRule, fit_mixed
from undertow.mixed.statistics import TaskStatistics

__all__ = ["STRUCTURES", "MixedFit", "MixedRule", "TaskStatistics", "fit_mixed"]
