r"""Rows of the outer problem, before a rate is chosen.

k inner steps at rate a on a task's support rows turn its query rows into rows of a linear problem for omega,

.. math:: B\omega \approx \gamma, \qquad [B, \gamma] = \sum_{j=0}^{k} c_j(a) \, [U_j, u_j],
          \qquad U_j = X_v S^j, \quad u_0 = y_v, \quad u_j = X_v S^{j-1} X_t^T y_t / n_t ,

with S = X_t^T X_t / n_t. The blocks [U_j, u_j] do not depend on the rate: everything else in this folder is a
function of them. This file makes them, chunk by chunk, in one pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, one_of
from undertow._types import Counts, Features, PerTask, Real, StepRows, TaskNumbers

Tasks: TypeAlias = TaskBatch | Iterable[TaskBatch]

# Beyond this the powers S^j, whose signs alternate in (I - aS)^k, cancel all digits of a loss or a fit.
MAX_STEPS = 8

# A chunk of blocks is about 2 MB: it stays in the second-level cache between being made and being used.
_CHUNK_NUMBERS = 1 << 18


class Chunk(NamedTuple):
    """Blocks of some tasks. Rows of one task lie together; padded rows are left out."""

    rows: StepRows
    """(R, steps + 1, p + q) the rows [U_j, u_j], times the square root of their weight; q is 1 unless targets have a
    third axis (see ``chunks``)"""
    counts: Counts
    """(c,) how many rows each task has"""
    tasks: TaskNumbers
    """(c,) positions of the tasks in their batch"""
    weight: float
    """total weight of the rows"""


def as_batches(tasks: Tasks) -> list[TaskBatch]:
    """Return batches whose shapes fit together, or raise InputError.

    Values are not looked at here, to save a pass over the data: a sum that turns out not to be finite is traced back
    to its cause by ``trace_nonfinite``.
    """
    batches = [tasks] if isinstance(tasks, TaskBatch) else list(tasks) if isinstance(tasks, Iterable) else []
    if not batches or not all(isinstance(batch, TaskBatch) for batch in batches):
        raise InputError(
            "tasks",
            type(tasks).__name__,
            "it must be a TaskBatch, or a sequence of TaskBatches that is not empty.",
            "undertow.tasks.from_table makes one from a table.",
        )
    batches = [batch.validate(finite=False) for batch in batches]
    widths = {batch.n_features for batch in batches}
    if len(widths) > 1:
        raise InputError(None, rule=f"batches have {sorted(widths)} features: they must all have the same.")
    return batches


def one_batch(tasks: TaskBatch) -> TaskBatch:
    """Return the batch with its shapes checked, or raise InputError where it is not one TaskBatch."""
    if not isinstance(tasks, TaskBatch):
        raise InputError("tasks", type(tasks).__name__, "it must be one TaskBatch.")
    return as_batches(tasks)[0]


def row_weights(batch: TaskBatch, weighting: str) -> PerTask | None:
    """Weight of each query row of each task, (m,); None when all are 1."""
    one_of(weighting, "weighting", ("rows", "tasks"))
    return None if weighting == "rows" else 1.0 / batch.query_counts


def chunks(batch: TaskBatch, steps: int, weighting: str = "rows", numbers: int = _CHUNK_NUMBERS) -> Iterator[Chunk]:
    """Yield the blocks of a batch. A yielded array is reused by the next chunk: copy what must outlive it.

    Targets of shape (m, n, q) give blocks with a column u_j for each of the q targets; the inputs are multiplied once.
    """
    n_t, p = batch.support_x.shape[1:]
    if batch.support_y.ndim == 2:
        batch = batch._replace(support_y=batch.support_y[..., None], query_y=batch.query_y[..., None])
    q = batch.support_y.shape[2]
    dtype = np.result_type(batch.support_x, batch.query_x, np.float32)
    counts_t, counts_v = batch.support_counts, batch.query_counts
    weights = row_weights(batch, weighting)
    buffers = _Buffers(n_t, steps, p + q, dtype)
    for part, n_v in _parts(batch, buffers.width, numbers):
        index = np.arange(batch.n_tasks)[part]
        size = len(index)
        x_t, y_t = batch.support_x[part], batch.support_y[part]
        x_v, y_v = batch.query_x[part, :n_v], batch.query_y[part, :n_v]
        if batch.support_mask is not None:
            mask = batch.support_mask[part]
            x_t, y_t = np.where(mask[..., None], x_t, 0), np.where(mask[..., None], y_t, 0)
        rows, support = buffers.of(size, n_v)
        rows[:, :, 0, :p], rows[:, :, 0, p:] = x_v, y_v
        support[..., :p], support[..., p:] = x_t, y_t
        # The kernel between query and support rows, and never a task's p x p matrix: it is n_v x n_t.
        transposed = x_t.transpose(0, 2, 1)
        for j in range(steps):
            kernel = (x_v if j == 0 else rows[:, :, j, :p]) @ transposed
            kernel /= counts_t[part, None, None].astype(dtype)
            np.matmul(kernel, support, out=rows[:, :, j + 1, :])
        total = float(counts_v[index].sum())
        if weights is not None:
            rows *= np.sqrt(weights[index]).astype(dtype)[:, None, None, None]
            total = float(len(index))
        if batch.query_mask is not None:
            flat = rows[batch.query_mask[part, :n_v]]
        else:
            flat = rows.reshape(-1, steps + 1, p + q)
        yield Chunk(flat, counts_v[index], index, total)


def _parts(batch: TaskBatch, width: int, numbers: int = _CHUNK_NUMBERS) -> Iterator[tuple[TaskNumbers | slice, int]]:
    """Yield tasks whose query rows of ``width`` numbers make a chunk, and how many query rows the longest has.

    Tasks of like length are taken together, so that a chunk is trimmed to little more than its real rows.
    """
    m, longest = batch.n_tasks, batch.query_x.shape[1]
    if batch.query_mask is None or (batch.query_mask[:, 1:] > batch.query_mask[:, :-1]).any():
        size = max(1, numbers // (longest * width))
        yield from ((slice(start, start + size), longest) for start in range(0, m, size))
        return
    order = np.argsort(batch.query_counts, kind="stable")
    lengths = np.asarray(batch.query_counts[order], dtype=np.int64)
    start = 0
    while start < m:
        size = min(m - start, max(1, numbers // int(lengths[start] * width)))
        # Lengths grow along the order: shrink the chunk until it is small enough for its own longest task.
        while size > 1 and size * int(lengths[start + size - 1]) * width > numbers:
            size -= max(1, size // 8)
        yield order[start : start + size], int(lengths[start + size - 1])
        start += size


def check_steps(steps: int) -> int:
    """Return the number of steps, or raise InputError where the blocks cannot hold so many."""
    steps = _check.whole_number(steps, "steps")
    if steps > MAX_STEPS:
        raise InputError(
            "steps",
            steps,
            f"moments and losses as functions of the rate keep their digits up to {MAX_STEPS} steps.",
            "Use fewer steps at a larger rate; undertow.linear.adapt takes any number.",
        )
    return steps


def stepped(
    batch: TaskBatch,
    steps: int,
    stay: float,
    move: float,
    weighting: str,
    dtype: type = np.float64,
    sizes: np.ndarray | None = None,
) -> Iterator[Features]:
    """Yield rows [B, gamma] (R, p + 1) of (stay I + move S)^steps, one step after the other.

    A step back from the query rows: [b, g] becomes stay [b, g] + move (b X_t^T / n_t) [X_t, y_t]. A yielded array is
    reused by the next: copy what must outlive it.
    sizes: (steps, 2), to which each step adds the squared size of its two terms of B, and that of their sum.
    """
    weights = row_weights(batch, weighting)
    n_t, width = batch.support_x.shape[1], batch.n_features + 1
    buffers = _Buffers(n_t, 1, width, np.dtype(dtype))
    scales = (move / batch.support_counts)[:, None, None].astype(dtype)
    for part, n_v in _parts(batch, buffers.width):
        size = len(scales[part])
        both, support = buffers.of(size, n_v)
        rows, stepped_rows = both.reshape(2, size, n_v, width)
        rows[..., :-1], rows[..., -1] = batch.query_x[part, :n_v], batch.query_y[part, :n_v]
        support[..., :-1], support[..., -1] = batch.support_x[part], batch.support_y[part]
        if batch.support_mask is not None:
            support[~batch.support_mask[part]] = 0
        transposed = support[..., :-1].transpose(0, 2, 1)
        for step in range(steps):
            kernel = rows[..., :-1] @ transposed
            kernel *= scales[part]
            np.matmul(kernel, support, out=stepped_rows)
            if stay != 1:
                rows *= stay
            if sizes is not None:
                sizes[step, 0] += _square(rows) + _square(stepped_rows)
            rows += stepped_rows
            if sizes is not None:
                sizes[step, 1] += _square(rows)
        if weights is not None:
            rows *= np.sqrt(weights[part]).astype(dtype)[:, None, None]
        yield rows.reshape(-1, width) if batch.query_mask is None else rows[batch.query_mask[part, :n_v]]


def _square(rows: np.ndarray) -> float:
    return float(np.einsum("mnp,mnp->", rows[..., :-1], rows[..., :-1]))


class _Buffers:
    """Memory for one chunk, used again by the next: fresh memory would cost as much as the sums themselves."""

    def __init__(self, n_support: int, steps: int, columns: int, dtype: np.dtype) -> None:
        self.width = (steps + 1) * columns
        self._shape = (n_support, steps + 1, columns)
        self._rows = np.empty(0, dtype)
        self._support = np.empty(0, dtype)

    def of(self, size: int, n_query: int) -> tuple[np.ndarray, np.ndarray]:
        n_support, blocks, width = self._shape
        if self._rows.size < size * n_query * self.width:
            self._rows = np.empty(size * n_query * self.width, self._rows.dtype)
        if self._support.size < size * n_support * width:
            self._support = np.empty(size * n_support * width, self._rows.dtype)
        rows = self._rows[: size * n_query * self.width].reshape(size, n_query, blocks, width)
        return rows, self._support[: size * n_support * width].reshape(size, n_support, width)


def trace_nonfinite(sums: Real, batch: TaskBatch) -> None:
    """Raise InputError with the cause where sums over a batch are not finite."""
    if np.isfinite(sums).all():
        return
    batch.validate()
    raise InputError(
        None,
        rule="products of the values overflow: they are finite but too large.",
        way_out="Standardise the features and target first.",
    )
