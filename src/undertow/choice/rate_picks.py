r"""Both rates chosen by cross-validation over tasks, from the moments of folds.

The moments of all folds but one give the path; the moments of that fold give its loss at every pair of rates, since
the loss is a quadratic form of them. So the rows are read once, however many rates, ridges and folds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from undertow import _circle
from undertow._check import InputError, one_of
from undertow.linear import circle
from undertow.linear.moments import Moments, sum_moments
from undertow.linear.path import rate_path
from undertow.linear.surface import LossSurface

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

STRATEGIES = {
    "joint": "joint training, no step",
    "step": "no inner loop, then a step",
    "tied": "one positive rate for both",
    "signed": "signed train rate",
}


class Pick(NamedTuple):
    """Rates and ridge with the least cross-validated loss among those that a strategy allows."""

    strategy: str
    train_rate: float
    adapt_rate: float
    ridge: float
    loss: float
    """cross-validated loss at the pick: optimistic, since the pick was made on it"""
    position: int
    """position of the train rate among those tried"""


def candidate_rates(scale: float, n_rates: int = 101) -> np.ndarray:
    """Return the raw train rates that are tried: the grid on the circle, and finer ones near 0.

    A grid that is coarse near 0 makes a tied rate look worse than it is, since its best value may be small.
    """
    fine = np.array([0.003, 0.006, 0.012, 0.02])
    return scale * np.sort(np.concatenate([_circle.rates_of(_circle.grid(n_rates), 1.0), -fine, fine]))


def cross_validate(
    folds: Iterable[Moments],
    train_rates: np.ndarray,
    ridges: Any = RIDGES,
    on_fold: Callable[[], None] | None = None,
) -> LossSurface:
    """Return the mean loss of each fold's tasks under the paths trained on all other folds.

    folds: moments of disjoint sets of tasks. train_rates: raw rates (k,). on_fold: called when a fold is done.
    The surface has shape (k, r). Raises InputError for fewer than two folds.
    """
    folds, ridges = list(folds), np.atleast_1d(ridges)
    if len(folds) < 2:
        raise InputError(f"{len(folds)} folds: cross-validation needs at least two.")
    total, weight, scale = np.zeros(0), 0.0, sum_moments(folds).scale
    for i, fold in enumerate(folds):
        # Added up from the others and never subtracted from the whole, which would lose digits.
        others = sum_moments(other for j, other in enumerate(folds) if j != i)
        path = rate_path(others, train_rates, ridge=ridges, steps=others.steps)
        part = fold.quadratic(path.weights)
        total = part if i == 0 else total + part
        weight += fold.weight
        if on_fold is not None:
            on_fold()
    return LossSurface(np.asarray(train_rates, dtype=np.float64), total / weight, scale, ridges)


def pick(surface: LossSurface, strategy: str) -> Pick:
    """Return the best rates and ridge among those that ``strategy`` allows; see ``STRATEGIES``.

    surface: from ``cross_validate``, with train rate 0 among its rates. Raises InputError for another name.
    """
    one_of(strategy, "strategy", STRATEGIES)
    rates = surface.train_rates
    adapt = surface.best_adapt_rate
    if strategy == "signed":
        allowed, loss = np.ones(len(rates), dtype=bool), surface.best_loss
    elif strategy == "tied":
        allowed = (rates > 0) & np.isfinite(rates)
        finite = np.where(np.isfinite(rates), rates, 0.0)
        adapt = np.broadcast_to(finite[:, None], adapt.shape)
        c = circle.powers(adapt, surface.steps)
        loss = 0.5 * np.einsum("...i,...ij,...j->...", c, surface.products, c)
    else:
        allowed = rates == 0
        loss = surface.best_loss if strategy == "step" else surface.loss(0.0)
        adapt = adapt if strategy == "step" else np.zeros_like(adapt)
    loss = np.where(allowed[:, None] & np.isfinite(loss), loss, np.inf)
    if np.isinf(loss).all():
        raise InputError(
            f"strategy={strategy!r} allows none of the train rates of the surface: add 0 and positive ones."
        )
    k, r = np.unravel_index(int(loss.argmin()), loss.shape)
    return Pick(strategy, float(rates[k]), float(adapt[k, r]), float(surface.ridges[r]), float(loss[k, r]), int(k))
