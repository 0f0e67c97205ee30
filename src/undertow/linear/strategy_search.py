r"""Strategies of meta-learning tried on the same tasks, and their losses on tasks that neither fit nor choice has seen.

Each family (the gradient rule; the proximal rule; the mixed model) chooses its own rates, penalties and ridge from
additive moments of folds. What a family is worth is then measured task by task: for each fold, it chooses by the losses
of the other folds, its weights are those trained without the fold, and the fold's tasks adapt and are predicted. So
losses of all strategies are on the same rows, and are compared in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from undertow._batch import TaskBatch
from undertow.linear.adaptation import GradientRule, ProximalRule, Rule
from undertow.linear.block_moments import BlockMoments, deal
from undertow.linear.circle import coefficients
from undertow.linear.rate_search import RatePick, RateSearch, search_rates, solve
from undertow.linear.rows import TaskRows, of_target
from undertow.linear.rules import RATIOS, RidgeMoments, sum_ridge_moments
from undertow.linear.select import candidate_rates

GRADIENT = ("joint", "step", "tied", "signed")
PROXIMAL = ("pooled_ridge", "ridge")

# Held-out losses are taken on at most this many tasks, evenly spread over the folds: standard errors are small by then.
_MOST_TASKS = 2000
# A table is large from this many tasks, and rows times columns squared, on.
_LARGE_TASKS = 4000
_LARGE_WORK = 5e7
_LARGE_TESTED = 1000
# The proximal rule chooses its ratios on at most this many tasks, each ratio being a pass; it is then trained on all.
_RATIO_TASKS, _RATIO_TASKS_WIDE = 2048, 4096
_MANY_RATIOS = 10**9


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
        return _evenly(self.folds[fold], max(1, math.ceil(most / len(self.folds))))

    @property
    def is_large(self) -> bool:
        """Whether there are so many tasks and numbers that parts of the search make do with some of the tasks."""
        return self.rows.n_tasks > _LARGE_TASKS and float(len(self.rows.y)) * self.rows.n_columns**2 > _LARGE_WORK

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return self.rows.y.shape[1]


class GradientFamily:
    """Signed rates: no inner loop, one tied rate, or a free one."""

    def __init__(self, plan: Plan, moments: BlockMoments, ridges: Sequence[float], steps: Sequence[int], n_rates: int):
        self.moments = moments
        self.rates = candidate_rates(moments.scale, n_rates)
        self.ridges = np.asarray(ridges, dtype=np.float64)
        self.searches: dict[int, RateSearch] = {
            k: search_rates(moments.first(k), self.rates, self.ridges) for k in sorted(set(steps))
        }

    def pick(self, strategy: str, leave_out: int | None = None) -> RatePick:
        """Return the best rates, ridge and number of steps."""
        picks = [search.pick(strategy, leave_out) for search in self.searches.values()]
        return min(picks, key=lambda one: one.loss)

    def found(self, strategy: str, fold: int | None = None) -> Found:
        """Return the strategy chosen and trained on all tasks, or without one fold."""
        best = self.pick(strategy, fold)
        moments = self.moments.first(best.steps)
        gram = moments.gram.sum(axis=0) if fold is None else moments.without(fold)
        # The raw rate means the same in every fold, whose own spectral units differ a little.
        c, _ = coefficients(np.array([best.train_rate]), moments.scale, best.steps)
        weights = solve(gram, moments.n_targets, c, np.array([best.ridge]), moments.eps)[0, 0]
        rule = GradientRule(best.adapt_rate, best.steps)
        settings = {
            "train_rate": best.train_rate,
            "adapt_rate": best.adapt_rate,
            "ridge": best.ridge,
            "steps": best.steps,
        }
        return Found(weights, (rule,) * moments.n_targets, settings)


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
        labels[_evenly(part, most)] -= 1

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


class HeldOut(NamedTuple):
    """Errors on held-out tasks, of m tasks and n strategies."""

    products: np.ndarray
    """(m, n, n) half the mean product of the errors of two strategies over a task's query rows, draws and targets"""
    weights: np.ndarray
    """(m,) weight of a task's query rows, all draws together"""
    numbers: np.ndarray
    """(m,) numbers of the tasks"""
    folds: np.ndarray
    """(m,) their folds"""

    @property
    def losses(self) -> np.ndarray:
        """(m, n) half the mean squared error of each task under each strategy."""
        return np.diagonal(self.products, axis1=1, axis2=2)


def held_out_errors(plan: Plan, strategies: Sequence[str], families: Mapping[str, Family]) -> HeldOut:
    """Return the errors of each strategy on held-out tasks, chosen and trained without their fold."""
    q = plan.n_targets
    parts = []
    for fold in range(len(plan.folds)):
        chosen = plan.tested(fold)
        found = [families[name].found(name, fold) for name in strategies]
        rows = plan.rows.select(chosen)
        sums, weight = np.zeros((len(chosen), len(found), len(found))), np.zeros(len(chosen))
        for draw in plan.draws(rows):
            for batch, tasks, row_weight in draw:
                weight[tasks] += row_weight
                for j in range(q):
                    one = of_target(batch, j)
                    errors = np.empty((len(tasks), len(found), one.query_x.shape[1]))
                    for column, strategy in enumerate(found):
                        theta = strategy.rules[j].adapt(strategy.weights[j].astype(batch.query_x.dtype), one)
                        np.subtract((one.query_x @ theta[..., None])[..., 0], one.query_y, out=errors[:, column])
                    sums[tasks] += 0.5 * (errors @ errors.transpose(0, 2, 1))
        parts.append(HeldOut(sums / (q * weight[:, None, None]), weight, chosen, np.full(len(chosen), fold)))
    return HeldOut(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _evenly(part: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of a fold's tasks, spread evenly; which tasks are in a fold is random already."""
    return part[np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(int)]


def default_ratios(n_rows: int, n_columns: int) -> tuple[float, ...]:
    """Ratios that are tried: half a decade apart, and a decade apart for large tables, where each costs much."""
    return RATIOS if n_rows * n_columns**2 <= _MANY_RATIOS else (*RATIOS[:-1:2], math.inf)
