"""The meta-learned rivals: one gradient step from weights trained at rate 0, at one rate for both, or at any rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow.choice.rate_picks import candidate_rates, cross_validate, pick
from undertow.comparison.plain import inner_draws, inner_folds
from undertow.comparison.rivals import Fitted, Training, linear
from undertow.estimators import MAMLRegressorCV
from undertow.linear.moments import Moments, sum_moments
from undertow.linear.path import rate_path
from undertow.linear.rules import GradientRule


def fit_step(training: Training) -> Fitted:
    """Train rate 0, that is no inner loop, and the best rate for the step on a new task."""
    return _fit(training, "step")


def fit_tied(training: Training) -> Fitted:
    """MAML as usual: one positive rate in training and on a new task."""
    return _fit(training, "tied")


def fit_signed(training: Training) -> Fitted:
    """MAML with a train rate of either sign, and a rate of its own on a new task."""
    return _fit(training, "signed")


def _fit(training: Training, strategy: str) -> Fitted:
    """Rates and ridge by cross-validation over the training tasks, then weights trained on all of them."""
    parts = [
        sum_moments(Moments.from_tasks(draw) for draw in inner_draws(part, training.n_support, training.seed))
        for part in inner_folds(training.data, training.seed)
    ]
    whole = sum_moments(parts)
    rates = candidate_rates(whole.scale)
    if strategy == "step":
        rates = np.zeros(1)
    elif strategy == "tied":
        rates = rates[(rates > 0) & np.isfinite(rates)]
    chosen = pick(cross_validate(parts, rates), strategy)
    omega = rate_path(whole, chosen.train_rate, ridge=chosen.ridge, steps=whole.steps).weights[0]
    rule = GradientRule(chosen.adapt_rate)
    return linear(training, lambda batch: rule.adapt(omega, batch), _sign(chosen.train_rate, strategy))


def _sign(rate: float, strategy: str) -> str:
    if strategy != "signed":
        return ""
    kind = "infinite" if np.isinf(rate) else "negative" if rate < 0 else "positive" if rate > 0 else "0"
    return f"train rate {kind}"


def fit_default(training: Training) -> Fitted:
    """``MAMLRegressorCV`` as it comes, told only the number of support rows (and the limit of standardised values)."""
    raw = training.raw
    estimator = MAMLRegressorCV(training.n_support, clip=training.scaling.clip, random_state=training.seed)
    # Numbers in the order of the ids: the folds are those of the ids themselves.
    estimator.fit(raw.x, raw.y, groups=np.repeat(np.arange(raw.n_tasks), raw.counts))
    return Fitted(EstimatorModel(estimator), (f"used {estimator.rule_}",))


@dataclass(frozen=True, eq=False)
class EstimatorModel:
    """A fitted estimator, which adapts all tasks of a batch at once: as ``adapt`` and ``predict``, task by task."""

    estimator: Any

    def predict(self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray) -> np.ndarray:
        """Predictions (m, n_v) in raw units."""
        standard, rule = self.estimator._standard, self.estimator._rules[0]
        x, query = (
            standard.features(rows.reshape(-1, rows.shape[2])).reshape(*rows.shape[:2], -1)
            for rows in (support_x, query_x)
        )
        y = standard.targets(support_y[..., None])[..., 0]
        theta = rule.adapt(self.estimator._omega[0], TaskBatch(x, y, x[:, :1], np.zeros((len(x), 1))))
        return standard.restore_targets(np.einsum("mnd,md->mn", query, theta)[..., None])[..., 0]
