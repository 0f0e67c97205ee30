"""MAMLRegressor and MAMLRegressorCV: linear regression that is trained to be adapted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import validate_data

from undertow._check import InputError
from undertow.choice.search import RULES
from undertow.estimators.base import MAMLBase
from undertow.estimators.inputs import as_array
from undertow.estimators.training import FixedMixin, SearchMixin

Fitted = TypeVar("Fitted", bound="_Regression")


class _Regression(RegressorMixin, MAMLBase):
    """Numbers as targets: one (n,), or several (n, q)."""

    _y_ndim: int

    def fit(self: Fitted, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> Fitted:
        """Fit to X (R, p), y (R,) or (R, q), with the task of each row in groups (R,).

        X: NumPy, pandas, polars, Arrow, or anything with ``__dlpack__`` in main memory; float32 stays float32.
        groups: None means that all rows are one task, with a warning. sample_weight: (R,) weight of each row's squared
            error; a whole-number weight equals that many copies of the row, apart from random draws of support rows.
        Raises InputError for values, shapes or parameters that cannot be used.
        """
        X, y = validate_data(self, as_array(X), y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True)
        self._y_ndim = y.ndim
        return self._fit(X, y.reshape(len(y), -1).astype(X.dtype, copy=False), groups, sample_weight)

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> float:
        """Return R^2 on rows that the adaptation has not seen.

        Each task of ``groups`` adapts on ``n_support`` random rows (they depend on ``random_state`` and the number of a
        row only); R^2 is over all other rows together. Tasks with no more rows than that are left out, or raise
        InputError with on_small="raise". Without groups nothing is adapted, with a warning.
        """
        return self._score(X, y, groups, sample_weight, r2_score)

    @property
    def _one_target(self) -> bool:
        return self._y_ndim == 1

    def _task_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(
            self, as_array(X), y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True, reset=False
        )
        targets = y.reshape(len(y), -1).astype(X.dtype, copy=False)
        if targets.shape[1] != len(self._omega):
            raise InputError(f"y has {targets.shape[1]} targets: the estimator was fitted to {len(self._omega)}.")
        return X, targets

    def _restored(self, predictions: np.ndarray) -> np.ndarray:
        return predictions[:, 0] if self._one_target else predictions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


class MAMLRegressor(_Regression, FixedMixin):
    """Linear regression meta-trained at a signed rate, to be adapted to new tasks from a few rows.

    Features are centred, divided by their standard deviation and clipped; rates act in that space. ``coef_`` and
    ``intercept_`` are in the units of X and y; a row with a clipped value is predicted as if it had the limit.
    Source of the outer problem: docs/rates.md; Bernacchia, "Meta-learning with negative learning rates", ICLR 2021.

    train_rate: rate of the inner step while meta-training, of either sign; 0 means no inner loop, infinity is allowed.
    adapt_rate: rate of the step on a new task. n_support: rows for an inner step; a task's other rows are query rows.
    ridge: relative to tr(B^T B) / p of the outer problem. steps: inner steps, in training and adaptation.
    rate_unit: "spectral" (multiples of 1 / lambda_max of the mean support second moment) or "raw", for both rates.
    rule: "gradient"; "ridge" (ridge regression towards omega, with ``train_ratio`` in training and ``adapt_ratio`` on
        a new task: noise over task variance; infinity means no adaptation); "mixed" (a mixed model, whose
        ``structure`` says how tasks may differ).
    n_draws: random draws of support and query rows of each task; None for 5, fewer on large tables.
    standardize, clip, fit_intercept: see above; ``clip`` is the largest standardised value, None for no limit.
    on_small: tasks with no more than n_support rows are left out ("drop", with a warning), or "raise".

    With one task, or without groups, all rows are both support and query rows.

    After ``fit``: coef_ (p,) or (q, p), intercept_, n_features_in_, train_rate_ and adapt_rate_ (raw; None where the
    rule has none), train_rate_spectral_, adapt_rate_spectral_, scale_ (the spectral unit), n_tasks_, task_ids_,
    n_clipped_.
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


class MAMLRegressorCV(_Regression, SearchMixin):
    """Linear regression for many small tasks; rule, rates, penalties and ridge chosen by task-wise cross-validation.

    Tried are the gradient rule at rates all around the circle, ridge regression towards omega, and mixed models. The
    estimator uses a blend of them, each task's adapted weights being a convex combination of those of several
    strategies, or the one with the least loss on held-out tasks. ``choice_`` says what was found, with intervals.

    n_support: rows that a new task is expected to bring. cv: number of folds of tasks, a scikit-learn splitter,
    or pairs of row numbers; a task must not be cut. rules: which of "gradient", "ridge",
    "mixed" may be used. blend: whether strategies of these rules may be combined; False, or the gradient rule alone,
    gives a single one. ridges: relative ridges to try; None for 20 from 1e-6 to 10. steps: numbers of inner steps to
    try. n_rates: rates around the circle, odd; None for 101, fewer with more than 128 features.
    n_draws: random draws of support rows of each task; None for 10, fewer on large tables. level: of the intervals.
    Other parameters are those of MAMLRegressor.

    With one task, or without groups, there is nothing to choose by: the weights are a ridge regression.

    After ``fit``, besides the attributes of MAMLRegressor: choice_ (``undertow.choice.record.Choice``), rule_ (the
    strategy used, such as "blend", "signed", "mixed_full"), rate_path_ (a RatePath at the ridge of the gradient rule; a
    list of them with several targets), cv_surface_ (LossSurface: the gradient rule's cross-validated loss over both
    rates and the ridge), held_out_ (TaskLosses: each task's loss under each strategy, held out), ridge_, steps_,
    n_draws_. The rates are always numbers: where the strategy used has none, they are those of the gradient rule's
    best signed pick, and ``rule_`` says what is used in their place.
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
