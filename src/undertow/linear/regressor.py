"""MAMLRegressor and MAMLRegressorCV: linear regression that is trained to be adapted, with scikit-learn's conventions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import validate_data

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.linear.adaptation import GradientRule, ProximalRule
from undertow.linear.choice import Choice
from undertow.linear.estimator_base import MAMLBase
from undertow.linear.estimator_input import as_array, task_folds
from undertow.linear.mixed import STRUCTURES, fit_mixed
from undertow.linear.path import RatePath, rate_path
from undertow.linear.rows import TaskRows, of_target
from undertow.linear.rules import RidgeMoments
from undertow.linear.search import RULES, search
from undertow.linear.strategy_search import task_statistics

RIDGES = tuple(float(r) for r in np.geomspace(1e-6, 10.0, 20))


class FixedMixin(MAMLBase):
    """Training at given rates, ratios and ridge."""

    train_rate: float
    adapt_rate: float
    ridge: float
    steps: int
    rate_unit: str
    rule: str
    train_ratio: float
    adapt_ratio: float
    structure: str
    n_draws: int

    def _checked(self) -> None:
        _check.one_of(self.rule, "rule", RULES)
        _check.one_of(self.rate_unit, "rate_unit", ("raw", "spectral"))
        _check.positive_int(self.steps, "steps")
        _check.positive_int(self.n_draws, "n_draws")
        _check.real(self.ridge, "ridge", minimum=0.0)
        _check.one_of(self.structure, "structure", STRUCTURES)
        if np.ndim(_check.rates(self.train_rate, "train_rate", infinite=True)):
            raise InputError(f"train_rate={self.train_rate!r}: it must be one number; MAMLRegressorCV tries many.")
        adapt_rate = _check.real(self.adapt_rate, "adapt_rate", hint="A rate may have either sign.")
        if self.rule == "gradient" and adapt_rate < 0:
            warnings.warn(
                f"adapt_rate={adapt_rate:g} is negative: the step moves away from the new task's data. The best adaptation "
                "rate is never negative on average; a negative rate is for meta-training (train_rate).",
                stacklevel=5,
            )
        for name in ("train_ratio", "adapt_ratio"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not value >= 0:
                raise InputError(f"{name}={value!r}: noise over task variance must be a number of at least 0.")

    def _train(self, everything: TaskRows, rows: TaskRows) -> None:
        self._checked()
        if self.rule == "mixed":
            self._train_mixed(everything)
            return
        batches = [
            batch
            for k in range(self.n_draws)
            for batch, _, _ in rows.draw(self.n_support, np.random.SeedSequence(self._draw_seed, spawn_key=(k,)))
        ]
        self._train_on(batches)

    def _train_one(self, rows: TaskRows) -> None:
        self._checked()
        if self.rule == "mixed":
            self._train_mixed(rows)
            return
        self._train_on([rows.shared()])

    def _train_on(self, batches: list[TaskBatch]) -> None:
        targets = range(batches[0].support_y.shape[2])
        each = [[of_target(batch, j) for batch in batches] for j in targets]
        unit = rate_path(each[0], 0.0, ridge=1.0).scale
        if self.rule == "ridge":
            ridge = float(self.ridge)
            fits = [RidgeMoments.from_tasks(tasks, [float(self.train_ratio)]).solve([ridge]) for tasks in each]
            self._omega = np.stack([fit.weights[0, 0] for fit in fits]).astype(batches[0].query_x.dtype)
            self._rules = (ProximalRule(float(self.adapt_ratio)),) * len(targets)
            self._publish_rates(unit, None)
            return
        factor = unit if self.rate_unit == "spectral" else 1.0
        rate = float(self.train_rate) * factor
        paths = [rate_path(tasks, rate, ridge=float(self.ridge), steps=self.steps) for tasks in each]
        self._omega = np.stack([path.weights[0] for path in paths])
        self._rules = (GradientRule(float(self.adapt_rate) * factor, self.steps),) * len(targets)
        self._publish_rates(unit, rate)

    def _train_mixed(self, rows: TaskRows) -> None:
        structure = self.structure if rows.n_tasks > 1 else "none"
        if structure == "intercept" and not self.fit_intercept:
            raise InputError("structure='intercept' needs fit_intercept=True: without it no intercept can vary.")
        statistics = [task_statistics(rows, j) for j in range(rows.y.shape[1])]
        fits = [fit_mixed(one, structure, seed=self._draw_seed) for one in statistics]
        self._omega = np.stack([fit.mean for fit in fits]).astype(rows.x.dtype)
        self._rules = tuple(ProximalRule(max(fit.noise_variance, 1e-12), fit.task_covariance) for fit in fits)
        self._publish_rates(1.0, None)


class SearchMixin(MAMLBase):
    """Training at rates, ratios and ridge chosen by task-wise cross-validation."""

    cv: Any
    rules: Sequence[str]
    ridges: Sequence[float] | None
    steps: Sequence[int]
    n_rates: int | None
    n_draws: int | None
    level: float
    rate_path_: RatePath | list[RatePath] | None
    choice_: Choice | None

    def _checked(self) -> tuple[np.ndarray, tuple[int, ...]]:
        if isinstance(self.cv, int | float | str):
            _check.positive_int(self.cv, "cv", minimum=2)
        names = [self.rules] if isinstance(self.rules, str) else list(self.rules)
        for name in names:
            _check.one_of(name, "rules", RULES)
        if not names:
            raise InputError(f"rules is empty: give one or more of {', '.join(map(repr, RULES))}.")
        if self.n_draws is not None:
            _check.positive_int(self.n_draws, "n_draws")
        if self.n_rates is not None and _check.positive_int(self.n_rates, "n_rates", minimum=9) % 2 == 0:
            raise InputError(f"n_rates={self.n_rates}: it must be odd, so that 0 is one of the rates.")
        if not 0 < _check.real(self.level, "level") < 1:
            raise InputError(f"level={self.level!r}: it must lie between 0 and 1.")
        ridges = np.atleast_1d(_check.rates(RIDGES if self.ridges is None else self.ridges, "ridges"))
        if (ridges < 0).any():
            raise InputError(f"ridges holds {ridges.min():g}: a ridge must be at least 0.")
        steps = tuple(_check.positive_int(k, "steps") for k in np.atleast_1d(np.asarray(self.steps, object)))
        return np.unique(ridges), steps

    def _train(self, everything: TaskRows, rows: TaskRows) -> None:
        ridges, steps = self._checked()
        if rows.n_tasks < 2:
            warnings.warn(
                "only one task has more than n_support rows: rates cannot be chosen, and nothing is adapted.",
                stacklevel=5,
            )
            self._train_pooled([everything.as_one_task().shared()])
            return
        found = search(
            everything,
            rows,
            n_support=self.n_support,
            cv=task_folds(self.cv, rows),
            rules=[self.rules] if isinstance(self.rules, str) else list(self.rules),
            ridges=ridges.tolist(),
            steps=steps,
            n_draws=self.n_draws,
            n_rates=self.n_rates,
            level=self.level,
            seed=self._draw_seed,
        )
        self._omega = found.best.weights.astype(rows.x.dtype)
        self._rules = found.best.rules
        settings = found.best.settings
        self.choice_ = found.choice
        self.rule_ = found.choice.strategy
        self.ridge_ = settings.get("ridge")
        self.steps_ = int(settings["steps"]) if "steps" in settings else None
        self.n_draws_ = found.n_draws
        moments = found.moments.first(found.steps)
        paths = [rate_path(moments.moments(j), ridge=found.ridge, steps=found.steps) for j in range(rows.y.shape[1])]
        self.rate_path_ = paths[0] if len(paths) == 1 else paths
        self._publish_rates(found.scale, settings.get("train_rate"))

    def _train_one(self, rows: TaskRows) -> None:
        self._checked()
        self._train_pooled([rows.shared()])

    def _train_pooled(self, batches: list[TaskBatch]) -> None:
        """One task: there is nothing to choose by, so the weights are a ridge regression and nothing is adapted."""
        self.choice_, self.rate_path_, self.rule_, self.n_draws_, self.steps_ = None, None, "joint", 1, 1
        self.ridge_ = 1e-3
        each = [[of_target(batch, j) for batch in batches] for j in range(batches[0].support_y.shape[2])]
        paths = [rate_path(tasks, 0.0, ridge=self.ridge_) for tasks in each]
        self._omega = np.stack([path.weights[0] for path in paths])
        self._rules = (GradientRule(0.0),) * len(paths)
        self._publish_rates(paths[0].scale, 0.0)


class _Regression(RegressorMixin, MAMLBase):
    """Numbers as targets: one (n,), or several (n, q)."""

    _y_ndim: int

    def fit(self, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit to X (R, p), y (R,) or (R, q), with the task of each row in groups (R,).

        X: NumPy, pandas, polars, Arrow, or anything with ``__dlpack__`` in main memory; float32 stays float32.
        groups: None means that all rows are one task, with a warning. sample_weight: (R,) weight of each row's squared
            error; a whole-number weight equals that many copies of the row, apart from the random draws of support rows.
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
    n_draws: random draws of support and query rows of each task. standardize, clip, fit_intercept: see above; ``clip`` is
        the largest standardised value, None for no limit.
    on_small: tasks with no more than n_support rows are left out ("drop", with a warning), or "raise".

    With one task, or without groups, all rows are both support and query rows.

    After ``fit``: coef_ (p,) or (q, p), intercept_, n_features_in_, train_rate_ and adapt_rate_ (raw; None where the rule
    has none), train_rate_spectral_, adapt_rate_spectral_, scale_ (the spectral unit), n_tasks_, task_ids_, n_clipped_.
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
        n_draws: int = 5,
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
    """Linear regression for many small tasks, with rule, rates, penalties and ridge chosen by task-wise cross-validation.

    Tried are the gradient rule at rates all around the circle, ridge regression towards omega, and mixed models; the
    one with the least loss on held-out tasks is used. ``choice_`` says what was found, with intervals.

    n_support: rows that a new task is expected to bring. cv: number of folds of tasks, a scikit-learn splitter,
    or pairs of row numbers; a task must not be cut. rules: which of "gradient", "ridge",
    "mixed" may be used. ridges: relative ridges to try; None for 20 from 1e-6 to 10. steps: numbers of inner steps to
    try. n_rates: rates around the circle, odd; None for 101, fewer with more than 128 features.
    n_draws: random draws of support rows of each task; None for 10, fewer on large tables. level: of the intervals.
    Other parameters are those of MAMLRegressor.

    With one task, or without groups, there is nothing to choose by: the weights are a ridge regression.

    After ``fit``, besides the attributes of MAMLRegressor: choice_ (``undertow.linear.choice.Choice``), rate_path_ (a
    RatePath at the ridge of the gradient rule; a list of them with several targets), rule_, ridge_, steps_, n_draws_.
    """

    def __init__(
        self,
        n_support: int = 5,
        cv: Any = 5,
        rules: Sequence[str] = RULES,
        *,
        ridges: Sequence[float] | None = None,
        steps: Sequence[int] = (1,),
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
