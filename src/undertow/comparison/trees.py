"""A rival that can bend: scikit-learn's boosted trees, which are told what the support rows of a task say.

They are grown on query rows of training tasks. Columns are the row's features and, of its task, the means of target and
features over the support rows: so trees adapt to a task through its means. Every task brings the same number of support
rows, which is therefore no column. Rate of learning and size of trees are scikit-learn's own; how many trees there are
is chosen by the error on training tasks left out.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from undertow._batch import TaskBatch
from undertow.comparison.plain import INNER_FOLDS, inner_draws
from undertow.comparison.rivals import Fitted, StandardisedModel, Training
from undertow.tasks import folds
from undertow.tasks.losses import weights_of

NUMBERS = (5, 10, 20, 40, 80, 160)
"""of trees that are tried"""


class Drawn(NamedTuple):
    """Query rows of tasks, of all draws."""

    columns: np.ndarray
    """(R, 2 p + 1) features of a row; means of its task's support rows, of the target and of each feature"""
    y: np.ndarray
    """(R,)"""
    tasks: np.ndarray
    """(R,) id of the task of each row"""
    weights: np.ndarray
    """(R,) of sum 1 for each task and draw, or 1 for each row"""


def columns_of(support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray) -> np.ndarray:
    """Return what trees see (m, n_v, 2 p + 1) of query rows (m, n_v, p), given support rows (m, n_t, p), (m, n_t)."""
    means = np.concatenate([support_y.mean(axis=1)[:, None], support_x.mean(axis=1)], axis=1)
    told = np.broadcast_to(means[:, None], (*query_x.shape[:2], means.shape[1]))
    return np.concatenate([query_x, told], axis=2)


def row_weights(batch: TaskBatch, weighting: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which query rows of a batch are real (m, n_v), and the weights of these (R,), see ``Plan.weighting``."""
    real = np.ones(batch.query_y.shape, bool) if batch.query_mask is None else batch.query_mask
    rows = real.sum(axis=1).astype(float)
    return real, np.repeat(weights_of(rows, weighting) / rows, real.sum(axis=1))


def drawn_rows(training: Training) -> Drawn:
    """Return query rows of training tasks as they come on new tasks: with random support rows beside them."""
    parts = []
    for draw in inner_draws(training.data, training.n_support, training.seed):
        for batch in draw:
            real, weights = row_weights(batch, training.weighting)
            # The last feature of the data is 1.
            columns = columns_of(batch.support_x[..., :-1], batch.support_y, batch.query_x[..., :-1])
            parts.append(Drawn(columns[real], batch.query_y[real], np.repeat(batch.ids, real.sum(axis=1)), weights))
    return Drawn(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def predicted(trees: Any, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray) -> np.ndarray:
    """Return what trees predict (m, n_v) for query rows, all standardised."""
    columns = columns_of(support_x, support_y, query_x)
    return trees.predict(columns.reshape(-1, columns.shape[2])).reshape(columns.shape[:2])


def fit(training: Training) -> Fitted:
    """Boosted trees on drawn query rows."""
    rows, ids = drawn_rows(training), training.data.ids
    total = np.zeros(len(NUMBERS))
    for part in folds(ids, min(INNER_FOLDS, len(ids)), training.seed):
        own = np.isin(rows.tasks, ids[part])
        staged = _grown(rows, ~own, NUMBERS[-1], training.seed).staged_predict(rows.columns[own])
        errors = [rows.weights[own] @ (one - rows.y[own]) ** 2 for one in staged]
        total += [errors[n - 1] for n in NUMBERS]
    best = NUMBERS[int(total.argmin())]
    trees = _grown(rows, np.ones(len(rows.y), bool), best, training.seed)
    return Fitted(StandardisedModel(training.standard, partial(predicted, trees)))


def _grown(rows: Drawn, which: np.ndarray, n_trees: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Stopping early would test on rows of tasks that are trained on.
    settings: dict[str, Any] = {"max_iter": n_trees, "early_stopping": False, "random_state": seed % (1 << 32)}
    return HistGradientBoostingRegressor(**settings).fit(rows.columns[which], rows.y[which], rows.weights[which])
