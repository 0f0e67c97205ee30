"""MAMLClassifier and MAMLClassifierCV: one-hot least squares on targets -1 and 1, as scikit-learn's RidgeClassifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from undertow._check import InputError
from undertow.choice.search import RULES
from undertow.estimators.base import MAMLBase
from undertow.estimators.inputs import as_array
from undertow.estimators.training import FixedMixin, SearchMixin

Fitted = TypeVar("Fitted", bound="_Classification")


class _Classification(ClassifierMixin, MAMLBase):
    """Labels as targets: two classes are one column of -1 and 1, more are a column each."""

    _scale_targets = False
    classes_: np.ndarray

    def fit(self: Fitted, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> Fitted:
        """Fit to X (R, p), labels y (R,), with the task of each row in groups (R,).

        X: NumPy, pandas, polars, Arrow, or anything with ``__dlpack__`` in main memory; float32 stays float32.
        groups: None means that all rows are one task, with a warning. sample_weight: (R,) weight of each row's squared
            error.
        Raises InputError for values, shapes or parameters that cannot be used, and for fewer than two classes.
        """
        X, y = validate_data(self, as_array(X), y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise InputError(
                f"y has one class only, {self.classes_.tolist()[0]!r}: a classifier needs samples of two classes."
            )
        return self._fit(X, self._columns(y, X.dtype), groups, sample_weight)

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> float:
        """Return the accuracy on rows that the adaptation has not seen.

        Each task of ``groups`` adapts on ``n_support`` random rows (they depend on ``random_state`` and the number of a
        row only); the accuracy is over all other rows. Tasks with no more rows than that are left out, or raise
        InputError with on_small="raise". Without groups nothing is adapted, with a warning.
        """
        return self._score(X, y, groups, sample_weight, accuracy_score)

    def decision_function(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return the fitted -1 / 1 targets: (R,) for two classes, positive for the second, else (R, classes)."""
        raw = self._raw(X, groups)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def _columns(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        code = np.searchsorted(self.classes_, y)
        if len(self.classes_) == 2:
            return (2 * code - 1).astype(dtype)[:, None]
        return (2 * (code[:, None] == np.arange(len(self.classes_))) - 1).astype(dtype)

    def _task_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        X, y = validate_data(self, as_array(X), y, dtype=[np.float64, np.float32], reset=False)
        strange = ~np.isin(y, self.classes_)
        if strange.any():
            raise InputError(
                f"y holds {y[strange].tolist()[0]!r}, which was no class in training ({self.classes_.tolist()}): "
                "adaptation and score need the same classes."
            )
        return X, self._columns(y, X.dtype)

    def _restored(self, predictions: np.ndarray) -> np.ndarray:
        if predictions.shape[1] == 1:
            return self.classes_[(predictions[:, 0] > 0).astype(int)]
        return self.classes_[predictions.argmax(axis=1)]


class MAMLClassifier(_Classification, FixedMixin):
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
        rule: str = "gradient",
        train_ratio: float = math.inf,
        adapt_ratio: float = 10.0,
        structure: str = "diagonal",
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
        self.train_ratio = train_ratio
        self.adapt_ratio = adapt_ratio
        self.structure = structure
        self.n_draws = n_draws
        self.standardize = standardize
        self.clip = clip
        self.fit_intercept = fit_intercept
        self.on_small = on_small
        self.random_state = random_state


class MAMLClassifierCV(_Classification, SearchMixin):
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
