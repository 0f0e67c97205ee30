"""The structure of the task covariance, chosen by what it predicts: cross-validation over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow.mixed.model import STRUCTURES, MixedFit, fit_mixed, shrunk_fit
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable, folds
from undertow.tasks.losses import balance, query_losses

# Of the diagonal fit in a full covariance.
SHARES = (0.25, 0.5, 0.75)

# A full covariance has p (p + 1) / 2 numbers, and its search is as long: beyond this many features it is not tried.
_FULL_FEATURES = 32

# With more features, steps of the search for their variances become slow and many.
_DIAGONAL_FEATURES = 160

# To compare structures, variances from this many tasks are as good as from all.
_FOLD_TASKS = 1000


@dataclass(frozen=True, eq=False)
class MixedChoice:
    """A mixed model whose structure was chosen by cross-validation over tasks."""

    fit: MixedFit
    """the chosen model, fitted to all tasks"""
    name: str
    """which candidate it is, such as "diagonal" or "full, 50 % diagonal" """
    names: tuple[str, ...]
    """(c,) the candidates"""
    task_losses: np.ndarray
    """(m', c) half mean squared error on query rows of each task that has any, held out, under each candidate"""
    task_rows: np.ndarray
    """(m',) query rows of these tasks"""

    @property
    def losses(self) -> np.ndarray:
        """(c,) cross-validated loss of each candidate; a task of r query rows counts r / (r + 10)."""
        return balance(self.task_rows) @ self.task_losses


def choose_mixed(
    table: GroupedTable,
    n_support: int = 5,
    *,
    structures: Sequence[str] | None = None,
    n_folds: int = 10,
    n_draws: int | None = None,
    method: str = "reml",
    max_tasks: int = 2000,
    row_weights: Any = None,
    task_weights: Any = None,
    seed: int = 0,
) -> MixedChoice:
    """Fit the mixed model with the structure that predicts held-out tasks best from ``n_support`` of their rows.

    structures: names from ``STRUCTURES``; None for all that apply: a full covariance for at most 32 features, a
        diagonal one for at most 160 and five rows for each. Where "diagonal" and "full" are tried, so are mixtures of
        the two.
    n_draws: random draws of support rows of each held-out task; None for 2 to 20, more for fewer tasks. Tasks with no
        row to spare serve the fits only.
    method, max_tasks, row_weights, task_weights: as in ``fit_mixed``; the losses are not weighted.

    Raises InputError for too few tasks or rows.
    """
    n_draws = min(max(2, 4000 // table.n_tasks), 20) if n_draws is None else _check.positive_int(n_draws, "n_draws")
    stats = TaskStatistics.from_tasks(table, row_weights, task_weights)
    names = tuple(structures) if structures is not None else _default_structures(stats)
    for name in names:
        _check.one_of(name, "structures", STRUCTURES)
    big = np.flatnonzero(table.counts > n_support)
    if len(big) < 2:
        raise InputError(
            f"{len(big)} of {table.n_tasks} tasks have more than n_support={n_support} rows: choosing needs two. Use "
            "fewer support rows, or fit_mixed with a structure of your choice."
        )
    whole = {name: fit_mixed(stats, name, method=method, max_tasks=max_tasks, seed=seed) for name in names}
    losses: list[np.ndarray] = []
    order: list[np.ndarray] = []
    for part in folds(table.ids[big], min(n_folds, len(big)), seed):
        held_out = np.zeros(table.n_tasks, dtype=bool)
        held_out[big[part]] = True
        others = stats.select(~held_out)
        # From the fit to all tasks each fold needs few steps; a hundredth of log-likelihood changes no prediction.
        fits = {
            name: fit_mixed(
                others, name, method=method, max_tasks=min(max_tasks, _FOLD_TASKS), near=fit, tolerance=1e-2, seed=seed
            )
            for name, fit in whole.items()
        }
        losses.append(_losses(table.select(held_out), n_support, n_draws, seed, list(_mixtures(others, fits).values())))
        order.append(part)
    candidates = _mixtures(stats, whole)
    place = np.argsort(np.concatenate(order))
    task_losses = np.concatenate(losses)[place]
    rows = (table.counts[big] - n_support).astype(float)
    best = tuple(candidates)[int((balance(rows) @ task_losses).argmin())]
    return MixedChoice(candidates[best], best, tuple(candidates), task_losses, rows)


def _default_structures(stats: TaskStatistics) -> tuple[str, ...]:
    skipped = set() if stats.constant.any() else {"intercept"}
    if stats.n_features > _FULL_FEATURES:
        skipped.add("full")
    # One variance for each feature needs several rows for each, or the spread of weights explains away all noise.
    if stats.n_features > min(stats.total_rows / 5, _DIAGONAL_FEATURES):
        skipped |= {"diagonal", "full"}
    return tuple(name for name in STRUCTURES if name not in skipped)


def _mixtures(stats: TaskStatistics, fits: dict[str, MixedFit]) -> dict[str, MixedFit]:
    """The fits, and mixtures of the full and the diagonal one where both are there."""
    if "diagonal" not in fits or "full" not in fits:
        return fits
    return fits | {
        f"full, {share:.0%} diagonal": shrunk_fit(stats, fits["full"], fits["diagonal"], share) for share in SHARES
    }


def _losses(table: GroupedTable, n_support: int, n_draws: int, seed: int, fits: list[MixedFit]) -> np.ndarray:
    total = np.zeros((table.n_tasks, len(fits)))
    for k in range(n_draws):
        for batch in table.draw_buckets(n_support, np.random.SeedSequence(seed, spawn_key=(k,))):
            place = np.searchsorted(table.ids, batch.ids)
            total[place] += np.stack([query_losses(batch, fit.adapt(batch)) for fit in fits], axis=1)
    return total / n_draws
