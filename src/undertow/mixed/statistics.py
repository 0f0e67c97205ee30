"""Sufficient statistics of the mixed model: a few rows per task that stand for all of its rows.

The likelihood of a task needs X^T X, X^T y, y^T y and the number of rows n. A task with more rows than features is
replaced by the triangle of an orthogonal factorisation of [X, y]: p rows with the same products, and the sum of squares
that no feature reaches. Products themselves are never formed, since that would square the condition number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.linear.blocks import Tasks, as_batches, trace_nonfinite
from undertow.mixed.pieces import BLOCK_NUMBERS, Piece, batch_pieces, checked_weights, row_pieces
from undertow.tasks import GroupedTable

Source: TypeAlias = Tasks | GroupedTable


class Block(NamedTuple):
    """Tasks of like length, b of them, with k rows each (shorter ones are padded with zeros, which change nothing)."""

    tasks: Int[np.ndarray, " b"]
    """(b,) positions of the tasks"""
    rows: Float[np.ndarray, "b k p1"]
    """(b, k, p + 1) features and target, in units of ``TaskStatistics.unit`` and ``target_unit``"""
    counts: Float[np.ndarray, " b"]
    """(b,) number of rows, or the sum of their weights where these are copies"""
    residual: Float[np.ndarray, " b"]
    """(b,) sum of squares of the targets beyond the k rows"""
    weights: Float[np.ndarray, " b"]
    """(b,) how often each task counts"""

    @property
    def x(self) -> Float[np.ndarray, "b k p"]:
        """(b, k, p) features."""
        return self.rows[..., :-1]


@dataclass(frozen=True)
class TaskStatistics:
    """All that the mixed model needs to know of m tasks: one pass over the rows, whatever is fitted afterwards.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder()).with_intercept()
    >>> statistics = ut.mixed.TaskStatistics.from_tasks(table)
    >>> [round(ut.mixed.fit_mixed(statistics, name).noise_std, 1) for name in ("intercept", "diagonal")]
    [3.2, 1.9]
    """

    blocks: tuple[Block, ...]
    n_tasks: int
    n_features: int
    unit: Float[np.ndarray, " p"]
    """(p,) root mean square of each feature, 1 for one that is zero throughout"""
    target_unit: float
    constant: Bool[np.ndarray, " p"]
    """(p,) whether a feature has one value other than 0 in all rows: an intercept"""
    zero: Bool[np.ndarray, " p"]
    """(p,) whether a feature is 0 in all rows: nothing can be said about its weight"""

    @classmethod
    def from_tasks(
        cls, tasks: Source, row_weights: Any = None, task_weights: Any = None, *, common_unit: bool = False
    ) -> TaskStatistics:
        """Return those of a GroupedTable, a TaskBatch or several; of a batch, support and query rows both count.

        Parameters
        ----------
        row_weights
            for a table (R,), in the order of its rows; for a batch a pair of (m, n_t) and (m, n_v) arrays; for
            several batches a sequence of pairs. A row of weight 2 counts as two equal rows, one of weight 0 not at
            all. The ``support_weight`` of a batch is one more factor of its support rows.
        task_weights
            (m,), for several batches in their order; a task of weight 2 counts as two equal tasks.
        common_unit
            one unit for all features that are not constant, as suits directions of a rotated space.

        Raises
        ------
        InputError
            for shapes that do not fit, negative weights, and values that are not finite.
        """
        if isinstance(tasks, GroupedTable):
            return cls.from_rows(tasks.x, tasks.y, tasks.offsets, row_weights, task_weights, common_unit=common_unit)
        batches = as_batches(tasks)
        m = sum(batch.n_tasks for batch in batches)

        def trace(squares: np.ndarray) -> None:
            for batch in batches:
                trace_nonfinite(squares, batch)

        pairs = [row_weights] if isinstance(tasks, TaskBatch) else row_weights
        return cls._from_pieces(
            batch_pieces(batches, pairs if row_weights is not None else None), m, task_weights, common_unit, trace
        )

    @classmethod
    def from_rows(
        cls,
        x: Float[np.ndarray, "R p"] | Callable[[np.ndarray], np.ndarray],
        y: Float[np.ndarray, " R"],
        offsets: Int[np.ndarray, " m1"],
        row_weights: Any = None,
        task_weights: Any = None,
        *,
        precise: bool = False,
        common_unit: bool = False,
    ) -> TaskStatistics:
        """Return those of R rows sorted by task: task number i has the rows ``offsets[i] : offsets[i + 1]``.

        Parameters
        ----------
        x
            (R, p) features, or a function that returns those (..., p) of the rows at positions (...): it is called
            for one block of tasks at a time, so that no copy of all rows is needed.
        y
            (R,) target.
        offsets
            (m + 1,), from 0 to R; no task is empty.
        row_weights, task_weights, common_unit
            as in ``from_tasks``.
        precise
            whether row weights are precisions, sigma^2 / w the variance of an error: then each row with a weight
            above 0 is one row, whatever its weight.

        Raises
        ------
        InputError
            for shapes that do not fit, negative weights, and values that are not finite.
        """
        y, offsets = np.asarray(y), np.asarray(offsets)
        if y.ndim != 1 or (not callable(x) and (np.ndim(x) != 2 or len(x) != len(y))):
            shape = "a function" if callable(x) else str(np.shape(x))
            raise InputError(None, rule=f"x is {shape} and y {y.shape}: they must be (R, p) and (R,).")
        if (
            offsets.ndim != 1
            or len(offsets) < 2
            or offsets[0] != 0
            or offsets[-1] != len(y)
            or np.diff(offsets).min() < 1
        ):
            raise InputError(
                None,
                rule=f"offsets must rise from 0 to the number of rows, {len(y)}, by at least one row for each task.",
            )

        def trace(squares: np.ndarray) -> None:
            if np.isfinite(squares).all():
                return
            _check.finite(y, "y")
            for first in range(0, len(y), BLOCK_NUMBERS):
                rows = np.arange(first, min(first + BLOCK_NUMBERS, len(y)))
                _check.finite(x(rows) if callable(x) else x[rows], "x")
            raise InputError(
                None,
                rule="The squares of the values overflow.",
                way_out="Standardise the features and the target first.",
            )

        fetch = x if callable(x) else x.__getitem__
        pieces = row_pieces(fetch, y, offsets, checked_weights(row_weights, y.shape, "row_weights"))
        return cls._from_pieces(pieces, len(offsets) - 1, task_weights, common_unit, trace, precise)

    @classmethod
    def _from_pieces(
        cls,
        pieces: Iterator[Piece],
        m: int,
        task_weights: Any,
        common_unit: bool,
        trace: Callable[[np.ndarray], None],
        precise: bool = False,
    ) -> TaskStatistics:
        each = checked_weights(task_weights, (m,), "task_weights")
        blocks, sums = [], None
        for piece in pieces:
            sums = _Sums(piece.rows.shape[2]) if sums is None else sums
            own = np.ones(len(piece.tasks)) if each is None else each[piece.tasks]
            sums.add(piece, None if each is None else own)
            blocks.append(_compressed(piece, own, precise))
        assert sums is not None  # there is at least one task
        trace(sums.squares)
        unit, target_unit = sums.units()
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
    def most_rows(self) -> float:
        """Number of rows, or their weight, of the largest task: what a constant feature's squares sum up to."""
        if not self.constant.any():
            return float(max(block.counts.max() for block in self.blocks))
        column = int(np.flatnonzero(self.constant)[0])
        return float(max((block.rows[..., column] ** 2).sum(axis=1).max() for block in self.blocks))

    @property
    def total_tasks(self) -> float:
        """Number of tasks, weights counted in."""
        return float(sum(block.weights.sum() for block in self.blocks))


class _Sums:
    """Sums of squares, and which columns are constant, over all pieces."""

    def __init__(self, width: int) -> None:
        self._squares = np.zeros(width)
        self._rows = 0.0
        self._first: np.ndarray | None = None
        self._constant = np.zeros(width - 1, dtype=bool)

    def add(self, piece: Piece, task_weights: np.ndarray | None) -> None:
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

    @property
    def squares(self) -> np.ndarray:
        """(p + 1,) sums of squares of features and target."""
        return self._squares

    def units(self) -> tuple[np.ndarray, float]:
        """Root mean squares of features and target; 1 for one that is zero throughout."""
        if self._rows == 0:
            raise InputError(None, rule="All weights are 0: no row is left.", way_out="Give some row a weight.")
        units = np.sqrt(self._squares / self._rows)
        units = np.where(units > 0, units, 1.0)
        return units[:-1], float(units[-1])


def _compressed(piece: Piece, task_weights: np.ndarray, precise: bool) -> Block:
    b, k, width = piece.rows.shape
    rows, counts, residual = piece.rows, np.full(b, float(k)), np.zeros(b)
    if piece.weights is not None:
        rows = rows * np.sqrt(piece.weights[..., None])
        counts = (piece.weights > 0 if precise else piece.weights).sum(axis=1, dtype=np.float64)
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
            if block.rows.shape[1] != k or (count and size > BLOCK_NUMBERS):
                break
            count += 1
        yield (
            blocks[0] if count == 1 else Block(*(np.concatenate(parts) for parts in zip(*blocks[:count], strict=True)))
        )
        blocks = blocks[count:]
