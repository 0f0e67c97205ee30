"""Errors of strategies on held-out tasks: the same rows for all, so that they are compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from undertow._workers import each
from undertow.choice.plan import Family, Found, Plan
from undertow.linear.side_by_side import adapt_side_by_side
from undertow.tasks.rows import of_target

# Tasks of one piece of work: few enough that two workers have the same to do, and so many that they seldom wait for
# each other between the calls (the interpreter runs one of them at a time).
_TASKS = 512


class HeldOut(NamedTuple):
    """Errors on held-out tasks, of m tasks and n strategies."""

    products: np.ndarray
    """(m, n, n) mean product of the errors of two strategies over a task's query rows, draws and targets"""
    at_zero: np.ndarray
    """(m, n, n) the same of the errors without rows of the task, by the common weights of each strategy"""
    weights: np.ndarray
    """(m,) weight of a task's query rows, mean over the draws"""
    numbers: np.ndarray
    """(m,) numbers of the tasks"""
    folds: np.ndarray
    """(m,) their folds"""

    @property
    def mse(self) -> np.ndarray:
        """(m, n) mean squared error of each task under each strategy."""
        return np.diagonal(self.products, axis1=1, axis2=2)


def held_out_errors(
    plan: Plan, strategies: Sequence[str], families: Mapping[str, Family], outer: int | None = None
) -> tuple[HeldOut, list[list[Found]]]:
    """Return the errors of each strategy on tasks that neither its fit nor its tuning has seen, and what was found.

    outer: None for the errors that strategies are judged by, on every task. Of an outer fold: errors on the tasks of
    all others by fits that have not seen that fold either; fewer draws, and on a large table fewer tasks.
    Second: for each tested fold, or inner group, what each strategy was.
    """
    inner, groups = outer is not None, plan.groups(outer)
    keys = [(outer, i) if inner else (group[0], None) for i, group in enumerate(groups)]
    every = each(lambda key: [families[name].found(name, *key) for name in strategies], keys, plan.n_jobs)
    jobs = [
        (found, fold, some)
        for found, group in zip(every, groups, strict=True)
        for fold in group
        for some in _shares(plan.tested(fold, inner))
    ]
    parts = each(lambda job: _of_tasks(plan, *job, inner), jobs, plan.n_jobs)
    return HeldOut(*(np.concatenate(fields) for fields in zip(*parts, strict=True))), every


def _shares(tasks: np.ndarray) -> list[np.ndarray]:
    return np.array_split(tasks, -(-len(tasks) // _TASKS))


def _of_tasks(plan: Plan, found: Sequence[Found], fold: int, chosen: np.ndarray, inner: bool) -> HeldOut:
    (sums, zero), weight = np.zeros((2, len(chosen), len(found), len(found))), np.zeros(len(chosen))
    for batch, tasks, row_weight in plan.draws_of(chosen, inner):
        np.add.at(weight, tasks, row_weight)
        for j in range(plan.n_targets):
            one = of_target(batch, j)
            rules, starts = [s.rules[j] for s in found], np.stack([s.weights[j] for s in found])
            theta = adapt_side_by_side(rules, starts, one)
            errors = one.query_x @ theta - one.query_y[..., None]
            np.add.at(sums, tasks, errors.transpose(0, 2, 1) @ errors)
            if not inner:
                errors = one.query_x @ starts.T.astype(one.query_x.dtype) - one.query_y[..., None]
                np.add.at(zero, tasks, errors.transpose(0, 2, 1) @ errors)
    n_draws = plan.n_inner_draws if inner else plan.n_draws
    products, at_zero = (one / (plan.n_targets * weight[:, None, None]) for one in (sums, zero))
    return HeldOut(products, at_zero, weight / n_draws, chosen, np.full(len(chosen), fold))
