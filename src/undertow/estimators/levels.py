"""A second grouping of the rows: one more random intercept, taken off the target before all else and put back after.

Levels are predicted by ``undertow.mixed.levels``. For training, those of a fold's rows are predicted from the other
folds' rows, so that a held-out error has seen nothing of its fold, and what a prediction of a level leaves is part of
the spread and the noise that strategies learn. Known tasks and new ones have the levels that all rows predict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from undertow._check import InputError
from undertow.choice.plan import fold_of_each, parts_of
from undertow.choice.uncertainty import Uncertainty
from undertow.estimators.inputs import group_values, task_folds
from undertow.estimators.linked import has_link
from undertow.mixed.levels import LevelFit, LevelRows, fit_levels
from undertow.tasks import labels
from undertow.tasks.rows import TaskRows

# Without a search: so many parts of the tasks.
_PARTS = 5


@dataclass(frozen=True, eq=False)
class Levels:
    """Letters: L levels, q targets, R rows. In the targets' units."""

    ids: np.ndarray
    """(L,) what they are called"""
    effects: np.ndarray
    """(q, L) prediction of each"""
    variances: np.ndarray
    """(q,) of levels, which one that is not known has"""

    def of(self, values: Any, n_rows: int) -> np.ndarray:
        """Return what the levels ``values`` (R,) add to the targets, (R, q); 0 where they are not known, or None."""
        place = self._places(values, n_rows)
        # The place -1 is that of a level that is not known.
        return np.vstack([self.effects.T, np.zeros(len(self.effects))])[place]

    def widened(self, half: np.ndarray, level: float, values: Any) -> np.ndarray:
        """Return half widths (R, q) of intervals with the spread of levels that are not known, which is normal."""
        own = scipy.stats.norm.ppf((1 + level) / 2) ** 2 * self.variances
        return np.sqrt(half**2 + np.where(self._places(values, len(half))[:, None] < 0, own, 0.0))

    def _places(self, values: Any, n_rows: int) -> np.ndarray:
        if values is None:
            return np.full(n_rows, -1)
        found, codes = np.unique(group_values(values, n_rows, "levels"), return_inverse=True)
        return labels.places(self.ids, found)[codes]


class Taken(NamedTuple):
    """Rows whose targets are without levels."""

    everything: TaskRows
    """for training, those of each fold predicted from the others"""
    large: TaskRows
    known: TaskRows
    """by levels that all rows predict"""
    levels: Levels
    mean_covariance: np.ndarray
    """(q, d, d) what levels that are not known add to the covariance of the common weights, standardised"""

    def added_to(self, own: Uncertainty | None) -> Uncertainty | None:
        """Return how sure a model is that was trained without the levels, with what they leave open of its mean.

        Variances of predictions stay: their factors are of errors on held-out tasks, which have all of it.
        """
        if own is None or not own.structure:
            return own
        # A curve is a column more, between the features and the intercept.
        p, total = self.known.standard.n_inputs, len(own.second_moment)
        place = np.append(np.arange(p), np.arange(total - self.known.n_columns + p, total))
        covariance = own.mean_covariance.copy()
        covariance[:, place[:, None], place] += self.mean_covariance
        return replace(own, mean_covariance=covariance)


def take_off(estimator: Any, everything: TaskRows, large: TaskRows, ids: np.ndarray, codes: np.ndarray) -> Taken:
    """Return the rows of an estimator that is being fitted without their levels. codes: (R,) level of each row."""
    if not estimator.kind.scaled:
        raise InputError(
            "levels",
            f"{len(ids)} levels",
            "a second grouping is for regressors.",
            "Leave it out, or make it a feature.",
        )
    if has_link(estimator):
        raise InputError(
            "levels", f"{len(ids)} levels", "a second grouping is for targets of numbers.", "Leave it out."
        )
    x, tasks = everything.inputs().astype(np.float64), everything.codes
    fold = _fold_of(estimator, everything, large)[tasks]
    crossed, whole, fits = np.empty(everything.y.shape), np.empty(everything.y.shape), []
    for j, y in enumerate(everything.y.T):
        rows = LevelRows(x, y.astype(np.float64), tasks, codes, len(ids), everything.weights)
        fit = fit_levels(rows)
        whole[:, j] = fit.effects[codes]
        crossed[:, j] = whole[:, j] if fold.max() == 0 else across_folds(rows, fit, fold)
        fits.append(fit)
    spread = everything.standard.target_spread
    levels = Levels(
        ids,
        np.stack([fit.effects for fit in fits]) * spread[:, None],
        np.array([fit.level_variance for fit in fits]) * spread**2,
    )
    training = replace(everything, y=(everything.y - crossed).astype(everything.y.dtype))
    known = replace(everything, y=(everything.y - whole).astype(everything.y.dtype))
    added = np.stack([fit.mean_covariance for fit in fits])
    return Taken(training, training.select(np.isin(training.ids, large.ids)), known, levels, added)


def across_folds(rows: LevelRows, fit: LevelFit, fold: np.ndarray) -> np.ndarray:
    """Return what levels predicted from the other folds add to each row, (R,); variances are those of all rows.

    fold: (R,) number of each row's.
    """
    out = np.empty(len(rows.y))
    for one in range(int(fold.max()) + 1):
        own = fold == one
        out[own] = rows.select(~own).at(fit.ratios.task).effects(fit.ratios.level)[rows.levels[own]]
    return out


def _fold_of(estimator: Any, everything: TaskRows, large: TaskRows) -> np.ndarray:
    """The fold of each task (m,): the search's own, and any for tasks that are too small to be tested."""
    if large.n_tasks < 3 or everything.n_tasks == 1:
        return np.zeros(everything.n_tasks, dtype=np.int64)
    parts = parts_of(task_folds(getattr(estimator, "cv", _PARTS), large), large, estimator.seed_)
    return fold_of_each(everything, large, parts)
