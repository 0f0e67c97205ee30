"""Errors of strategies on held-out tasks: the same rows for all, so that they are compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from undertow.choice.plan import Family, Plan
from undertow.tasks.rows import of_target


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
