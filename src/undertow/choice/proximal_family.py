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
"""Strategies: no inner loop in training; the same rule, with a ratio of its own, in training too."""


class ProximalFamily:
    """Ridge regression towards omega, at training (a ratio, infinity for none) and at adaptation (another)."""

    def __init__(
        self, plan: Plan, moments: list[list[RidgeMoments]], ridges: Sequence[float], blocks: BlockMoments | None = None
    ):
        self.plan = plan
        self.moments = moments
        """[target][fold]"""
        self.blocks = blocks
        """of all tasks, which hold the moments without an inner loop"""
        self.ridges = np.asarray(ridges, dtype=np.float64)
        self.ratios = moments[0][0].ratios
        shape = (len(self.ratios), len(self.ratios), len(self.ridges))
        self._losses: dict[tuple[int | None, tuple[int, ...]], np.ndarray] = {}
        for outer in (None, *range(len(plan.folds))):
            for group in plan.groups(outer):
                if (outer, group) in self._losses:
                    continue
                tested: dict[tuple[int | None, tuple[int, ...]], tuple[int, ...]] = {(outer, group): group}
                if outer is not None and len(group) == 1 and (outer,) in plan.groups(group[0]):
                    # A pair of folds serves twice: each of them is the outer fold of the other.
                    tested[group[0], (outer,)] = (outer,)
                sums = {key: np.zeros(shape) for key in tested}
                left_out = group if outer is None else (outer, *group)
                for folds in moments:
                    weights = self._train(folds, left_out).solve(self.ridges.tolist()).weights
                    flat = weights.reshape(-1, weights.shape[-1])
                    for key, those in tested.items():
                        own = sum_ridge_moments(folds[fold] for fold in those)
                        sums[key] += own.loss(flat).reshape(shape) * own.weight
                self._losses |= sums

    @staticmethod
    def _train(folds: list[RidgeMoments], without: tuple[int, ...]) -> RidgeMoments:
        return sum_ridge_moments(part for i, part in enumerate(folds) if i not in without)

    def losses(self, outer: int | None = None, inner: int | None = None) -> np.ndarray:
        """Return summed losses (adapt ratio, train ratio, ridge) of the groups that may choose; see ``plan``."""
        groups = self.plan.groups(outer)
        return np.sum([self._losses[outer, group] for i, group in enumerate(groups) if i != inner], axis=0)

    def _read(self, ratio: float) -> list[RidgeMoments]:
        """Moments of each target at one ratio, from every task."""
        parts: list[list[RidgeMoments]] = [[] for _ in self.moments]
        for batch, _, _ in self.plan.draws(self.plan.rows):
            for j, of_j in enumerate(parts):
                of_j[:] = [sum_ridge_moments([*of_j, RidgeMoments.from_tasks(of_target(batch, j), [ratio])])]
        return [of_j[0] for of_j in parts]

    def pick(self, strategy: str, outer: int | None = None, inner: int | None = None) -> tuple[int, int, int]:
        """Return positions of the adapt ratio, the train ratio and the ridge with the least loss."""
        total = self.losses(outer, inner)
        if strategy == "pooled_ridge":
            total = np.where(np.isinf(self.ratios)[None, :, None], total, np.inf)
        adapt, train, ridge = np.unravel_index(int(total.argmin()), total.shape)
        return int(adapt), int(train), int(ridge)

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        """Return the strategy chosen and trained without an outer fold and one of its inner groups."""
        return self.trained(self.pick(strategy, outer, inner), outer, inner)

    def trained(self, best: tuple[int, int, int], outer: int | None = None, inner: int | None = None) -> Found:
        """Return what given ratios and ridge, by their positions, train without a fold and one of its groups."""
        adapt, train, ridge = best
        ratio, without = float(self.ratios[train]), self.plan.without(outer, inner)
        seen = sum(part.n_tasks for part in self.moments[0])
        if seen == self.plan.n_draws * self.plan.rows.n_tasks or (without and math.isfinite(ratio)):
            trained = [self._train([part.at_ratio(train) for part in folds], without) for folds in self.moments]
        elif math.isinf(ratio) and self.blocks is not None:
            trained = without_inner_loop(self.blocks, without)
        else:
            trained = self._read(ratio)
        weights = np.stack([one.solve([self.ridges[ridge]]).weights[0, 0] for one in trained])
        rule = ProximalRule(float(self.ratios[adapt]))
        sums = tuple(trained) if math.isfinite(ratio) else ()
        return Found(weights, (rule,) * len(self.moments), self._settings(adapt, train, ridge), sums)

    def settings(self, strategy: str) -> dict[str, float]:
        """Return what is chosen on all tasks."""
        return self._settings(*self.pick(strategy))

    def _settings(self, adapt: int, train: int, ridge: int) -> dict[str, float]:
        return {
            "train_ratio": float(self.ratios[train]),
            "adapt_ratio": float(self.ratios[adapt]),
            "ridge": float(self.ridges[ridge]),
        }


def without_inner_loop(blocks: BlockMoments, without: tuple[int, ...] = ()) -> list[RidgeMoments]:
    """Return moments of each target at the ratio infinity, of all folds but some: rows as they are."""
    rows = blocks.first(0)
    gram = rows.without(without)[0, :, 0]
    weight = float(rows.weight[~np.isin(rows.folds, without)].sum())
    p, out = rows.n_features, []
    for j in range(rows.n_targets):
        columns = [*range(p), p + j]
        one = gram[np.ix_(columns, columns)][None]
        out.append(RidgeMoments(np.array([math.inf]), one, weight, rows.n_rows, rows.n_tasks, rows.eps))
    return out


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
    limits = plan.limits
    most = limits.ratio_tasks if plan.rows.n_columns <= limits.wide else limits.ratio_tasks_wide
    most = math.ceil(most / len(plan.folds))
    labels = 2 * fold_of + 1
    for part in plan.folds:
        labels[evenly(part, most)] -= 1

    def batches() -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]:
        for batch, tasks, weight in plan.draws(plan.rows, labels):
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


def default_ratios(plan: Plan) -> tuple[float, ...]:
    """Ratios that are tried: half a decade apart, and a decade apart for large tables, where each costs much."""
    many = len(plan.rows.y) * plan.rows.n_columns**2 > plan.limits.many_ratios
    return (*RATIOS[:-1:2], math.inf) if many else RATIOS
