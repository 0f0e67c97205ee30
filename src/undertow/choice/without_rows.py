"""What predicts a task without rows: a blend of common weights, chosen by errors without rows.

Weights that tasks adapt from need not be near the tasks: a mixed model's say little of tasks without rows where
features differ between tasks more than within them. Those of "joint" are trained for such tasks, but they weigh rows as
if tasks had nothing of their own, where a mixed model knows better. So the two are combined, with shares as ``blend``
makes them. The mean of the target is a third part only where it is clearly better than "joint", whose ridge has led
towards it already: a second time costs most on the largest tasks, whose features lie farthest from the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from undertow.choice.blend import blended, shares
from undertow.choice.held_out import HeldOut
from undertow.choice.plan import Found, Plan
from undertow.linear.block_moments import BlockMoments
from undertow.linear.rules import GradientRule
from undertow.tasks.losses import mean_over_tasks

CONSTANT = "constant"
"""In place of a strategy: the mean of the target, or 0 without an intercept."""
# A smaller share is no part of the blend.
_LEAST = 0.02


class ConstantFamily(NamedTuple):
    """The mean of the target, as a family of strategies."""

    plan: Plan
    blocks: BlockMoments

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        """Return the mean without an outer fold and one of its inner groups."""
        weights = constant_weights(self.blocks, self.plan.rows.standard.intercept, self.plan.without(outer, inner))
        return Found(weights, (GradientRule(0.0),) * len(weights), {})

    def settings(self, strategy: str) -> dict[str, float]:
        """Return nothing: there is nothing to choose."""
        return {}


def constant_weights(blocks: BlockMoments, intercept: bool, without: tuple[int, ...] = ()) -> np.ndarray:
    """Return weights (q, d) of the last column alone, where it is an intercept, from all folds but some; else 0."""
    gram, d = blocks.first(0).without(without)[0, :, 0], blocks.n_features
    weights = np.zeros((blocks.n_targets, d))
    if intercept:
        weights[:, -1] = gram[d - 1, d:] / gram[d - 1, d - 1]
    return weights


class AtZero(NamedTuple):
    """A blend of common weights for tasks without rows, and its errors."""

    shares: dict[str, float]
    """of each strategy, chosen on all tasks"""
    of_folds: list[dict[str, float]]
    """the same, chosen without each fold"""
    errors: np.ndarray
    """(m,) of each task, by the shares that were chosen without its fold"""

    def weights(self, of: Callable[[str], np.ndarray], fold: int | None = None) -> np.ndarray:
        """Return the blend of weights (q, d). of: returns those of a strategy; fold: to be left out."""
        return mixed(self.shares if fold is None else self.of_folds[fold], of)


def mixed(parts: Mapping[str, float], of: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return weights (q, d) combined by shares of strategies. of: returns those of a strategy."""
    return np.sum([share * of(name) for name, share in parts.items()], axis=0)


def choose_at_zero(
    held_out: HeldOut, names: Sequence[str], best: str, parts: Sequence[Mapping[str, float]], seed: int
) -> AtZero:
    """Choose the shares of the constant, where it is clearly better than "joint", of that and of the strategy in use.

    names: of the n strategies of ``held_out``; best: the one in use; parts: for each fold what it is made of there.
    """
    weights, folds = held_out.weights / held_out.weights.sum(), held_out.folds
    every = dict.fromkeys((CONSTANT, "joint", best))
    made = np.zeros((len(parts), len(every), len(names)))
    for fold, part in enumerate(parts):
        for i, name in enumerate(every):
            for one, share in (part if name == best else {name: 1.0}).items():
                made[fold, i, names.index(one)] = share
    products = np.einsum("mia,mab,mjb->mij", made[folds], held_out.at_zero, made[folds], optimize=True)

    def chosen(tasks: np.ndarray) -> np.ndarray:
        own, count = products[tasks], weights[tasks]
        less, error = mean_over_tasks(own[:, 1, 1] - own[:, 0, 0], count)
        first = 0 if less > error else 1
        return np.append(np.zeros(first), shares(own[:, first:, first:], count, seed, _LEAST))

    def said(share: np.ndarray) -> dict[str, float]:
        return {name: float(one) for name, one in zip(every, share, strict=True) if one > 0}

    of_folds, errors = [], np.empty(len(folds))
    for fold in range(len(parts)):
        own = folds == fold
        share = chosen(~own)
        of_folds.append(said(share))
        errors[own] = blended(products[own], share)
    return AtZero(said(chosen(np.ones(len(folds), dtype=bool))), of_folds, errors)
