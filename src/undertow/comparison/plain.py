"""Rivals without a model of the tasks: all rows pooled, and each task alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from undertow._batch import TaskBatch
from undertow.comparison.rivals import Fitted, Training, linear, with_one
from undertow.linear.proximal_step import RATIOS, RidgeMoments, ridge_adapt, sum_ridge_moments
from undertow.tasks import GroupedTable, Standard

INNER_FOLDS = 5
INNER_DRAWS = 5
# Rows at a time.
_ROWS = 1 << 13


def inner_draws(table: GroupedTable, n_support: int, seed: int) -> Iterator[list[TaskBatch]]:
    """Draws of support and query rows of training tasks, for the choice of penalties and rates."""
    for k in range(INNER_DRAWS):
        yield table.draw_buckets(n_support, np.random.SeedSequence(seed, spawn_key=(k,)))


def fit_pooled(training: Training) -> Fitted:
    """Least squares on all training rows as if they were one task; nothing is adapted."""
    raw, standard = training.raw, training.standard
    left: np.ndarray = np.empty((0, raw.n_features + 2))
    # A triangle stands for all rows before a block: of these no second copy is made.
    for start in range(0, raw.n_rows, _ROWS):
        part = slice(start, start + _ROWS)
        x, y = with_one(standard.features(raw.x[part])), standard.targets(raw.y[part, None])
        by = 1.0 if raw.weights is None else np.sqrt(raw.weights[part, None])
        left = np.asarray(np.linalg.qr(np.concatenate([left, np.concatenate([x, y], axis=1) * by]), mode="r"))
    rank = np.finfo(np.float64).eps * max(raw.n_rows, raw.n_features + 1)
    omega = np.linalg.lstsq(left[:, :-1], left[:, -1], rcond=rank)[0]
    return Fitted(Common(standard, omega))


@dataclass(frozen=True, eq=False)
class Common:
    """Weights (p + 1,) in standardised space for all tasks; support rows change nothing, whatever their weights."""

    standard: Standard
    omega: np.ndarray

    def predict(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (m, n_v) in raw units."""
        values = self.standard.features(query_x) @ self.omega[:-1] + self.omega[-1]
        return self.standard.restore_targets(values[..., None])[..., 0]


def fit_alone(training: Training) -> Fitted:
    """Ridge regression of each task on its support rows, with an intercept that is not penalised.

    Training tasks give the standardisation and the penalty, the one with the least error on their query rows.
    """
    data = training.data
    total = sum_ridge_moments(
        RidgeMoments.from_tasks([_centred(batch) for batch in draw], RATIOS, weighting=training.weighting)
        for draw in inner_draws(data, training.n_support, training.seed)
    )
    # From weights 0 the proximal rule is plain ridge regression.
    ratio = RATIOS[int(total.loss(np.zeros(data.n_features - 1)).argmin())]
    return linear(training, partial(_adapt_alone, ratio), "penalty infinite: the mean" if np.isinf(ratio) else "")


def _centred(batch: TaskBatch) -> TaskBatch:
    """The batch without its constant feature, each task measured from the mean of its support rows."""
    x_mean, y_mean = batch.support_x[..., :-1].mean(axis=1, keepdims=True), batch.support_y.mean(axis=1, keepdims=True)
    return batch._replace(
        support_x=batch.support_x[..., :-1] - x_mean,
        support_y=batch.support_y - y_mean,
        query_x=batch.query_x[..., :-1] - x_mean,
        query_y=batch.query_y - y_mean,
    )


def _adapt_alone(ratio: float, batch: TaskBatch) -> np.ndarray:
    theta = ridge_adapt(np.zeros(batch.n_features - 1), _centred(batch), ratio)
    x_mean, y_mean = batch.support_x[..., :-1].mean(axis=1), batch.support_y.mean(axis=1)
    return np.concatenate([theta, (y_mean - (x_mean * theta).sum(axis=1))[:, None]], axis=1)
