"""Strategies on held-out tasks: which rule, rates and penalties a table asks for, and how sure that is."""

from undertow.choice.rate_comparison import RateComparison, compare_rates
from undertow.choice.rate_picks import Pick, cross_validate, pick
from undertow.choice.record import Choice, Gain, RateInterval
from undertow.tasks.losses import TaskLosses

__all__ = [
    "Choice",
    "Gain",
    "Pick",
    "RateComparison",
    "RateInterval",
    "TaskLosses",
    "compare_rates",
    "cross_validate",
    "pick",
]
