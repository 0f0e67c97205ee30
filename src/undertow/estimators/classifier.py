"""MAMLClassifier and MAMLClassifierCV: one-hot least squares on targets -1 and 1, as scikit-learn's RidgeClassifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets

from undertow._check import InputError
from undertow.choice.search import RULES
from undertow.estimators.base import MetaEstimator
from undertow.estimators.parameters import publish_search, train_given, train_searched
from undertow.estimators.targets import Labels
from undertow.estimators.training import Trained
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.rule import MixedRule
from undertow.tasks.rows import TaskRows


class _Classifier(ClassifierMixin, MetaEstimator):  # type: ignore[override]
    """Labels as targets: two classes are one column of -1 and 1, more are a column each."""

    _scale_targets = False
    # The mixin's knows no tasks.
    score = MetaEstimator.score  # type: ignore[assignment]
    classes_: np.ndarray

    def _read_targets(self, y: np.ndarray) -> Labels:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise InputError(
                None,
                rule=f"y has one class only, {self.classes_.tolist()[0]!r}: a classifier needs samples of two classes.",
            )
        return Labels(self.classes_)

    def _metric(self, truth: Any, predictions: Any, sample_weight: Any) -> float:
        return float(accuracy_score(truth, predictions, sample_weight=sample_weight))

    def decision_function(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return the fitted -1 / 1 targets: (R,) for two classes, positive for the second, else (R, classes)."""
        raw = self._raw(X, groups)
        return raw[:, 0] if raw.shape[1] == 1 else raw


class MAMLClassifier(_Classifier):
    """Least-squares classifier meta-trained at a signed rate, to be adapted to new tasks from a few labelled rows.

    Classes are targets of -1 and 1, as in RidgeClassifier, and the largest prediction wins. All tasks must name their
    classes alike. Parameters and attributes are those of MAMLRegressor, and ``classes_``; coef_ is (1, p) for two
    classes, else (classes, p).
    """

    def __init__(
        self,
        train_rate: float = 0.0,
        adapt_rate: float = 0.1,
        n_support: int = 5,
        ridge: float = 1e-3,
        steps: int = 1,
        rate_unit: str = "spectral",
        *,
        rule: GradientRule | ProximalRule | MixedRule | None = None,
        n_draws: int | None = None,
        standardize: bool = True,
        clip: float | None = 4.0,
        fit_intercept: bool = True,
        on_small: str = "drop",
        random_state: Any = 0,
    ) -> None:
        self.train_rate = train_rate
        self.adapt_rate = adapt_rate
        self.n_support = n_support
        self.ridge = ridge
        self.steps = steps
        self.rate_unit = rate_unit
        self.rule = rule
        self.n_draws = n_draws
        self.standardize = standardize
        self.clip = clip
        self.fit_intercept = fit_intercept
        self.on_small = on_small
        self.random_state = random_state

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_given(self, everything, large, seed)


class MAMLClassifierCV(_Classifier):
    """MAMLClassifier with rule, rates, penalties and ridge chosen by task-wise cross-validation of the squared error.

    Parameters and attributes are those of MAMLRegressorCV, and ``classes_``. The losses of ``choice_`` are half squared
    errors of targets -1 and 1, mean over classes.
    """

    def __init__(
        self,
        n_support: int = 5,
        cv: Any = 5,
        rules: str | Sequence[str] = RULES,
        *,
        blend: bool = True,
        ridges: Any = None,
        steps: int | Sequence[int] = (1,),
        n_rates: int | None = None,
        n_draws: int | None = None,
        level: float = 0.95,
        standardize: bool = True,
        clip: float | None = 4.0,
        fit_intercept: bool = True,
        on_small: str = "drop",
        random_state: Any = 0,
    ) -> None:
        self.n_support = n_support
        self.cv = cv
        self.rules = rules
        self.blend = blend
        self.ridges = ridges
        self.steps = steps
        self.n_rates = n_rates
        self.n_draws = n_draws
        self.level = level
        self.standardize = standardize
        self.clip = clip
        self.fit_intercept = fit_intercept
        self.on_small = on_small
        self.random_state = random_state

    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        return train_searched(self, everything, large, seed)

    def _publish_training(self, trained: Trained) -> None:
        super()._publish_training(trained)
        publish_search(self, trained)
