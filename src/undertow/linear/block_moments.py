r"""Moments of blocks of tasks: what cross-validation, influences and a bootstrap over tasks are made of.

Tasks are dealt into folds and each fold into blocks. One pass over the rows gives the Gram matrix of each block (see
``moments``; with q targets the blocks [U_j, u_j] have p + q columns). All else adds and reweights these: a fold's
training problem is the sum of the other folds' blocks, and leaving out or drawing again a block of tasks never goes
back to the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from undertow._batch import TaskBatch
from undertow._types import (
    BlockGrams,
    BlockNumbers,
    Coefficients,
    Gram,
    Numbers,
    PerBlock,
    PerTask,
    RateGrams,
    Square,
    TaskNumbers,
)
from undertow.linear.blocks import chunks, trace_nonfinite
from undertow.linear.moments import Moments, spectral_unit, support_moment

# Blocks are the units of standard errors: more than this adds little to them and costs memory and time.
_MOST_BLOCKS = 75
_MOST_BYTES = 1 << 27


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """Letters: B blocks, p features, q targets, k inner steps."""

    gram: BlockGrams
    """(B, k + 1, p + q, k + 1, p + q) sums of [U_i, u_i]^T [U_j, u_j] over the query rows of each block"""
    weight: PerBlock
    """(B,) total weight of the query rows of each block"""
    folds: BlockNumbers
    """(B,) number of the fold that each block belongs to"""
    support: Square
    """(p, p) sum of S over ``support_tasks`` tasks"""
    support_tasks: float
    n_rows: int
    """number of query rows, in all draws together"""
    n_tasks: int
    n_targets: int
    """q"""
    eps: float
    """unit roundoff of the precision in which the sums were made"""
    weighting: str = "rows"
    """what counts once: each query row, or each of the "tasks" """

    @classmethod
    def from_batches(
        cls,
        batches: Iterable[tuple[TaskBatch, Numbers, PerTask]],
        blocks: Numbers,
        folds: BlockNumbers,
        steps: int,
        weighting: str = "rows",
    ) -> BlockMoments:
        """Make them in one pass over (batch, task numbers (c,), weight of each task's query rows (c,)).

        Targets have shape (c, n, q). blocks: (m,) block of each task. folds: (B,) fold of each block. weighting: how
        the query rows of the batches have been scaled, see ``TaskRows.draw``.
        """
        gram, weight, support = np.zeros((0, 0, 0)), np.zeros(0), np.zeros((0, 0))
        support_tasks, n_rows, q, eps = 0.0, 0, 1, 0.0
        for batch, tasks, task_weight in batches:
            p, q = batch.n_features, batch.support_y.shape[2]
            if not gram.size:
                gram = np.zeros((len(folds), (steps + 1) * (p + q), (steps + 1) * (p + q)))
                weight, support = np.zeros(len(folds)), np.zeros((p, p))
            of_task = blocks[tasks]
            weight += np.bincount(of_task, task_weight, minlength=len(folds))
            for chunk in chunks(batch, steps):
                flat = chunk.rows.reshape(len(chunk.rows), -1)
                eps = float(np.finfo(flat.dtype).eps)
                block = np.repeat(of_task[chunk.tasks], chunk.counts)
                if (np.diff(block) < 0).any():
                    by_block = np.argsort(block, kind="stable")
                    flat, block = flat[by_block], block[by_block]
                ends = np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [len(block)]])
                for start, end in pairwise(ends):
                    part = flat[start:end]
                    gram[block[start]] += part.T @ part
                n_rows += len(flat)
            # No product overflows, or is no number, where none of these is.
            trace_nonfinite(np.diagonal(gram, axis1=1, axis2=2), batch)
            # Of every task, so that the unit does not depend on how tasks are dealt into batches.
            part, number = support_moment(batch, every=True)
            support, support_tasks = support + part, support_tasks + number
        shape = (len(folds), steps + 1, gram.shape[1] // (steps + 1))
        return cls(
            gram=gram.reshape(*shape, *shape[1:]),
            weight=weight,
            folds=folds,
            support=support,
            support_tasks=support_tasks,
            n_rows=n_rows,
            n_tasks=len(blocks),
            n_targets=q,
            eps=eps,
            weighting=weighting,
        )

    @property
    def steps(self) -> int:
        """Number of inner steps, k."""
        return self.gram.shape[1] - 1

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return self.gram.shape[2] - self.n_targets

    @cached_property
    def scale(self) -> float:
        """Spectral unit of the rate: 1 / lambda_max of the mean support second moment (1 when that is zero)."""
        return spectral_unit(self.support, self.support_tasks)

    def __add__(self, other: BlockMoments) -> BlockMoments:
        """Another draw of the same tasks in the same blocks."""
        if not isinstance(other, BlockMoments):
            return NotImplemented
        return replace(
            self,
            gram=self.gram + other.gram,
            weight=self.weight + other.weight,
            support=self.support + other.support,
            support_tasks=self.support_tasks + other.support_tasks,
            n_rows=self.n_rows + other.n_rows,
        )

    def of_folds(self, folds: Sequence[int]) -> Gram:
        """Sum of the Gram matrices of some folds' blocks."""
        return self._of_each_fold[list(folds)].sum(axis=0)

    def without(self, folds: Sequence[int]) -> Gram:
        """Sum of the Gram matrices of all other folds; added up, never subtracted from the whole."""
        return self.of_folds([fold for fold in range(len(self._of_each_fold)) if fold not in folds])

    @cached_property
    def _of_each_fold(self) -> BlockGrams:
        """Sums of the blocks of each fold, since a search asks for those without a fold some hundred times."""
        return np.stack([self.gram[self.folds == fold].sum(axis=0) for fold in range(int(self.folds.max()) + 1)])

    def first(self, steps: int) -> BlockMoments:
        """Return the moments for fewer inner steps, which these contain."""
        return self if steps == self.steps else replace(self, gram=self.gram[:, : steps + 1, :, : steps + 1])

    def moments(self, target: int = 0) -> Moments:
        """Return the moments of all tasks for one target, as ``rate_path`` takes them."""
        p = self.n_features
        columns = [*range(p), p + target]
        return Moments(
            gram=self.gram.sum(axis=0)[:, columns][:, :, :, columns],
            support=self.support,
            support_tasks=self.support_tasks,
            weight=float(self.weight.sum()),
            n_rows=self.n_rows,
            n_tasks=self.n_tasks,
            eps=self.eps,
            weighting=self.weighting,
        )


def deal(folds: Sequence[Numbers], n_numbers: int) -> tuple[TaskNumbers, BlockNumbers]:
    """Deal the tasks of each fold into blocks; return the block of each task (m,) and the fold of each block (B,).

    folds: task numbers of each fold; each task is in one. Blocks of a fold are dealt round robin.
    n_numbers: numbers that the moments of one block hold; with wide tables blocks are fewer, but at least two a fold
        where tasks allow.
    """
    m, n_folds = sum(len(part) for part in folds), len(folds)
    most = min(_MOST_BLOCKS, max(2 * n_folds, _MOST_BYTES // (8 * n_numbers)))
    blocks, of_block = np.empty(m, dtype=np.int64), []
    for fold, part in enumerate(folds):
        size = min(len(part), max(1, most // n_folds))
        blocks[part] = len(of_block) + np.arange(len(part)) % size
        of_block += [fold] * size
    return blocks, np.array(of_block)


def at(gram: Gram, coefficients: Coefficients) -> RateGrams:
    """Return [B, gamma]^T [B, gamma], (k, p + q, p + q), of one Gram matrix at rows of coefficients (k, steps + 1)."""
    width = gram.shape[1]
    pairs = coefficients[:, :, None] * coefficients[:, None, :]
    blocks = gram.transpose(0, 2, 1, 3).reshape(-1, width * width)
    return (pairs.reshape(len(coefficients), -1) @ blocks).reshape(-1, width, width)
