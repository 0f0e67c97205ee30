"""The proximal rule as a family of strategies: ridge regression towards omega, its ratios chosen from moments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from undertow._batch import TaskBatch
from undertow._workers import each
from undertow.choice.gram_path import solutions, solve
from undertow.choice.plan import Found, Plan, Tested, evenly
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
        self.blocks = None if blocks is None else blocks.first(0)
        """moments of all tasks without an inner loop"""
        self.ridges = np.asarray(ridges, dtype=np.float64)
        self.ratios = moments[0][0].ratios
        shape = (len(self.ratios), len(self.ratios), len(self.ridges))

        def losses(fit: tuple[tuple[int, ...], dict[Tested, tuple[int, ...]]]) -> dict[Tested, np.ndarray]:
            sums = {key: np.zeros(shape) for key in fit[1]}
            for folds in moments:
                train = self._train(folds, fit[0])
                flat = solutions(train.gram, 1, self.ridges, train.eps).reshape(-1, train.n_features)
                for key, those in fit[1].items():
                    own = sum_ridge_moments(folds[fold] for fold in those)
                    sums[key] += own.loss(flat).reshape(shape) * own.weight
            return sums

        every = each(losses, plan.fits(), plan.n_jobs)
        self._losses = {key: value for part in every for key, value in part.items()}

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
        one_rate, own = np.ones((1, 1)), self.ridges[[ridge]]
        weights = np.stack([solve(one.gram[:, :, None], 1, one_rate, own, one.eps)[0, 0, 0] for one in trained])
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
    # The proximal rule's ratios are chosen on even shares of each fold, whatever the lengths of their tasks; these get
    # a label, and so batches, of their own.
    limits, n_targets = plan.limits, plan.n_targets
    most = limits.ratio_tasks if plan.rows.n_columns <= limits.wide else limits.ratio_tasks_wide
    labels = np.ones(plan.rows.n_tasks, dtype=np.int64)
    for part in plan.folds:
        labels[evenly(part, math.ceil(most / len(plan.folds)))] = 0

    def read(share: np.ndarray) -> tuple[BlockMoments, list[list[RidgeMoments]]]:
        tasks = np.flatnonzero(np.isin(blocks, share))
        label, proximal = labels[tasks], [[] for _ in range(n_targets)]
        if plan.is_large:  # many tasks of one block in a row make one product
            label = np.where(label == 0, 0, 1 + blocks[tasks])

        def batches() -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]:
            # Of one label they are those that errors are measured on.
            drawn = plan.draws(plan.rows.select(tasks), label) if label.any() else plan.draws_of(tasks)
            for batch, numbers, weight in drawn:
                # The rows of a batch go into all sums while they are in the cache.
                for j, own in enumerate(proximal if label[numbers[0]] == 0 else []):
                    if ratios is None:
                        break
                    # Summed up at once: of a wide table a list of them would be larger than the table.
                    own[:] = [sum_ridge_moments([*own, RidgeMoments.from_tasks(of_target(batch, j), ratios)])]
                yield batch, numbers, weight

        own = blocks[tasks] - share[0], of_block[share], steps, plan.weighting
        return BlockMoments.from_batches(batches(), *own), proximal

    # Shares of a fold, so many that two workers have the same to do.
    n_shares = 2 if plan.is_large else 1
    of_each = [np.flatnonzero(of_block == fold) for fold in range(len(plan.folds))]
    shares = [share for own in of_each for share in np.array_split(own, min(n_shares, len(own)))]
    parts = each(read, shares, plan.n_jobs)
    moments = joined([part for part, _ in parts])
    if ratios is None:
        return moments, None
    of_fold = [of_block[share[0]] for share in shares]
    return moments, [
        [
            sum_ridge_moments(x for at, (_, own) in zip(of_fold, parts, strict=True) if at == fold for x in own[j])
            for fold in range(len(plan.folds))
        ]
        for j in range(n_targets)
    ]


def joined(parts: Sequence[BlockMoments]) -> BlockMoments:
    """Return the moments of the blocks of all parts, one after the other."""
    return replace(
        parts[0],
        gram=np.concatenate([part.gram for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        support=np.sum([part.support for part in parts], axis=0),
        support_tasks=sum(part.support_tasks for part in parts),
        n_rows=sum(part.n_rows for part in parts),
        n_tasks=sum(part.n_tasks for part in parts),
    )


def default_ratios(plan: Plan) -> tuple[float, ...]:
    """Ratios that are tried: half a decade apart, and a decade apart for large tables, where each costs much."""
    many = len(plan.rows.y) * plan.rows.n_columns**2 > plan.limits.many_ratios
    return (*RATIOS[:-1:2], math.inf) if many else RATIOS
