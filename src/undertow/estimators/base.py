"""What the four estimators share: checking the input, publishing a fitted model, adaptation, prediction and score."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from undertow._check import InputError
from undertow._workers import one_blas_thread
from undertow.choice.limits import LIMITS
from undertow.estimators import row_weights
from undertow.estimators.fitted import FittedModel, by_task
from undertow.estimators.forward import later_errors, require_search
from undertow.estimators.inputs import moments_of, seed_of, task_codes, task_places, validated, warn_no_groups
from undertow.estimators.levels import take_off
from undertow.estimators.linked import has_link
from undertow.estimators.parameters import check_shared
from undertow.estimators.standardised import standardised
from undertow.estimators.summary import Summary, summary_of
from undertow.estimators.targets import Kind, Labels, Numbers
from undertow.estimators.training import Trained
from undertow.tasks.rows import TaskRows

# Not typing.Self, which cannot be checked at run time in a class that is not checked as a whole.
Own = TypeVar("Own", bound="MetaEstimator")


class MetaEstimator(BaseEstimator):
    """A scikit-learn face for ``FittedModel``: it checks, calls and publishes; ``model_`` holds all that was fitted."""

    # Groups say which rows are one task: fit and score need them, predict may use them.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True, "levels": True, "task_order": True}
    __metadata_request__score: ClassVar[dict[str, bool]] = {"groups": True, "levels": True}
    __metadata_request__predict: ClassVar[dict[str, bool]] = {"groups": True, "levels": True}

    n_support: int
    on_small: str
    support: str
    row_weights: str
    floor: float | None
    random_state: Any
    n_features_in_: int
    model_: FittedModel
    targets_: Numbers | Labels
    seed_: int
    coef_: np.ndarray
    intercept_: Any

    kind: ClassVar[Kind]

    @abstractmethod
    def _train(self, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
        """Return what training leaves behind. large: tasks with more than ``n_support`` rows, or all where one."""

    def fit(
        self: Own,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        sample_weight: Any = None,
        levels: Any = None,
        task_order: Any = None,
    ) -> Own:
        """Fit to X (R, p) and targets y (R,), for a regressor also (R, q), with the task of each row in groups (R,).

        Parameters
        ----------
        X
            NumPy, pandas, polars, Arrow, or anything with ``__dlpack__`` in main memory; float32 stays float32.
        groups
            None means that all rows are one task, with a warning.
        sample_weight
            (R,) weight of each row's squared error, see ``row_weights``.
        levels
            (R,) a second grouping, crossed with tasks or of whole tasks: one more random intercept, regressors only.
        task_order
            (R,) numbers or dates by which tasks came one after the other, the first of a task's rows counting: with CV
            the errors of later tasks by fits to earlier ones alone, ``by_time_``, for the time of about four fits.

        Returns
        -------
        self
            the fitted estimator.

        Raises
        ------
        InputError
            for values, shapes or parameters that cannot be used, and by a classifier for one class only.
        """
        X, y = validated(self, X, y, **self.kind.validation)
        targets = self._begin(y, X.dtype)
        if groups is None:
            warn_no_groups(f"{type(self).__name__}.fit", "all rows are taken for one task.")
            ids, codes = np.array([0]), np.zeros(len(X), dtype=np.int64)
        else:
            ids, codes = task_codes(groups, len(X))
        weights = None
        if sample_weight is not None:
            weights = row_weights.checked(sample_weight, X)
            weights, self.weight_unit_ = row_weights.with_unit(weights, self.row_weights, len(ids))
        numbers, ids, offsets = by_task(ids, codes, weights)
        weights = None if weights is None else weights[numbers]
        second = None if levels is None else task_codes(levels, len(X), "levels")
        second = None if second is None else (second[0], second[1][numbers])
        moments = None if task_order is None else moments_of(task_order, len(X))[numbers]
        return self._fit_sorted(X, targets[numbers], weights, offsets, ids, numbers, second=second, moments=moments)

    def _begin(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Check what can be checked without the rows, and return targets y as columns (R, q)."""
        check_shared(self)
        self.targets_ = self.kind.read(y)
        if isinstance(self.targets_, Labels):
            self.classes_ = self.targets_.classes
        self.seed_, self.weight_unit_ = seed_of(self.random_state), 1.0
        return self.targets_.columns(y, dtype)

    def _fit_sorted(
        self: Own,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None,
        offsets: np.ndarray,
        ids: np.ndarray,
        rows: np.ndarray,
        places: np.ndarray | None = None,
        second: tuple[np.ndarray, np.ndarray] | None = None,
        moments: np.ndarray | None = None,
    ) -> Own:
        """Fit to targets (R, q) and weights (R,) sorted by task; the other arrays as in ``TaskRows``.

        second: what levels are called (L,), and the number of each row's (R,); moments: (R,) what tasks are ordered by.
        """
        require_search(self, moments)
        everything, large, notes = standardised(self, x, targets, weights, offsets, ids, rows, places)
        known, taken = everything, None
        with one_blas_thread() if len(targets) * everything.n_columns**2 <= LIMITS.large_work else nullcontext():
            if second is not None:
                taken = take_off(self, everything, large, *second)
                everything, large, known = taken.everything, taken.large, taken.known
            trained = self._train(everything, large, self.seed_)
        self.n_clipped_, self.n_tasks_ = int(everything.standard.clipped(x).sum()), everything.n_tasks
        self._publish_training(trained)
        if trained.rows is not None:  # with the column of a curve
            known = replace(trained.rows, y=known.y)
        model = trained.model if taken is None else trained.model.with_levels(taken)
        self.model_ = model  # an earlier fit's goes first, with the rows that it kept
        self.publish(model.with_tasks(known) if known.n_tasks > 1 else model)
        if moments is not None:
            self.by_time_ = later_errors(self, everything, targets, second, moments).to_dict()
        for note in (*notes, *trained.notes):
            warnings.warn(note, stacklevel=3)
        return self

    def _publish_training(self, trained: Trained) -> None:
        self.scale_ = trained.scale
        self.train_rate_, self.adapt_rate_ = trained.train_rate, trained.adapt_rate
        self.train_rate_spectral_, self.adapt_rate_spectral_ = (
            None if rate is None else rate / trained.scale for rate in (trained.train_rate, trained.adapt_rate)
        )

    def publish(self, model: FittedModel) -> None:
        """Set the model, and its common weights in the user's units."""
        self.model_ = model
        self.task_ids_ = model.task_ids
        coef, intercept = model.coefficients
        self.coef_, self.intercept_ = (coef[0], intercept[0]) if self.targets_.flat else (coef, intercept)

    def adapt(self: Own, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, levels: Any = None) -> Own:
        """Return a new fitted estimator whose weights are adapted to one task by its rows X (n, p), y (n,).

        Parameters
        ----------
        groups
            (n,) task of each row, where there are several. The new estimator then knows these tasks too, each
            adapted to its rows and, where ``fit`` has seen the task, to those that it had there; ``predict`` tells
            them apart by ``groups``, and the common weights stay. Any number of rows from one on will do; ``self``
            is left as it is.
        levels
            (n,) the second grouping that was fitted to; one that is not known there adds nothing.

        Raises
        ------
        InputError
            for other columns.
        """
        check_is_fitted(self)
        x, targets, _ = self._read_rows(X, y)
        targets = targets - self._of_levels(levels, len(x))
        weights = self._in_unit(sample_weight, x)
        new = copy.copy(self)
        if groups is None:
            # The tasks that the model was fitted to stay named; their weights are those of the model before.
            new.publish(self.model_.adapt(self.model_.rows(x, targets, weights)))
        else:
            new.publish(self.model_.with_tasks(self.model_.rows(x, targets, weights, task_codes(groups, len(x)))))
        return new

    @overload
    def predict(self, X: Any, groups: Any = None, interval: None = None, levels: Any = None) -> np.ndarray: ...

    @overload
    def predict(
        self, X: Any, groups: Any = None, *, interval: float, levels: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...

    def predict(
        self, X: Any, groups: Any = None, interval: float | None = None, levels: Any = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return predictions for X (R, p), with ``interval`` a tuple (predictions, low, high).

        Parameters
        ----------
        groups
            (R,) task of each row; rows of a task seen in ``fit`` are predicted by that task's adapted weights, rows
            of other tasks by the common weights omega. None: all by omega. For a new task use ``adapt`` first.
        interval
            the share of new rows that the interval around each prediction is to hold, such as 0.9; regressors only.
            It is wider for a task without rows than for one that was adapted to. With CV its width is set by errors
            on held-out tasks, each counting once; of a ``MixedRule`` it is the model's own, of counts between two
            quantiles of the count.
        levels
            (R,) the second grouping that was fitted to. Those that are not known there, and all where it is None, add
            nothing to the prediction, and their spread to the interval.

        Raises
        ------
        InputError
            for a share outside 0.01 to 0.99, and where nothing is known of errors.
        """
        x, where = self._places(X, groups)
        predictions = self.model_.predict(x, where) + self._of_levels(levels, len(x))
        if interval is None:
            return self._bounded(predictions)
        if not isinstance(self.targets_, Numbers):
            raise InputError("interval", interval, "intervals are for regressors.", "Leave it out.")
        low, high = self.model_.bounds(predictions, x, interval, where, levels)
        restored = (self._bounded(part.astype(predictions.dtype)) for part in (predictions, low, high))
        return tuple(restored)  # type: ignore[return-value]

    def _bounded(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions (R, q) as the targets were given, none below the floor."""
        return self.targets_.restored(predictions if self.floor is None else np.maximum(predictions, self.floor))

    def _places(self, X: Any, groups: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return checked X, and the position of each row's task among those seen; None where nothing is known."""
        check_is_fitted(self)
        x = np.asarray(validated(self, X, reset=False))
        if groups is None or not self.model_.knows_tasks:
            return x, None
        return x, task_places(self.task_ids_, groups, len(x))

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, levels: Any = None) -> float:
        """Return R^2, or the accuracy of a classifier, on rows that the adaptation has not seen.

        Each task of ``groups`` adapts on ``n_support`` random rows (they depend on ``random_state`` and the number of a
        row only), or with support="first" on its first rows; the score is over all other rows together. Tasks with no
        more rows than that are left out, or raise InputError with on_small="raise". Without groups nothing is adapted,
        with a warning.
        """
        check_is_fitted(self)
        if groups is None:
            warn_no_groups(f"{type(self).__name__}.score", "nothing is adapted, and all rows are predicted by omega.")
            return float(self.kind.metric(y, self.predict(X, levels=levels), sample_weight=sample_weight))
        x, targets, truth = self._read_rows(X, y)
        weights, off = self._in_unit(sample_weight, x), self._of_levels(levels, len(x))
        rows = self.model_.rows(x, targets - off, weights, task_codes(groups, len(x)))
        rows = replace(rows, in_order=self.support == "first")
        large = rows.large_enough(self.n_support, self.on_small)
        predictions, numbers = self.model_.predict_query(large, self.n_support, self.seed_)
        seen = None if weights is None else weights[numbers]
        predictions = self._bounded(predictions + off[numbers])
        return float(self.kind.metric(truth[numbers], predictions, sample_weight=seen))

    @available_if(lambda self: self.kind.scaled or has_link(self))
    def summary(self) -> Summary:
        """Return coefficients with standard errors, the spread between tasks, noise, error on a new task, odd tasks.

        All in the user's units, or on the scale of the link of a model of two values or of counts; ``print`` shows it.
        Standard errors and spreads are those of the mixed model with the least held-out error, coefficients those that
        are used. Raises InputError where there are several targets.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(self.n_features_in_)])
        return summary_of(self.model_, [str(name) for name in names], getattr(self, "choice_", None), self.n_support)

    @property
    def task_coef_(self) -> np.ndarray:
        """Coefficients of each task that was fitted to, (m, p) or (m, q, p), in the order of ``task_ids_``."""
        return self._of_tasks(0)

    @property
    def task_intercept_(self) -> np.ndarray:
        """Intercepts of these tasks, (m,) or (m, q)."""
        return self._of_tasks(1)

    def _of_tasks(self, part: int) -> np.ndarray:
        check_is_fitted(self)
        if self.model_.task_omega is None:
            raise AttributeError("No weights of single tasks: there was one task, or this is an adapted estimator.")
        values = self.model_.standard.restore_weights(self.model_.task_omega.transpose(1, 0, 2))[part]
        return values[:, 0] if self.targets_.flat else values

    @available_if(lambda self: not self.kind.scaled and hasattr(self, "model_") and self.model_.has_probabilities)
    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return the probability of each class, (R, classes), in the order of ``classes_``.

        X, groups: as in ``predict``. A logistic curve takes the fitted number to the share of the class on held-out
        tasks, each task counting once: one without rows of the task, one with ``n_support`` (see
        ``undertow.choice.probability``). Of several classes each has its own, scaled to sum 1. Only after a search,
        which needs three tasks, and of ``MixedRule(family="binomial")``, whose own probability it is.
        """
        x, where = self._places(X, groups)
        found = self.model_.probabilities(x, where)
        return np.c_[1 - found, found] if found.shape[1] == 1 else found / found.sum(axis=1, keepdims=True)

    @available_if(lambda self: not self.kind.scaled)
    def decision_function(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return the fitted -1 / 1 targets: (R,) for two classes, positive for the second, else (R, classes)."""
        x, where = self._places(X, groups)
        raw = self.model_.predict(x, where)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def _of_levels(self, levels: Any, n_rows: int) -> np.ndarray:
        """Return what levels add to the targets (R, q), in their type; (R, 1) zeros without a second grouping."""
        known = self.model_.levels
        if known is None:
            if levels is not None:
                raise InputError("levels", "...", "the model was fitted without a second grouping.", "Leave it out.")
            return np.zeros((n_rows, 1), self.model_.omega.dtype)
        return known.of(levels, n_rows).astype(self.model_.omega.dtype)

    def _in_unit(self, sample_weight: Any, x: np.ndarray) -> np.ndarray | None:
        """Return checked weights of rows x, in the unit of those that were fitted to."""
        return None if sample_weight is None else row_weights.checked(sample_weight, x) / self.weight_unit_

    def _read_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return checked x (n, p), columns of targets (n, q), and the targets as they are."""
        X, y = validated(self, X, y, reset=False, **self.kind.validation)
        targets = self.targets_.columns(y, X.dtype)
        if targets.shape[1] != self.model_.n_targets:
            rule = f"y has {targets.shape[1]} targets: the estimator was fitted to {self.model_.n_targets}."
            raise InputError(None, rule=rule)
        if self.model_.link is not None:
            self.model_.link.check(targets)
        return X, targets, y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output, tags.target_tags.single_output = "multi_output" in self.kind.validation, True
        return tags
