"""The mixed model of tasks: statistics, likelihood, scoring, model."""

from undertow.mixed.model import STRUCTURES, MixedFit, fit_mixed
from undertow.mixed.rule import MixedRule

__all__ = ["STRUCTURES", "MixedFit", "MixedRule", "fit_mixed"]
