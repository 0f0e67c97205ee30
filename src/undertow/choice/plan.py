r"""The plan of a search: tasks, folds, draws, and which fits may choose for which fold.

The search is nested. What is chosen for an *outer* fold is chosen by errors on the other folds, taken in *inner* groups
(one fold each, unless there are many folds), of fits that have seen neither the group nor the outer fold. These fits
come from sums over all pairs of folds, and the sums are there already. What is chosen for the estimator itself is
chosen by errors on each fold of fits without it.

So a family of strategies is asked for three kinds of fits: of all tasks, ``found(name)``; without an outer fold,
``found(name, outer)``; and without the inner group too, ``found(name, outer, inner)``, tuned on the other groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from undertow._batch import TaskBatch
from undertow.choice.limits import LIMITS, Limits
from undertow.linear.rules import Rule
from undertow.tasks import folds
from undertow.tasks.rows import TaskRows

Tested: TypeAlias = tuple[int | None, tuple[int, ...]]
"""an outer fold, or None, and a group of folds that its choice is made on"""

# Query numbers of batches that are joined: they stay in the second-level cache.
_NUMBERS = 1 << 17
# Numbers of all drawn rows up to which these are kept, about 16 MB.
_KEPT_NUMBERS = 1 << 21


class Found(NamedTuple):
    """What a strategy trains and how it adapts."""

    weights: np.ndarray
    """(q, d) omega of each target"""
    rules: tuple[Rule, ...]
    """rule of each target"""
    settings: dict[str, float]
    """what was chosen: rates, raw and spectral, ratios, ridge, steps"""
    sums: tuple[Any, ...] = ()
    """of each target, what the weights are solved from, where it is not the moments of the gradient rule: RidgeMoments
    at the train ratio, or the ``MeanSums`` of a mixed model of all tasks; none where they are those of "joint" """
    unadapted: np.ndarray | None = None
    """(q, d) what predicts a task without rows, where it is not these weights"""


@runtime_checkable
class Family(Protocol):
    """Strategies that are chosen and trained in the same way."""

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        """Return the strategy chosen and trained without an outer fold and one of its inner groups."""
        ...

    def settings(self, strategy: str) -> dict[str, float]:
        """Return what is chosen on all tasks."""
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
    limits: Limits = LIMITS
    n_jobs: int | None = None
    """number of workers, see ``undertow._workers``; no digit depends on it"""
    weighting: str = "tasks"
    """what counts once in training and in errors, see ``undertow.tasks.losses.WEIGHTINGS``"""

    def draws(
        self, rows: TaskRows, labels: np.ndarray | None = None, inner: bool = False, weighting: str | None = None
    ) -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]:
        """Yield tasks of one label with support and query rows, their numbers, and the weight of their query rows.

        Draws of small batches are taken together, so that calls cost little: the same tasks, once for each draw.
        weighting: None for the plan's.
        """
        how = weighting or self.weighting
        n_draws = self.n_inner_draws if inner else self.n_draws
        seeds = [np.random.SeedSequence(self.seed, spawn_key=(k,)) for k in range(n_draws)]
        for same in zip(*(rows.draw(self.n_support, seed, labels, how) for seed in seeds), strict=True):
            size = max(1, _NUMBERS // same[0][0].query_x.size)
            for first in range(0, n_draws, size):
                yield _joined(same[first : first + size])

    def draws_of(self, tasks: np.ndarray, inner: bool = False) -> Iterable[tuple[TaskBatch, np.ndarray, np.ndarray]]:
        """Yield ``draws`` of some tasks; those of a small table are kept for whoever asks for the same tasks again."""
        n_draws = self.n_inner_draws if inner else self.n_draws
        if len(self.rows.y) * self.rows.n_columns * n_draws > _KEPT_NUMBERS:
            return self.draws(self.rows.select(tasks), inner=inner)
        key = inner, tuple(tasks.tolist())
        if key not in self._kept:
            self._kept[key] = list(self.draws(self.rows.select(tasks), inner=inner))
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[bool, tuple[int, ...]], list[tuple[TaskBatch, np.ndarray, np.ndarray]]]:
        return {}

    @property
    def n_inner_draws(self) -> int:
        """Number of draws that the shares of a blend are chosen by within one outer fold."""
        return max(1, round(self.limits.inner_draws * self.n_draws))

    def tested(self, fold: int, inner: bool = False) -> np.ndarray:
        """Numbers of the tasks that a fold's errors are measured on, evenly spread over it; inner: some of these."""
        most = self.limits.large_tested_tasks if self.is_large else self.limits.tested_tasks
        chosen = evenly(self.folds[fold], math.ceil(most / len(self.folds)))
        if inner and self.is_large:
            chosen = evenly(chosen, math.ceil(self.limits.inner_tested * len(chosen)))
        return chosen

    def groups(self, outer: int | None) -> list[tuple[int, ...]]:
        """Groups of folds that a choice is made on, one after the other: for an outer fold, or for all tasks."""
        others = [fold for fold in range(len(self.folds)) if fold != outer]
        if outer is None or len(self.folds) <= self.limits.pairs:
            return [(fold,) for fold in others]
        n = self.limits.inner_groups
        return [tuple(others[start::n]) for start in range(n)]

    def without(self, outer: int | None, inner: int | None) -> tuple[int, ...]:
        """Folds that a fit must not see."""
        left = () if outer is None else (outer,)
        return left if inner is None else (*left, *self.groups(outer)[inner])

    def shared(self, outer: int | None, inner: int | None) -> tuple[int | None, int | None]:
        """Return the outer fold and inner group that stand for these: of a pair, each is left out for the other."""
        group = () if outer is None or inner is None else self.groups(outer)[inner]
        if outer is None or len(group) != 1 or group[0] > outer or (outer,) not in (back := self.groups(group[0])):
            return outer, inner
        return group[0], back.index((outer,))

    def fits(self) -> list[tuple[tuple[int, ...], dict[Tested, tuple[int, ...]]]]:
        """Return each set of folds that fits are made without, and the folds that these are tested on, by what for."""
        found: dict[tuple[int | None, int | None], dict[Tested, tuple[int, ...]]] = {}
        for outer in (None, *range(len(self.folds))):
            for inner, group in enumerate(self.groups(outer)):
                # A pair of folds serves twice: each of them is the outer fold of the other.
                found.setdefault(self.shared(outer, inner), {})[outer, group] = group
        return [(self.without(*one), tested) for one, tested in found.items()]

    @cached_property
    def is_large(self) -> bool:
        """Whether there are so many tasks and numbers that parts of the search make do with some of the tasks."""
        work = float(len(self.rows.y)) * self.rows.n_columns**2
        return self.rows.n_tasks > self.limits.large_tasks and work > self.limits.large_work

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return self.rows.y.shape[1]


def parts_of(cv: int | list[np.ndarray], rows: TaskRows, seed: int) -> list[np.ndarray]:
    """Return the task numbers of each fold. cv: number of folds, or these numbers themselves."""
    return folds(rows.ids, min(cv, rows.n_tasks), seed) if isinstance(cv, int) else cv


def fold_of_each(everything: TaskRows, rows: TaskRows, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the fold (m,) of each of all tasks: that of ``parts`` of ``rows``, and any for those not among them."""
    fold = np.arange(everything.n_tasks) % len(parts)
    place = np.searchsorted(everything.ids, rows.ids)
    for number, part in enumerate(parts):
        fold[place[part]] = number
    return fold


def default_draws(n_rows: int, n_columns: int, steps: int, most: int, limits: Limits = LIMITS) -> int:
    """Return how often support rows are drawn where nobody says: at most so often, and seldom where rows are many."""
    work = float(n_rows) * ((steps + 1) * (n_columns + 1)) ** 2
    return int(np.clip(limits.work // work, 1, most))


def _joined(drawn: Sequence[tuple[TaskBatch, np.ndarray, np.ndarray]]) -> tuple[TaskBatch, np.ndarray, np.ndarray]:
    if len(drawn) == 1:
        return drawn[0]
    batches, tasks, weights = zip(*drawn, strict=True)
    fields = [None if field[0] is None else np.concatenate(field) for field in zip(*batches, strict=True)]
    return TaskBatch(*fields), np.concatenate(tasks), np.concatenate(weights)


def evenly(part: np.ndarray, most: int) -> np.ndarray:
    """Return at most ``most`` of a fold's tasks, spread evenly; which tasks are in a fold is random already."""
    return part[np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(int)]
