"""Losses of held-out tasks under each strategy: what strategies are compared by, in pairs, task by task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from undertow import _check


@dataclass(frozen=True, eq=False)
class TaskLosses:
    """Half mean squared error, in standardised units, of each task that neither fit nor choice has seen."""

    names: tuple[str, ...]
    """(n,) strategies, such as "joint" (common weights, nothing adapted), "signed", "ridge", "mixed_full" """
    task_ids: np.ndarray
    """(m,) tasks"""
    losses: np.ndarray
    """(m, n) loss of each task under each strategy, mean over its query rows, draws and targets"""
    weights: np.ndarray
    """(m,) number of query rows of each task, all draws together"""

    def of(self, name: str) -> np.ndarray:
        """Losses (m,) under one strategy. Raises InputError for a name that was not tried."""
        return self.losses[:, self.names.index(_check.one_of(name, "name", self.names))]

    def gains(self, name: str, base: str = "joint") -> np.ndarray:
        """Loss under ``base`` minus loss under ``name``, (m,): what each task gains; negative where it loses."""
        return self.of(base) - self.of(name)
