"""Figures: displays hold data and draw late, on given axes or on their own, in one style."""

from undertow.plots.comparison import ComparisonDisplay
from undertow.plots.rate_path import LossSurfaceDisplay, RatePathDisplay, StrategyDisplay, comparison_figure
from undertow.plots.task_gain import TaskGainDisplay

__all__ = [
    "ComparisonDisplay",
    "LossSurfaceDisplay",
    "RatePathDisplay",
    "StrategyDisplay",
    "TaskGainDisplay",
    "comparison_figure",
]
