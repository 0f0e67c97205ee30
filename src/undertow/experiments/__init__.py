"""Experiments that compare what is measured with what theory says: run, resume, redraw.

    import undertow as ut
    ut.experiments.names()                                       # what there is
    result = ut.experiments.reproduce("overparameterized", quick=True)
    result.verdict                                               # lines of text; files are in result.folder

Each experiment is one record (``get(name)``) with a strict Config; docs/reference/experiments.md says what each shows.
"""

from undertow.experiments.experiment import Experiment
from undertow.experiments.registry import EXPERIMENTS, get, names
from undertow.experiments.runner import Result, cells_kept, folder_of, redraw, reproduce
from undertow.trials.config import ExperimentConfig

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "ExperimentConfig",
    "Result",
    "cells_kept",
    "folder_of",
    "get",
    "names",
    "redraw",
    "reproduce",
]
