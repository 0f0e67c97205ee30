r"""Rows of many tasks with several targets and weights, sorted by task, and draws of support and query rows.

A row's weight multiplies its squared error. A query row of weight w becomes :math:`\sqrt{w}\,[x, y]`; a support row
becomes :math:`\sqrt{w n_t / \sum w}\,[x, y]`, so that S is the weighted second moment. So weights need no place in
the rest of the code, and a whole-number weight equals that many copies of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import (
    Counts,
    Ids,
    Numbers,
    Offsets,
    PerRow,
    PerTask,
    Real,
    RowNumbers,
    SomeRows,
    StandardRows,
    Targets,
    TaskNumbers,
    TaskPositions,
    TaskRowWeights,
)
from undertow.tasks import drawing
from undertow.tasks.by_task import ByTask
from undertow.tasks.grouped import GroupedTable
from undertow.tasks.standard import Standard

# About 8 MB of rows: large enough that calls cost nothing, small enough that memory is used again.
_BATCH_NUMBERS = 1 << 20


@dataclass(frozen=True, eq=False)
class TaskRows(ByTask):
    """Letters: R rows, m tasks, p features, d standardised columns, q targets.

    Task number i has the rows at positions ``offsets[i] : offsets[i + 1]``. Inputs stay where the user has them: they
    are fetched and standardised for the rows of one batch at a time.
    """

    x: SomeRows
    """(any, p) the user's inputs"""
    standard: Standard
    y: Targets
    """(R, q) standardised targets, sorted by task"""
    weights: PerRow | None
    """(R,) row weights, sorted by task; None when all are 1"""
    offsets: Offsets
    """(m + 1,) where each task starts"""
    ids: Ids
    """(m,) what the tasks are called, sorted"""
    rows: RowNumbers
    """(R,) number of each row in the user's table, which its draw depends on"""
    places: RowNumbers | None = None
    """(R,) where each row stands in x; None where x is in the user's order, so that it is at ``rows``"""
    in_order: bool = False
    """whether the first rows of a task are its support rows, and not random ones"""
    precise: bool = False
    """whether weights are precisions, and not copies of a row"""

    per_row = ("y", "weights", "rows", "places")

    @classmethod
    def of_table(cls, table: GroupedTable, standard: Standard) -> TaskRows:
        """Return the rows of a table of raw values as they stand there; draws are those of its original row numbers."""
        return cls(
            x=table.x,
            standard=standard,
            y=standard.targets(table.y[:, None]),
            weights=table.weights,
            offsets=table.offsets,
            ids=table.ids,
            rows=table.rows,
            places=np.arange(table.n_rows),
            in_order=table.in_order,
            precise=table.weights_are == "precision",
        )

    def inputs(self, positions: Any = slice(None), out: Any = None) -> StandardRows:
        """Return standardised inputs (..., d) of the rows at ``positions`` (...).

        out: an array (R, d) to put those of R positions in; None for a new one.
        """
        numbers = (self.rows if self.places is None else self.places)[positions]
        return self.standard.features(self.x, numbers.reshape(-1), out).reshape(*numbers.shape, self.n_columns)

    @property
    def n_columns(self) -> int:
        """Number of standardised columns, d."""
        return self.standard.width

    @property
    def codes(self) -> RowNumbers:
        """(R,) number of the task of each row."""
        return np.repeat(np.arange(self.n_tasks), self.counts)

    def as_one_task(self) -> TaskRows:
        """Return the same rows as those of a single task."""
        return replace(self, offsets=np.array([0, len(self.y)]), ids=self.ids[:1])

    def shared(self) -> TaskBatch:
        """Return one batch in which all rows of each task are both its support and its query rows."""
        if self.n_tasks != 1:
            rule = f"{self.n_tasks} tasks: rows are support and query at once only where there is one task."
            raise InputError(None, rule=rule)
        support, query = self.support_weights(np.arange(len(self.y))[None]), self._weigh_query(slice(None))
        x, y = self.inputs()[None], self.y[None]
        return TaskBatch(x * support[..., None], y * support[..., None], x * query[:, None], y * query[:, None])

    def draw(
        self,
        n_support: int,
        seed: np.random.SeedSequence,
        labels: TaskNumbers | None = None,
        weighting: str = "rows",
    ) -> Iterator[tuple[TaskBatch, TaskNumbers, PerTask]]:
        """Yield (batch, task numbers (c,), weight of their query rows (c,)): a random choice of support rows of each
        task, or its first rows where these are ``in_order``, and all others as query rows.

        Batches hold tasks of like length, and of one label where there are ``labels`` (m,); they are small, so that
        what is made of one is still in the cache when it is used. Targets have shape (c, n, q). The choice in a task
        depends on the seed and the numbers of its rows only. Every task must have more than ``n_support`` rows.
        weighting: "rows", or "tasks": query rows are scaled so that each task's weigh 1 together.
        """
        order = self.random_order(seed)
        left = self.counts - n_support
        for tasks in self._batches(left, labels):
            support, query, mask = drawing.positions(order, self.offsets[tasks], n_support, left[tasks])
            support_x, query_x = self.inputs(support), self.inputs(query)
            support_y, query_y = self.y[support], self.y[query]
            weight = left[tasks].astype(float)
            ragged = not mask.all()
            alike = weighting == "tasks"
            if ragged or alike or self.weights is not None:
                by = self._weigh_query(query) * mask
                if alike:
                    by *= _unit_root(by)
                query_x *= by[..., None]
                query_y = query_y * by[..., None]
            mean = None
            if self.weights is not None:
                by = self.support_weights(support)[..., None]
                support_x *= by
                support_y = support_y * by
                mean = self.weights[support].mean(axis=1)
                weight = (self.weights[query] * mask).sum(axis=1)
            if alike:
                weight = (weight > 0).astype(float)
            yield (
                TaskBatch(
                    support_x,
                    support_y,
                    query_x,
                    query_y,
                    query_mask=mask if ragged else None,
                    ids=self.ids[tasks],
                    support_weight=mean,
                ),
                tasks,
                weight,
            )

    def _batches(self, left: Counts, labels: TaskNumbers | None) -> Iterator[Numbers]:
        label = np.zeros(self.n_tasks, dtype=np.int64) if labels is None else labels
        for bucket in drawing.buckets(left):
            bucket = bucket[np.argsort(label[bucket], kind="stable")]
            size = max(1, _BATCH_NUMBERS // int(self.n_columns * self.counts[bucket].max()))
            for part in np.split(bucket, np.flatnonzero(np.diff(label[bucket])) + 1):
                yield from (part[i : i + size] for i in range(0, len(part), size))

    def split(self, n_support: int, seed: np.random.SeedSequence) -> tuple[TaskPositions, Numbers]:
        """Return the positions of the support rows (m, n_support) and of all query rows, task after task."""
        order = self.random_order(seed)
        place = np.arange(len(order)) - np.repeat(self.offsets[:-1], self.counts)
        return order[place < n_support].reshape(self.n_tasks, n_support), order[place >= n_support]

    def support_weights(self, positions: TaskPositions) -> TaskRowWeights:
        """Return what support rows at ``positions`` (c, n_t) are multiplied by: roots of weights that average 1."""
        if self.weights is None:
            return np.ones(positions.shape, self.x.dtype)
        w = self.weights[positions]
        return np.sqrt(w * w.shape[1] / w.sum(axis=1, keepdims=True)).astype(self.x.dtype)

    def _weigh_query(self, positions: Any) -> Real:
        if self.weights is None:
            return np.ones(self.rows[positions].shape, self.x.dtype)
        return np.sqrt(self.weights[positions]).astype(self.x.dtype)


def _unit_root(by: Real) -> Real:
    """What roots of weights (c, n) are multiplied by so that the weights of each task sum to 1; 1 where all are 0."""
    total = (by**2).sum(axis=1, keepdims=True)
    return np.where(total > 0, total, 1) ** -0.5


def of_target(batch: TaskBatch, j: int) -> TaskBatch:
    """Return the batch with target number j only."""
    return batch._replace(support_y=batch.support_y[..., j], query_y=batch.query_y[..., j])
