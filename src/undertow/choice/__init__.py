"""Strategies on held-out tasks: which rule, rates and penalties a table asks for, and how sure that is."""

from undertow.choice.record import Candidate, Choice, Gain, Prediction, RateCurve, RateInterval, Verdict
from undertow.choice.search import Searched, Settings, search
from undertow.choice.words import STRATEGIES, Strategy
from undertow.tasks.losses import TaskLosses

__all__ = [
    "STRATEGIES",
    "Candidate",
    "Choice",
    "Gain",
    "Prediction",
    "RateCurve",
    "RateInterval",
    "Searched",
    "Settings",
    "Strategy",
    "TaskLosses",
    "Verdict",
    "search",
]
