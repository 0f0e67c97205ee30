r"""Strategies of meta-learning tried on the same tasks, and their losses on tasks that neither fit nor choice has seen.

Each family (the gradient rule; the proximal rule; the mixed model) chooses its own rates, penalties and ridge from
additive moments of folds. What a family is worth is then measured task by task: for each fold, it chooses by the losses
of the other folds, its weights are those trained without the fold, and the fold's tasks adapt and are predicted. So
losses of all strategies are on the same rows, and are compared in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from undertow._batch import TaskBatch
from undertow.linear.rules import Rule
from undertow.tasks.rows import TaskRows

# Held-out losses are taken on at most this many tasks, evenly spread over the folds: standard errors are small by then.
_MOST_TASKS = 2000
# A table is large from this many tasks, and rows times columns squared, on.
_LARGE_TASKS = 4000
_LARGE_WORK = 5e7
_LARGE_TESTED = 1000


class Found(NamedTuple):
    """What a strategy trains and how it adapts."""

    weights: np.ndarray
    """(q, d) omega of each target"""
    rules: tuple[Rule, ...]
    """rule of each target"""
    settings: dict[str, float]
    """what was chosen: raw rates, ratios, ridge, steps"""


@runtime_checkable
class Family(Protocol):
    """Strategies that are chosen and trained in the same way."""

    def found(self, strategy: str, fold: int | None = None) -> Found:
        """Return the strategy chosen and trained on all tasks, or without one fold."""
        ...


@dataclass(frozen=True, eq=False)
class Plan:
    """Tasks, folds and draws of one search."""

    rows: TaskRows
    """tasks with enough rows for support and query"""
    everything: TaskRows
    """all tasks, for the mixed model, which has a use for short ones"""
    folds: list[np.ndarray]
    """task numbers of each fold, in ``rows``"""
    n_support: int
    n_draws: int
    seed: int

    def draws(
        self, rows: TaskRows, labels: np.ndarray | None = None
    ) -> Iterator[Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]]:
        """Yield each draw of support and query rows as batches, each with tasks of one label."""
        for k in range(self.n_draws):
            yield rows.draw(self.n_support, np.random.SeedSequence(self.seed, spawn_key=(k,)), labels)

    def tested(self, fold: int) -> np.ndarray:
        """Numbers of the tasks that a fold's losses are measured on, evenly spread over it."""
        most = _LARGE_TESTED if self.is_large else _MOST_TASKS
        return evenly(self.folds[fold], max(1, math.ceil(most / len(self.folds))))

    @property
    def is_large(self) -> bool:
        """Whether there are so many tasks and numbers that parts of the search make do with some of the tasks."""
        return self.rows.n_tasks > _LARGE_TASKS and float(len(self.rows.y)) * self.rows.n_columns**2 > _LARGE_WORK

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return self.rows.y.shape[1]


def evenly(part: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of a fold's tasks, spread evenly; which tasks are in a fold is random already."""
    return part[np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(int)]
