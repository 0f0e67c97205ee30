"""Losses of held-out tasks under each strategy: what strategies are compared by, in pairs, task by task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from undertow import _check
from undertow._types import Ids, Losses, PerTask

# Per cent of the held-out loss. With many tasks a smaller difference can be told from chance, but not put to use.
NEGLIGIBLE = 0.5


@dataclass(frozen=True, eq=False)
class TaskLosses:
    """Mean squared error, in standardised units, of each task that neither fit nor choice has seen."""

    names: tuple[str, ...]
    """(n,) strategies, such as "joint" (common weights, nothing adapted), "signed", "ridge", "mixed_full" """
    task_ids: Ids
    """(m,) tasks"""
    mse: Losses
    """(m, n) error of each task under each strategy, mean over its query rows, draws and targets"""
    weights: PerTask
    """(m,) number of query rows of each task, or the sum of their weights"""

    def of(self, name: str) -> PerTask:
        """Errors (m,) under one strategy. Raises InputError for a name that was not tried."""
        return self.mse[:, self.names.index(_check.one_of(name, "name", self.names))]

    def gains(self, name: str, base: str = "joint") -> PerTask:
        """Error under ``base`` minus error under ``name``, (m,): what each task gains; negative where it loses."""
        return self.of(base) - self.of(name)


def mean_over_tasks(values: PerTask, rows: PerTask) -> tuple[float, float]:
    """Mean of a task's values weighted by its rows, and its standard error with tasks as the independent units."""
    mean = float(rows @ values / rows.sum())
    spread = rows * (values - mean)
    m = len(values)
    return mean, float(np.sqrt(m / max(m - 1, 1) * (spread**2).sum()) / rows.sum())


def balance(rows: PerTask) -> PerTask:
    """Weights r / (r + 10) of tasks with r query rows, scaled to sum 1.

    Tasks differ from each other, so that a task of 1,000 rows says hardly more about which model is better than one of
    100: weighing by rows would leave the choice to the few largest.
    """
    weights = rows / (rows + 10.0)
    return weights / weights.sum()
