"""Figures: displays hold data and draw late, on given axes or on their own, in one style."""

from undertow.plots.comparison import ComparisonDisplay
from undertow.plots.rate_path import LossSurfaceDisplay, RatePathDisplay
from undertow.plots.strategies import StrategyDisplay, choice_figure
from undertow.plots.task_gain import TaskGainDisplay

__all__ = [
    "ComparisonDisplay",
    "LossSurfaceDisplay",
    "RatePathDisplay",
    "StrategyDisplay",
    "TaskGainDisplay",
    "choice_figure",
]
