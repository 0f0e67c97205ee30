"""Errors of strategies on held-out tasks: the same rows for all, so that they are compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from undertow.choice.plan import Family, Found, Plan
from undertow.linear.side_by_side import adapt_side_by_side
from undertow.tasks.rows import of_target


class HeldOut(NamedTuple):
    """Errors on held-out tasks, of m tasks and n strategies."""

    products: np.ndarray
    """(m, n, n) mean product of the errors of two strategies over a task's query rows, draws and targets"""
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
    parts, every = [], []
    for i, group in enumerate(plan.groups(outer)):
        if outer is None:
            found = [families[name].found(name, group[0]) for name in strategies]
        else:
            found = [families[name].found(name, outer, i) for name in strategies]
        every.append(found)
        parts += [_of_fold(plan, found, fold, outer is not None) for fold in group]
    return HeldOut(*(np.concatenate(fields) for fields in zip(*parts, strict=True))), every


def _of_fold(plan: Plan, found: Sequence[Found], fold: int, inner: bool) -> HeldOut:
    chosen = plan.tested(fold, inner)
    rows = plan.rows.select(chosen)
    sums, weight = np.zeros((len(chosen), len(found), len(found))), np.zeros(len(chosen))
    for batch, tasks, row_weight in plan.draws(rows, inner=inner):
        np.add.at(weight, tasks, row_weight)
        for j in range(plan.n_targets):
            one = of_target(batch, j)
            rules, starts = [s.rules[j] for s in found], np.stack([s.weights[j] for s in found])
            theta = adapt_side_by_side(rules, starts, one)
            errors = one.query_x @ theta - one.query_y[..., None]
            np.add.at(sums, tasks, errors.transpose(0, 2, 1) @ errors)
    n_draws = plan.n_inner_draws if inner else plan.n_draws
    products = sums / (plan.n_targets * weight[:, None, None])
    return HeldOut(products, weight / n_draws, chosen, np.full(len(chosen), fold))
