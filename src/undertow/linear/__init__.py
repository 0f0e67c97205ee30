"""The exact half: moments of the tasks, the outer solution at every signed rate, the loss surface over both rates."""

from undertow.linear.adapt import adapt, stability_limit
from undertow.linear.held_out import RateComparison, compare_rates
from undertow.linear.moments import Moments, sum_moments
from undertow.linear.path import RatePath, rate_path
from undertow.linear.select import Pick, cross_validate, pick
from undertow.linear.surface import BestRates, LossSurface
from undertow.linear.task_losses import TaskLosses

__all__ = [
    "BestRates",
    "LossSurface",
    "Moments",
    "Pick",
    "RateComparison",
    "RatePath",
    "TaskLosses",
    "adapt",
    "compare_rates",
    "cross_validate",
    "pick",
    "rate_path",
    "stability_limit",
    "sum_moments",
]
