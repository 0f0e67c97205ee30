"""Sufficient statistics of the mixed model: a few rows per task that stand for all of its rows.

The likelihood of a task needs X^T X, X^T y, y^T y and the number of rows n. A task with more rows than features is
replaced by the triangle of an orthogonal factorisation of [X, y]: p rows with the same products, and the sum of squares
that no feature reaches. Products themselves are never formed, since that would square the condition number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.linear.blocks import Tasks, as_batches, trace_nonfinite
from undertow.tasks import GroupedTable

Source: TypeAlias = Tasks | GroupedTable

# Numbers in a block of tasks, about 2 MB: its few temporary copies stay in the second-level cache.
_BLOCK_NUMBERS = 1 << 18


class Block(NamedTuple):
    """Tasks of like length, b of them, with k rows each (shorter ones are padded with zeros, which change nothing)."""

    tasks: np.ndarray
    """(b,) positions of the tasks"""
    rows: np.ndarray
    """(b, k, p + 1) features and target, in units of ``TaskStatistics.unit`` and ``target_unit``"""
    counts: np.ndarray
    """(b,) number of rows, or the sum of their weights"""
    residual: np.ndarray
    """(b,) sum of squares of the targets beyond the k rows"""
    weights: np.ndarray
    """(b,) how often each task counts"""

    @property
    def x(self) -> np.ndarray:
        """(b, k, p) features."""
        return self.rows[..., :-1]


@dataclass(frozen=True)
class TaskStatistics:
    """All that the mixed model needs to know of m tasks: one pass over the rows, whatever is fitted afterwards."""

    blocks: tuple[Block, ...]
    n_tasks: int
    n_features: int
    unit: np.ndarray
    """(p,) root mean square of each feature, 1 for one that is zero throughout"""
    target_unit: float
    constant: np.ndarray
    """(p,) whether a feature has one value other than 0 in all rows: an intercept"""
    zero: np.ndarray
    """(p,) whether a feature is 0 in all rows: nothing can be said about its weight"""

    @classmethod
    def from_tasks(
        cls, tasks: Source, row_weights: Any = None, task_weights: Any = None, *, common_unit: bool = False
    ) -> TaskStatistics:
        """Make them from a GroupedTable, a TaskBatch or several; of a batch, support and query rows both count.

        row_weights: for a table (R,), in the order of its rows; for a batch a pair of (m, n_t) and (m, n_v) arrays; for
            several batches a sequence of pairs. A row of weight 2 counts as two equal rows, one of weight 0 not at all.
        task_weights: (m,), for several batches in their order; a task of weight 2 counts as two equal tasks.
        common_unit: one unit for all features that are not constant, as suits directions of a rotated space.

        Raises InputError for shapes that do not fit, negative weights, and values that are not finite.
        """
        m = tasks.n_tasks if isinstance(tasks, GroupedTable) else sum(batch.n_tasks for batch in as_batches(tasks))
        each = _weights(task_weights, (m,), "task_weights")
        blocks, sums = [], None
        for piece in _pieces(tasks, row_weights):
            sums = _Sums(piece.rows.shape[2]) if sums is None else sums
            own = np.ones(len(piece.tasks)) if each is None else each[piece.tasks]
            sums.add(piece, None if each is None else own)
            blocks.append(_compressed(piece, own))
        assert sums is not None  # there is at least one task
        unit, target_unit = sums.units(tasks)
        if common_unit:
            own = ~sums.constant & ~sums.zero
            unit = np.where(own, np.sqrt(np.mean(unit[own] ** 2)) if own.any() else 1.0, unit)
        for block in blocks:
            # In place: fresh memory for a second copy would cost as much as all else.
            block.rows[...] /= np.append(unit, target_unit)
            block.residual[...] /= target_unit**2
        return cls(tuple(_merged(blocks)), m, len(unit), unit, target_unit, sums.constant, sums.zero)

    def select(self, tasks: Any) -> TaskStatistics:
        """Return the statistics of some of the tasks (index or boolean array); units stay as they are."""
        chosen = np.zeros(self.n_tasks, dtype=bool)
        chosen[tasks] = True
        position = np.cumsum(chosen) - 1
        blocks = []
        for block in self.blocks:
            kept = chosen[block.tasks]
            if kept.any():
                part = block if kept.all() else Block(*(field[kept] for field in block))
                blocks.append(part._replace(tasks=position[part.tasks]))
        return replace(self, blocks=tuple(blocks), n_tasks=int(chosen.sum()))

    @property
    def total_rows(self) -> float:
        """Number of rows of all tasks, weights counted in."""
        return float(sum(block.weights @ block.counts for block in self.blocks))

    @property
    def total_tasks(self) -> float:
        """Number of tasks, weights counted in."""
        return float(sum(block.weights.sum() for block in self.blocks))


class _Piece(NamedTuple):
    tasks: np.ndarray
    rows: np.ndarray
    """(b, k, p + 1) features and target; a task's real rows come first, zeros after them"""
    weights: np.ndarray | None
    """(b, k), 0 for a padded row; None where all are 1"""


def _pieces(tasks: Source, row_weights: Any) -> Iterator[_Piece]:
    """Yield tasks of like length, a block at a time."""
    if isinstance(tasks, GroupedTable):
        yield from _table_pieces(tasks, _weights(row_weights, (tasks.n_rows,), "row_weights"))
        return
    batches = as_batches(tasks)
    pairs = [row_weights] if isinstance(tasks, TaskBatch) else row_weights
    if row_weights is None:
        pairs = [(None, None)] * len(batches)
    elif len(pairs) != len(batches) or any(len(pair) != 2 for pair in pairs):
        raise InputError("row_weights: give a pair of arrays, of support and of query rows, for each batch.")
    start = 0
    for batch, pair in zip(batches, pairs, strict=True):
        yield from _batch_pieces(batch, pair, start)
        start += batch.n_tasks


def _groups(lengths: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield positions of tasks of like length, so many that their rows, padded to the longest, make one block."""
    order = np.argsort(lengths, kind="stable")
    longest = np.maximum(lengths[order], 1)
    start = 0
    while start < len(order):
        size = min(len(order) - start, max(1, _BLOCK_NUMBERS // int(longest[start] * width)))
        # At most double: tasks much longer than the first wait for the next block.
        size = min(size, int(np.searchsorted(longest[start:], 2 * longest[start], side="right")))
        while size > 1 and size * int(longest[start + size - 1]) * width > _BLOCK_NUMBERS:
            size -= max(1, size // 8)
        yield order[start : start + size]
        start += size


def _batch_pieces(batch: TaskBatch, pair: Any, start: int) -> Iterator[_Piece]:
    m, n_t, p = batch.support_x.shape
    n = n_t + batch.query_x.shape[1]
    plain = batch.support_mask is None and batch.query_mask is None and pair[0] is None and pair[1] is None
    weights = None if plain else _batch_weights(batch, pair)
    lengths = np.full(m, n) if weights is None else (weights > 0).sum(axis=1)
    for part in _groups(lengths, p + 1):
        # Blocks of whole batches are slices, which are copied faster than chosen tasks.
        chosen = slice(part[0], part[-1] + 1) if weights is None else part
        rows = np.empty((len(part), n, p + 1))
        rows[:, :n_t, :p], rows[:, :n_t, p] = batch.support_x[chosen], batch.support_y[chosen]
        rows[:, n_t:, :p], rows[:, n_t:, p] = batch.query_x[chosen], batch.query_y[chosen]
        each = None
        if weights is not None:
            each = weights[part]
            k = max(1, int(lengths[part].max()))
            order = np.argsort(each <= 0, axis=1, kind="stable")[:, :k]
            each = np.take_along_axis(each, order, axis=1)
            # Whatever stands in a padded row must not turn into NaN when it is multiplied by zero.
            rows = np.where(each[..., None] > 0, np.take_along_axis(rows, order[..., None], axis=1), 0.0)
        yield _Piece(part + start, rows, each)


def _batch_weights(batch: TaskBatch, pair: Any) -> np.ndarray:
    parts = []
    for name, given in zip(("support", "query"), pair, strict=True):
        rows, mask = getattr(batch, f"{name}_y"), getattr(batch, f"{name}_mask")
        each = _weights(given, rows.shape, f"row_weights of {name} rows")
        each = np.ones(rows.shape) if each is None else each
        parts.append(each if mask is None else np.where(mask, each, 0.0))
    return np.concatenate(parts, axis=1)


def _table_pieces(table: GroupedTable, row_weights: np.ndarray | None) -> Iterator[_Piece]:
    counts, p = table.counts, table.n_features
    for part in _groups(counts, p + 1):
        slot = np.arange(int(counts[part].max()))
        real = slot < counts[part, None]
        place = table.offsets[part, None] + np.where(real, slot, 0)
        rows = np.concatenate([table.x[place], table.y[place][..., None]], axis=2)
        weights = None if row_weights is None else np.where(real, row_weights[place], 0.0)
        if not real.all():
            rows[~real] = 0.0
            weights = real.astype(np.float64) if weights is None else weights
        yield _Piece(part, rows, weights)


def _weights(given: Any, shape: tuple[int, ...], name: str) -> np.ndarray | None:
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape != shape:
        raise InputError(f"{name} have shape {weights.shape}: it must be {shape}.")
    _check.finite(weights, name)
    if weights.min() < 0:
        raise InputError(f"{name} hold {weights.min():g}: a weight cannot be negative.")
    return weights


class _Sums:
    """Sums of squares, and which columns are constant, over all pieces."""

    def __init__(self, width: int) -> None:
        self._squares = np.zeros(width)
        self._rows = 0.0
        self._first: np.ndarray | None = None
        self._constant = np.zeros(width - 1, dtype=bool)

    def add(self, piece: _Piece, task_weights: np.ndarray | None) -> None:
        """Take in one piece."""
        b, k, width = piece.rows.shape
        flat = piece.rows.reshape(-1, width)
        if piece.weights is None and task_weights is None:
            self._squares += np.einsum("rj,rj->j", flat, flat)
            self._rows += len(flat)
        else:
            rows = np.ones((b, k)) if piece.weights is None else piece.weights
            weights = (rows if task_weights is None else rows * task_weights[:, None]).reshape(-1)
            self._squares += np.einsum("rj,rj,r->j", flat, flat, weights)
            self._rows += float(weights.sum())
            flat = flat[weights > 0]
        if len(flat) and self._first is None:
            self._first = flat[0, :-1].copy()
            self._constant = self._first != 0
        if len(flat) and self._first is not None and self._constant.any():
            columns = np.flatnonzero(self._constant)
            self._constant[columns] = (flat[:, columns] == self._first[columns]).all(axis=0)

    @property
    def constant(self) -> np.ndarray:
        """(p,) whether a feature has one value other than 0 in all rows."""
        return self._constant

    @property
    def zero(self) -> np.ndarray:
        """(p,) whether a feature is 0 in all rows."""
        return self._squares[:-1] == 0

    def units(self, tasks: Source) -> tuple[np.ndarray, float]:
        """Root mean squares of features and target; 1 for one that is zero throughout."""
        if self._rows == 0:
            raise InputError("all weights are 0: no row is left.")
        if not isinstance(tasks, GroupedTable):
            for batch in as_batches(tasks):
                trace_nonfinite(self._squares, batch)
        elif not np.isfinite(self._squares).all():
            raise InputError("squares of the values overflow: standardise the features and the target first.")
        units = np.sqrt(self._squares / self._rows)
        units = np.where(units > 0, units, 1.0)
        return units[:-1], float(units[-1])


def _compressed(piece: _Piece, task_weights: np.ndarray) -> Block:
    b, k, width = piece.rows.shape
    rows, counts, residual = piece.rows, np.full(b, float(k)), np.zeros(b)
    if piece.weights is not None:
        rows = rows * np.sqrt(piece.weights[..., None])
        counts = piece.weights.sum(axis=1)
    if k >= width:
        rows = np.asarray(np.linalg.qr(rows, mode="r"))
        residual = rows[:, -1, -1] ** 2
        rows = np.ascontiguousarray(rows[:, :-1])
    return Block(piece.tasks, rows, counts, residual, task_weights)


def _merged(blocks: list[Block]) -> Iterator[Block]:
    """Yield blocks of as many tasks as fit: compressed, tasks that differed in length are of one length."""
    blocks = sorted(blocks, key=lambda block: block.rows.shape[1])
    while blocks:
        k, size, count = blocks[0].rows.shape[1], 0, 0
        for block in blocks:
            size += block.rows.size
            if block.rows.shape[1] != k or (count and size > _BLOCK_NUMBERS):
                break
            count += 1
        yield (
            blocks[0] if count == 1 else Block(*(np.concatenate(parts) for parts in zip(*blocks[:count], strict=True)))
        )
        blocks = blocks[count:]
