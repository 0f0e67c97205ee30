"""The exact engine: moments of the tasks, the outer solution at every signed rate, the loss surface over both rates."""

from undertow.linear.gradient_step import adapt, stability_limit
from undertow.linear.moments import Moments, sum_moments
from undertow.linear.path import RatePath, rate_path
from undertow.linear.surface import BestRates, LossSurface

__all__ = [
    "BestRates",
    "LossSurface",
    "Moments",
    "RatePath",
    "adapt",
    "rate_path",
    "stability_limit",
    "sum_moments",
]
