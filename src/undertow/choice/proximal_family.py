"""The proximal rule as a family of strategies: ridge regression towards omega, its ratios chosen from moments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from undertow._batch import TaskBatch
from undertow.choice.plan import Found, Plan, evenly
from undertow.linear.block_moments import BlockMoments, deal
from undertow.linear.proximal_step import RATIOS, RidgeMoments, sum_ridge_moments
from undertow.linear.rules import ProximalRule
from undertow.tasks.rows import of_target

PROXIMAL = ("pooled_ridge", "ridge")

# The proximal rule chooses its ratios on at most this many tasks, each ratio being a pass; it is then trained on all.
_RATIO_TASKS, _RATIO_TASKS_WIDE = 2048, 4096
_MANY_RATIOS = 10**9


class ProximalFamily:
    """Ridge regression towards omega, at training (a ratio, infinity for none) and at adaptation (another)."""

    def __init__(
        self,
        plan: Plan,
        moments: list[list[RidgeMoments]],
        ridges: Sequence[float],
        blocks: BlockMoments | None = None,
    ):
        self.plan = plan
        self.blocks = blocks
        """of all tasks, which hold the moments without an inner loop"""
        self.moments = moments
        """[target][fold]"""
        self.ridges = np.asarray(ridges, dtype=np.float64)
        self.ratios = moments[0][0].ratios
        n_folds, r = len(plan.folds), len(self.ratios)
        self.losses = np.zeros((n_folds, r, r, len(self.ridges)))
        """(fold, adapt ratio, train ratio, ridge) summed loss of the fold's rows"""
        self.weight = np.zeros(n_folds)
        for folds in moments:
            for fold, own in enumerate(folds):
                weights = self._train(folds, fold).solve(self.ridges.tolist()).weights
                losses = own.loss(weights.reshape(-1, weights.shape[-1])).reshape(r, r, len(self.ridges))
                self.losses[fold] += losses * own.weight
                self.weight[fold] += own.weight / len(moments)

    @staticmethod
    def _train(folds: list[RidgeMoments], fold: int | None) -> RidgeMoments:
        return sum_ridge_moments(part for i, part in enumerate(folds) if i != fold)

    def _without_inner_loop(self, blocks: BlockMoments, fold: int | None) -> list[RidgeMoments]:
        """Moments of each target at the ratio infinity, from every task (but those of a fold): rows as they are."""
        rows = blocks.first(0)
        gram = (rows.gram.sum(axis=0) if fold is None else rows.without(fold))[0, :, 0]
        weight = float(rows.weight[rows.folds != fold].sum())
        p, out = rows.n_features, []
        for j in range(rows.n_targets):
            columns = [*range(p), p + j]
            one = gram[np.ix_(columns, columns)][None]
            out.append(RidgeMoments(np.array([math.inf]), one, weight, rows.n_rows, rows.n_tasks, rows.eps))
        return out

    def _read(self, ratio: float) -> list[RidgeMoments]:
        """Moments of each target at one ratio, from every task."""
        parts: list[list[RidgeMoments]] = [[] for _ in self.moments]
        for draw in self.plan.draws(self.plan.rows):
            for batch, _, _ in draw:
                for j, of_j in enumerate(parts):
                    of_j[:] = [sum_ridge_moments([*of_j, RidgeMoments.from_tasks(of_target(batch, j), [ratio])])]
        return [of_j[0] for of_j in parts]

    def pick(self, strategy: str, leave_out: int | None = None) -> tuple[int, int, int]:
        """Return positions of the adapt ratio, the train ratio and the ridge with the least loss."""
        kept = [i for i in range(len(self.losses)) if i != leave_out]
        total = self.losses[kept].sum(axis=0)
        if strategy == "pooled_ridge":
            total = np.where(np.isinf(self.ratios)[None, :, None], total, np.inf)
        adapt, train, ridge = np.unravel_index(int(total.argmin()), total.shape)
        return int(adapt), int(train), int(ridge)

    def found(self, strategy: str, fold: int | None = None) -> Found:
        """Return the strategy chosen and trained on all tasks, or without one fold."""
        adapt, train, ridge = self.pick(strategy, fold)
        ratio = float(self.ratios[train])
        seen = sum(part.n_tasks for part in self.moments[0])
        if seen == self.plan.n_draws * self.plan.rows.n_tasks or (fold is not None and math.isfinite(ratio)):
            trained = [self._train([part.at_ratio(train) for part in folds], fold) for folds in self.moments]
        elif math.isinf(ratio) and self.blocks is not None:
            trained = self._without_inner_loop(self.blocks, fold)
        else:
            trained = self._read(ratio)
        weights = np.stack([one.solve([self.ridges[ridge]]).weights[0, 0] for one in trained])
        rule = ProximalRule(float(self.ratios[adapt]))
        settings = {
            "train_ratio": ratio,
            "adapt_ratio": float(self.ratios[adapt]),
            "ridge": float(self.ridges[ridge]),
        }
        return Found(weights, (rule,) * len(self.moments), settings)


def gather_moments(
    plan: Plan, steps: int, ratios: Sequence[float] | None
) -> tuple[BlockMoments, list[list[RidgeMoments]] | None]:
    """Read the rows once for each draw: moments of blocks, and of the proximal rule by target and fold."""
    numbers = ((steps + 1) * (plan.rows.n_columns + plan.n_targets)) ** 2
    blocks, of_block = deal(plan.folds, numbers)
    fold_of = np.empty(plan.rows.n_tasks, dtype=np.int64)
    for i, part in enumerate(plan.folds):
        fold_of[part] = i
    # The rows of a batch go into all sums while they are in the cache.
    proximal: list[list[list[RidgeMoments]]] = [[[] for _ in plan.folds] for _ in range(plan.n_targets)]

    # Even shares of each fold, whatever the lengths of their tasks; they get labels, and so batches, of their own.
    most = _RATIO_TASKS if plan.rows.n_columns <= 128 else _RATIO_TASKS_WIDE
    most = math.ceil(most / len(plan.folds))
    labels = 2 * fold_of + 1
    for part in plan.folds:
        labels[evenly(part, most)] -= 1

    def batches() -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]:
        for draw in plan.draws(plan.rows, labels):
            for batch, tasks, weight in draw:
                if ratios is not None and labels[tasks[0]] % 2 == 0:
                    for j in range(plan.n_targets):
                        own = proximal[j][fold_of[tasks[0]]]
                        # Summed up at once: of a wide table a list of them would be larger than the table.
                        own[:] = [sum_ridge_moments([*own, RidgeMoments.from_tasks(of_target(batch, j), ratios)])]
                yield batch, tasks, weight

    moments = BlockMoments.from_batches(batches(), blocks, of_block, steps)
    if ratios is None:
        return moments, None
    return moments, [[sum_ridge_moments(parts) for parts in folds] for folds in proximal]


def default_ratios(n_rows: int, n_columns: int) -> tuple[float, ...]:
    """Ratios that are tried: half a decade apart, and a decade apart for large tables, where each costs much."""
    return RATIOS if n_rows * n_columns**2 <= _MANY_RATIOS else (*RATIOS[:-1:2], math.inf)
