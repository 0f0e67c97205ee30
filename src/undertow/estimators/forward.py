"""Errors of later tasks under fits to earlier ones, where tasks have an order in time, such as weeks or cohorts.

Random folds let later tasks help to predict earlier ones, which is right where a new task is one of the same kind, and
flatters where tasks drift. So the whole fit is made again for each of some blocks of the last third of the tasks, from
the tasks before it alone: its units, choice, curve and levels have seen nothing of what comes later.
"""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from undertow._check import InputError
from undertow.estimators.fitted import FittedModel
from undertow.tasks.losses import mean_over_tasks, t_quantile
from undertow.tasks.rows import TaskRows, of_target

# Blocks where folds are no number.
_BLOCKS = 5
# Share of the tasks that are judged: where they drift, an error long ago is not that of tasks to come, and earlier fits
# have fewer tasks than the model.
_LATER = 1 / 3
# A search needs three tasks that are large enough.
_LEAST = 3


class Later(NamedTuple):
    """Errors of m' later tasks, in units of the target's variance."""

    mse: np.ndarray
    """(m',) by fits to the tasks before their block, with ``n_support`` rows of the task"""
    mse_at_zero: np.ndarray
    """(m',) the same without rows of the task"""
    on_random_folds: np.ndarray
    """(m',) as ``held_out_`` has them"""
    weights: np.ndarray
    """(m',)"""
    n_blocks: int
    level: float
    """of the interval"""

    def to_dict(self) -> dict[str, float]:
        """Return means, standard errors and the interval of the difference from random folds."""
        mse, error = mean_over_tasks(self.mse, self.weights)
        gap, gap_error = mean_over_tasks(self.mse - self.on_random_folds, self.weights)
        half = t_quantile(self.weights, self.level) * gap_error
        return {
            "mse": mse,
            "standard_error": error,
            "mse_at_zero": float(np.average(self.mse_at_zero, weights=self.weights)),
            "mse_on_random_folds": float(np.average(self.on_random_folds, weights=self.weights)),
            "difference": gap,
            "difference_low": gap - half,
            "difference_high": gap + half,
            "n_tasks": float(len(self.mse)),
            "n_blocks": float(self.n_blocks),
        }


def blocks_of(moments: np.ndarray, n_blocks: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (earlier, later) tasks, (m,) flags each, for every block of the last third. moments: (m,) of each task.

    Tasks of one moment are never parted: what is earlier is strictly earlier.
    """
    m = len(moments)
    place = np.round((1 - _LATER) * m + np.arange(n_blocks) * _LATER * m / n_blocks).astype(int)
    cuts = np.unique(np.sort(moments)[np.minimum(place, m - 1)])
    ends = np.append(cuts[1:].astype(float), math.inf)
    return [(moments < low, (moments >= low) & (moments < high)) for low, high in zip(cuts, ends, strict=True)]


def require_search(estimator: Any, moments: np.ndarray | None) -> None:
    """Raise InputError where tasks are in order and an estimator has no held-out errors."""
    if moments is not None and not hasattr(estimator, "cv"):
        rule = f"a {type(estimator).__name__} measures no errors on held-out tasks."
        raise InputError("task_order", "...", rule, "Leave it out, or use an estimator with CV.")


def later_errors(
    estimator: Any,
    everything: TaskRows,
    targets: np.ndarray,
    second: tuple[np.ndarray, np.ndarray] | None,
    moments: Any,
) -> Later:
    """Return the errors of later tasks under fits of a fitted estimator's kind to earlier ones.

    everything: all rows as it was fitted to; targets: (R, q) of these in the user's units; second: as in
    ``_fit_sorted``; moments: (R,) a task's is the first of its rows. Raises InputError where too few come before.
    """
    held_out: Any = estimator.held_out_
    first = np.minimum.reduceat(moments, everything.offsets[:-1])
    known = np.isin(everything.ids, held_out.task_ids if held_out is not None else [])
    n_blocks = int(estimator.cv) if isinstance(estimator.cv, Integral) else _BLOCKS
    blocks = [(early, late & known) for early, late in blocks_of(first, n_blocks)]
    blocks = [(early, late) for early, late in blocks if (early & known).sum() >= _LEAST and late.any()]
    if not blocks:
        rule = f"of {known.sum()} tasks that are large enough, no last third has {_LEAST} or more strictly before it."
        raise InputError("task_order", "...", rule, "Leave it out, or give more moments.")
    assert held_out is not None
    found = []
    for early, late in blocks:
        model = _fitted(estimator, everything, targets, second, early)
        y = targets
        if model.levels is not None and second is not None:
            y = targets - model.levels.of(second[0][second[1]], len(targets)).astype(targets.dtype)
        rows = TaskRows(**(vars(everything) | {"standard": model.standard, "y": model.standard.targets(y)}))
        found.append((np.flatnonzero(late), *_errors(estimator, model, rows.select(late), everything.standard)))
    numbers, mse, zero, weights = (np.concatenate(field) for field in zip(*found, strict=True))
    order = np.argsort(numbers)
    sorter = np.argsort(held_out.task_ids)
    where = sorter[np.searchsorted(held_out.task_ids, everything.ids[numbers[order]], sorter=sorter)]
    random = held_out.of(estimator.strategy_)[where]
    return Later(mse[order], zero[order], random, weights[order], len(blocks), estimator.level)


def _fitted(
    estimator: Any,
    everything: TaskRows,
    targets: np.ndarray,
    second: tuple[np.ndarray, np.ndarray] | None,
    tasks: np.ndarray,
) -> FittedModel:
    """The estimator's model fitted to some tasks, (m,) flags, alone."""
    rows = np.repeat(tasks, everything.counts)
    place = (everything.rows if everything.places is None else everything.places)[rows]
    other: Any = clone(estimator)
    for name in ("targets_", "seed_", "weight_unit_", "classes_"):
        if hasattr(estimator, name):
            setattr(other, name, getattr(estimator, name))
    if second is not None:
        used, codes = np.unique(second[1][rows], return_inverse=True)
        second = second[0][used], codes
    with warnings.catch_warnings():
        # The fit to all tasks has said them.
        warnings.simplefilter("ignore")
        other._fit_sorted(
            everything.x[place],
            targets[rows],
            None if everything.weights is None else everything.weights[rows],
            np.concatenate([[0], np.cumsum(everything.counts[tasks])]),
            everything.ids[tasks],
            everything.rows[rows],
            places=np.arange(len(place)),
            second=second,
        )
    return other.model_


def _errors(estimator: Any, model: FittedModel, rows: TaskRows, unit: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (c,) of tasks with and without rows, by the draws of the search, and their weights (c,)."""
    (sums, zero), weight = np.zeros((2, rows.n_tasks)), np.zeros(rows.n_tasks)
    scale = (model.standard.target_spread / unit.target_spread) ** 2
    for k in range(estimator.n_draws_):
        seed = np.random.SeedSequence(estimator.seed_, spawn_key=(k,))
        for batch, tasks, row_weight in rows.draw(estimator.n_support, seed, None, estimator.weighting):
            weight[tasks] += row_weight
            for j in range(model.n_targets):
                one = of_target(batch, j)
                theta = model.adapt_each(batch, j)
                for total, weights in ((sums, theta), (zero, np.broadcast_to(model.alone[j], theta.shape))):
                    error = np.einsum("cnd,cd->cn", one.query_x, weights) - one.query_y
                    total[tasks] += scale[j] * (error**2).sum(axis=1)
    by = model.n_targets * weight
    return sums / by, zero / by, weight / estimator.n_draws_
