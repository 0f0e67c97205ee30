"""What theory says at a panel's points: each method where it exists, the best of them, and where its loss is lowest."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow import theory
from undertow._check import InputError
from undertow.trials.conditional import unavoidable_loss
from undertow.trials.panel import Panel

METHODS = ("exact", "leading", "next_order", "equivalent")


def theory_column(panel: Panel, method: str) -> np.ndarray:
    """(points,) expected loss by one method; NaN at the points where the method does not exist."""
    loss = np.full((len(panel.train_rates), len(panel.adapt_rates)), np.nan)
    for j, adapt_rate in enumerate(panel.adapt_rates):
        loss[:, j] = _losses(panel, np.array(panel.train_rates), adapt_rate, method)
    return loss.ravel()


def best_theory(panel: Panel) -> tuple[np.ndarray, list[str | None], np.ndarray]:
    """(points,) expected loss by the method that theory itself would choose; its name; its stated error of the loss.

    The stated error of a method is one of the distance from the mean task. It is scaled here by that distance's share
    of the loss, since the rest of the loss is exact.
    """
    train, adapt = panel.grid
    choices = {rate: theory.method_for(panel.problem, panel.design, rate) for rate in panel.train_rates}
    columns = {name: theory_column(panel, name) for name in {choice.method for choice in choices.values()}}
    best = np.array([columns[choices[rate].method][i] for i, rate in enumerate(train)])
    names = [choices[rate].method if not np.isnan(value) else None for rate, value in zip(train, best, strict=True)]
    assert panel.design.n_adapt is not None  # set by Design
    floor = np.array([unavoidable_loss(panel.problem, panel.design.n_adapt, rate) for rate in adapt])
    errors = np.array([choices[rate].expected_relative_error for rate in train])
    with np.errstate(invalid="ignore"):
        share = np.where(np.isfinite(best), (best - floor) / best, np.nan)
    return best, names, errors * share


def theory_optimum(panel: Panel) -> dict[str, Any]:
    """Where the expected loss is lowest over the swept rate: rate, and the method that says so."""
    if panel.swept == "adapt_rate":
        train_rate = panel.train_rates[0]
        rate = theory.optimal_adapt_rate(panel.problem, panel.design, train_rate)
        return {"rate": float(rate), "method": theory.method_for(panel.problem, panel.design, train_rate).method}
    found = theory.optimal_train_rate(panel.problem, panel.design, adapt_rate=panel.adapt_rates[0])
    return {"rate": float(found), "method": found.method}


def _losses(panel: Panel, train_rates: np.ndarray, adapt_rate: float, method: str) -> np.ndarray:
    """(k,) NaN where the method refuses. Some exist at single rates only: each is asked where the sweep is refused."""
    try:
        return np.asarray(theory.expected_loss(panel.problem, panel.design, train_rates, adapt_rate, method=method))
    except InputError:
        if len(train_rates) == 1:
            return np.array([np.nan])
        return np.concatenate(
            [_losses(panel, train_rates[i : i + 1], adapt_rate, method) for i in range(len(train_rates))]
        )
