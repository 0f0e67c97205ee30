"""The mixed model of tasks: statistics, likelihood, scoring, model."""

from undertow.mixed.model import MixedFit, fit_mixed

__all__ = ["MixedFit", "fit_mixed"]
