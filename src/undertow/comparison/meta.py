"""Rivals of our own: strategies of the search, each by itself, and the estimator as it comes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from undertow._batch import TaskBatch
from undertow.choice.gradient_family import GradientFamily, default_rates
from undertow.choice.plan import Found, Plan
from undertow.choice.proximal_family import ProximalFamily, default_ratios, gather_moments
from undertow.choice.search import RIDGES
from undertow.comparison.plain import INNER_DRAWS, INNER_FOLDS
from undertow.comparison.rivals import Fitted, Training
from undertow.estimators import FittedModel, MAMLRegressorCV, fit_table
from undertow.linear.rules import ProximalRule
from undertow.tasks import folds
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard


def fit(training: Training, *, strategy: str) -> Fitted:
    """A strategy of ``choice.words``, chosen by cross-validation over the training tasks and trained on all of them."""
    raw = training.raw
    standard = Standard.fit(
        raw.x, raw.y[:, None], raw.copies, features=True, targets=True, intercept=True, clip=training.standard.clip
    )
    rows = TaskRows.of_table(raw, standard)
    parts = folds(raw.ids, min(INNER_FOLDS, raw.n_tasks), training.seed)
    plan = Plan(rows, rows, parts, training.n_support, INNER_DRAWS, training.seed, weighting=training.weighting)
    proximal = strategy == "pooled_ridge"
    moments, ridge_moments = gather_moments(plan, 1, default_ratios(plan) if proximal else None)
    if ridge_moments is None:
        family = GradientFamily(plan, moments, RIDGES, (1,), default_rates(rows.n_columns, plan.limits))
    else:
        family = ProximalFamily(plan, ridge_moments, RIDGES, moments)
    found = family.found(strategy)
    return Fitted(LearnedModel(FittedModel(standard, found.weights, found.rules, raw.ids)), _notes(found, strategy))


def _notes(found: Found, strategy: str) -> tuple[str, ...]:
    rule = found.rules[0]
    if isinstance(rule, ProximalRule):
        return ("no adaptation chosen",) if np.isinf(rule.ratio) else ()
    if strategy != "signed":
        return ()
    rate = found.settings["train_rate"]
    kind = "infinite" if np.isinf(rate) else "negative" if rate < 0 else "positive" if rate > 0 else "0"
    return (f"train rate {kind}",)


def fit_default(training: Training) -> Fitted:
    """``MAMLRegressorCV`` as it comes, told only the number of support rows (and the limit of standardised values)."""
    estimator = MAMLRegressorCV(
        training.n_support,
        clip=training.standard.clip,
        weighting=training.weighting,
        support="first" if training.raw.in_order else "random",
        row_weights=training.raw.weights_are,
        random_slopes=training.random_slopes,
        random_state=training.seed,
    )
    fit_table(estimator, training.raw)
    return Fitted(LearnedModel(estimator.model_, estimator.weight_unit_), (f"used {estimator.strategy_}",))


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """A fitted model of one target, which adapts all tasks of a batch at once."""

    model: FittedModel
    unit: float = 1.0
    """of weights of rows"""

    def predict(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (m, n_v) in raw units. weights: (m, n_t) of the support rows."""
        standard = self.model.standard
        x, query = (
            standard.features(rows.reshape(-1, rows.shape[2])).reshape(*rows.shape[:2], -1)
            for rows in (support_x, query_x)
        )
        y = standard.targets(support_y[..., None])
        # A batch needs query rows; an adaptation does not read them, and these have no targets.
        by, mean = np.ones(x.shape[:2]), None
        if weights is not None:
            mean = weights.mean(axis=1) / self.unit
            by = np.sqrt(weights / weights.mean(axis=1, keepdims=True))
        by = by[..., None]
        theta = self.model.adapt_each(TaskBatch(x * by, y * by, x[:, :1], np.zeros_like(y[:, :1]), support_weight=mean))
        return standard.restore_targets(np.einsum("mnd,md->mn", query, theta)[..., None])[..., 0]
