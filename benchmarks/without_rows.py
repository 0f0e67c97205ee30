"""Predictions for tasks that bring no rows: what ``compare_on_tables.py`` holds the default against there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from undertow.comparison.cell import Plan, target_variance, training_of
from undertow.comparison.meta import fit_default
from undertow.comparison.mixedlm import fit_mixedlm, independent_columns, read_fit
from undertow.comparison.plain import INNER_FOLDS, fit_pooled
from undertow.comparison.registry import BY_NAME
from undertow.comparison.rivals import NoFit, TooSlow, Training
from undertow.comparison.trees import NUMBERS
from undertow.tasks import GroupedTable, folds

WAYS = ("constant", "pooled", "mixedlm", "mixedlm_rs", "trees", "default")
Predict = Callable[[np.ndarray], np.ndarray]


def constant(training: Training) -> Predict:
    """The mean of the means of tasks."""
    raw = training.raw
    mean = float((np.add.reduceat(raw.y, raw.offsets[:-1]) / raw.counts).mean())
    return lambda x: np.full(len(x), mean)


def pooled(training: Training) -> Predict:
    """Least squares on all rows."""
    omega = fit_pooled(training).model.omega  # pyright: ignore[reportAttributeAccessIssue]
    return _linear(training, omega)


def mixedlm(training: Training) -> Predict:
    """The fixed effects of statsmodels' MixedLM beside a random intercept."""
    data = training.data
    found = fit_mixedlm(data.x, data.y, data.offsets, slopes=False, deadline=training.deadline)
    return _linear(training, found.omega)


def mixedlm_rs(training: Training) -> Predict:
    """The fixed effects of mixedlm-rs beside random slopes."""
    data = training.data
    if BY_NAME["mixedlm_rs"].unfit(training.raw.n_features):
        raise NoFit("missing, or too many features")
    from mixedlm_rs import MixedLM  # pyright: ignore[reportMissingImports]

    kept = independent_columns(data.x)
    x, tasks = data.x[:, kept], np.repeat(np.arange(data.n_tasks), data.counts)
    found = read_fit(MixedLM(data.y, x, tasks, exog_re=x).fit(), data.n_features, kept, slopes=True)
    return _linear(training, found.omega)


def trees(training: Training) -> Predict:
    """Boosted trees on rows alone, every task counting once; their number has the least error on tasks left out."""
    raw, total = training.raw, np.zeros(len(NUMBERS))
    weights = np.repeat(1 / raw.counts, raw.counts)
    numbers = np.repeat(np.arange(raw.n_tasks), raw.counts)
    for part in folds(raw.ids, min(INNER_FOLDS, raw.n_tasks), training.seed):
        own = np.isin(numbers, part)
        grown = _grown(raw.x[~own], raw.y[~own], weights[~own], NUMBERS[-1], training.seed)
        errors = [weights[own] @ (one - raw.y[own]) ** 2 for one in grown.staged_predict(raw.x[own])]
        total += [errors[n - 1] for n in NUMBERS]
    return _grown(raw.x, raw.y, weights, NUMBERS[int(total.argmin())], training.seed).predict


def default(training: Training) -> Predict:
    """``MAMLRegressorCV`` as it comes."""
    model: Any = fit_default(training).model
    return lambda x: model.model.predict(x)[:, 0]


_FIT = {
    "constant": constant,
    "pooled": pooled,
    "mixedlm": mixedlm,
    "mixedlm_rs": mixedlm_rs,
    "trees": trees,
    "default": default,
}


def losses_without_rows(table: GroupedTable, plan: Plan, time_limit: float) -> dict[str, np.ndarray]:
    """Return way -> mean squared error of each held-out task (m,) over the target's variance, by all its rows.

    Folds are those of ``compare``. A way that fails, or is too slow in one fold, is left out.
    """
    unit, found = target_variance(table), {way: np.empty(table.n_tasks) for way in WAYS}
    for fold in range(plan.n_folds):
        for way in list(found):
            training, test, part = training_of(table, plan, 0, fold, time.monotonic() + time_limit)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    errors = (_FIT[way](training)(test.x) - test.y) ** 2 / unit
            except (TooSlow, NoFit):
                del found[way]
                continue
            found[way][part] = np.add.reduceat(errors, test.offsets[:-1]) / test.counts
    return found


def _linear(training: Training, omega: np.ndarray) -> Predict:
    standard = training.standard

    def predict(x: np.ndarray) -> np.ndarray:
        values = standard.features(x) @ omega[:-1] + omega[-1]
        return standard.restore_targets(values[:, None])[:, 0]

    return predict


def _grown(x: np.ndarray, y: np.ndarray, weights: np.ndarray, n_trees: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=n_trees, early_stopping=False, random_state=seed).fit(x, y, weights)
