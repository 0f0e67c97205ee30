"""Rivals for two values and for counts: mixed models with a random intercept in the log odds or the log mean.

Fitted by Laplace's approximation (see ``undertow.mixed.generalised``), as ``glmer`` of lme4. A new task is predicted by
its mean target over what its support rows leave open of its intercept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.comparison.rivals import Fitted, NoFit, Training, with_one
from undertow.mixed.generalised import fit_generalised
from undertow.mixed.laplace import LinkRows
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.tasks import Standard


@dataclass(frozen=True, eq=False)
class LinkModel:
    """Weights (p + 1,) that all tasks adapt from, in standardised space; targets are as they are."""

    standard: Standard
    omega: np.ndarray
    rule: LaplaceRule

    def predict(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (m, n_v): probabilities of 1, or mean counts. weights: (m, n_t) of support rows."""
        root = np.ones(support_y.shape) if weights is None else np.sqrt(weights)
        x, query = (with_one(self.standard.features(rows)) for rows in (support_x, query_x))
        batch = TaskBatch(x * root[..., None], support_y * root, x[:, :1], support_y[:, :1])
        theta = self.rule.adapt(self.omega, batch)
        variance = self.rule.variance(query, self.rule.spread(theta, batch)[:, None])
        eta = np.einsum("mnd,md->mn", query, theta)
        return self.rule.mean(eta.ravel(), variance.ravel()).reshape(eta.shape)


def fit_of(family: str) -> Callable[[Training], Fitted]:
    """Return the fit of a family with a random intercept."""

    def fit(training: Training) -> Fitted:
        raw, data = training.raw, training.data
        if raw.weights is not None and raw.weights_are == "precision":
            raise NoFit("two values and counts have no precision beside their mean")
        weights = np.ones(raw.n_rows) if raw.weights is None else raw.weights
        try:
            found = fit_generalised(LinkRows(data.x, raw.y, raw.offsets, weights), family=family)
        except InputError as error:
            raise NoFit(str(error.rule)) from error
        notes = () if found.converged else ("the search ended short of the maximum",)
        return Fitted(LinkModel(training.standard, found.mean, found.rule), notes)

    return fit
