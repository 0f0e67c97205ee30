r"""A rival of gpboost: boosted trees with a random intercept.

The GPBoost algorithm (Sigrist, "Gaussian process boosting", JMLR 23, 2022) grows trees F while it estimates the
variance :math:`\psi^2` of the tasks' intercepts and that of the noise, :math:`\sigma^2`. A new task with n support rows
is predicted by :math:`F(x) + \psi^2 / (\psi^2 + \sigma^2 / n)` times the mean of :math:`y - F(x)` over these rows. How
many trees there are is chosen by the error of such predictions on training tasks left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from undertow.comparison.plain import INNER_FOLDS, inner_draws
from undertow.comparison.rivals import Fitted, NoFit, StandardisedModel, Training
from undertow.comparison.trees import NUMBERS, row_weights
from undertow.tasks import GroupedTable, folds


@dataclass(frozen=True, eq=False)
class Intercepts:
    """Trees on standardised rows, and an intercept of each task."""

    trees: Callable[[np.ndarray], np.ndarray]
    """prediction (R,) of rows (R, p) without an intercept"""
    ratio: float
    """variance of the noise over that of the intercept"""

    def adapted(self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray) -> np.ndarray:
        """Return predictions (m, n_v) for query rows (m, n_v, p), given support rows (m, n_t, p), (m, n_t)."""
        away = (support_y - self._of_trees(support_x)).mean(axis=1, keepdims=True)
        return self._of_trees(query_x) + away / (1 + self.ratio / support_y.shape[1])

    def _of_trees(self, x: np.ndarray) -> np.ndarray:
        return self.trees(x.reshape(-1, x.shape[2])).reshape(x.shape[:2])


def fit(training: Training) -> Fitted:
    """Boosted trees with a random intercept."""
    data, total = training.data, np.zeros(len(NUMBERS))
    for part in folds(data.ids, min(INNER_FOLDS, data.n_tasks), training.seed):
        seen, unseen = data.select(~np.isin(np.arange(data.n_tasks), part)), data.select(part)
        batches = [batch for draw in inner_draws(unseen, training.n_support, training.seed) for batch in draw]
        for i, n_trees in enumerate(NUMBERS):
            model = _boosted(seen, n_trees)
            for batch in batches:
                real, weights = row_weights(batch, training.weighting)
                # The last feature of the data is 1.
                found = model.adapted(batch.support_x[..., :-1], batch.support_y, batch.query_x[..., :-1])
                total[i] += weights @ (found - batch.query_y)[real] ** 2
    return Fitted(StandardisedModel(training.standard, _boosted(data, NUMBERS[int(total.argmin())]).adapted))


def _boosted(data: GroupedTable, n_trees: int) -> Intercepts:
    import gpboost  # pyright: ignore[reportMissingImports]

    try:
        intercepts = gpboost.GPModel(group_data=np.repeat(np.arange(data.n_tasks), data.counts), likelihood="gaussian")
        settings = {"objective": "regression", "verbose": -1}
        trees = gpboost.train(settings, gpboost.Dataset(data.x[:, :-1], data.y), n_trees, gp_model=intercepts)
        noise, between = np.asarray(intercepts.get_cov_pars(), dtype=float).ravel()[:2]
    except Exception as error:  # whatever a foreign package may raise is a failed fit, not a crash
        raise NoFit(f"gpboost found no fit ({error or type(error).__name__})") from error
    ratio = float(noise / between) if between > 0 else np.inf
    return Intercepts(lambda rows: trees.predict(rows, ignore_gp_model=True), ratio)
