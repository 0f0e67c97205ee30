"""What the four estimators share: reading the input, standardised space, adaptation, prediction and score."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.estimators.inputs import as_array, group_values, places, task_codes, warn_no_groups
from undertow.linear.rules import BlendRule, GradientRule, Rule
from undertow.tasks.rows import TaskRows, of_target, sort_by_task
from undertow.tasks.standard import Standard

# The type of an estimator that returns itself, or another of its kind.
Fitted = TypeVar("Fitted", bound="MAMLBase")


class MAMLBase(BaseEstimator):
    """Meta-learned linear model: weights omega to start from, and a rule that adapts them to a task."""

    # Groups say which rows are one task: fit and score need them, predict may use them.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    __metadata_request__score: ClassVar[dict[str, bool]] = {"groups": True}
    __metadata_request__predict: ClassVar[dict[str, bool]] = {"groups": True}

    n_support: int
    standardize: bool
    clip: float | None
    fit_intercept: bool
    on_small: str
    random_state: Any
    n_features_in_: int
    coef_: np.ndarray
    intercept_: Any
    _standard: Standard
    _omega: np.ndarray
    _rules: tuple[Rule, ...]

    _scale_targets: ClassVar[bool] = True

    @abstractmethod
    def _train(self, everything: TaskRows, rows: TaskRows) -> None:
        """Set ``_omega`` (q, d), ``_rules`` and the public attributes from standardised rows of two or more tasks."""

    @abstractmethod
    def _train_one(self, rows: TaskRows) -> None:
        """The same from the rows of a single task, each of them support and query row at once."""

    @abstractmethod
    def _restored(self, predictions: np.ndarray) -> np.ndarray:
        """Return what predict returns from predictions (R, q) in the targets' units."""

    def _fit(self: Fitted, x: np.ndarray, y: np.ndarray, groups: Any, sample_weight: Any) -> Fitted:
        """Fit on checked x (R, p) and targets y (R, q)."""
        _check.positive_int(self.n_support, "n_support")
        _check.one_of(self.on_small, "on_small", ("drop", "raise"))
        if self.clip is not None and _check.real(self.clip, "clip", hint="Use None for no limit.") <= 0:
            raise InputError(f"clip={self.clip!r}: it must be greater than 0. Use None for no limit.")
        self._draw_seed = self._seed()
        if groups is None:
            warn_no_groups(f"{type(self).__name__}.fit", "all rows are taken for one task.")
            ids, codes = np.array([0]), np.zeros(len(x), dtype=np.int64)
        else:
            ids, codes = task_codes(groups, len(x))
        numbers = np.arange(len(x))
        weights = None
        if sample_weight is not None:
            weights = self._weights(sample_weight, x)
            if not (weights > 0).all():
                # A row of weight 0 must leave no trace, not even in the draw of support rows.
                numbers = np.flatnonzero(weights > 0)
                present, codes = np.unique(codes[numbers], return_inverse=True)
                ids = ids[present]
        self._standard = Standard.fit(
            x,
            y,
            weights,
            features=self.standardize,
            targets=self.standardize and self._scale_targets,
            intercept=self.fit_intercept,
            clip=self.clip,
        )
        self.n_clipped_ = self._standard.n_clipped(x)
        order, offsets = sort_by_task(codes)
        rows = TaskRows(
            x,
            self._standard,
            self._standard.targets(y[numbers[order]]),
            None if weights is None else weights[numbers[order]],
            offsets,
            ids,
            numbers[order],
        )
        self._learn(rows)
        self.n_tasks_ = rows.n_tasks
        self.task_ids_ = rows.ids
        self._task_omega = self._adapted(rows) if rows.n_tasks > 1 else None
        self._publish()
        return self

    def _learn(self, rows: TaskRows) -> None:
        if rows.n_tasks == 1:
            self._train_one(rows)
            return
        large = rows.large_enough(self.n_support, self.on_small)
        if large.n_tasks < rows.n_tasks:
            warnings.warn(
                f"{rows.n_tasks - large.n_tasks} of {rows.n_tasks} tasks have no more than n_support={self.n_support} "
                "rows: they cannot give both support and query rows, and on_small='drop' leaves them out. Use a "
                "smaller n_support to keep them.",
                stacklevel=4,
            )
        self._train(rows, large)

    def _publish(self) -> None:
        """Set coefficients in the user's units from ``_omega``."""
        coef, intercept = self._standard.restore_weights(self._omega)
        flat = self._one_target
        self.coef_ = coef[0] if flat else coef
        self.intercept_ = intercept[0] if flat else intercept

    @property
    def _one_target(self) -> bool:
        """Whether coef_ is (p,) and not (q, p)."""
        return False

    def adapt(self: Fitted, X: Any, y: Any, sample_weight: Any = None) -> Fitted:
        """Return a new fitted estimator whose weights are adapted to one task by its rows X (n, p), y (n,).

        Any number of rows from one on will do; ``self`` is left as it is. Raises InputError for other columns.
        """
        check_is_fitted(self)
        x, targets = self._task_rows(X, y)
        weights = None
        if sample_weight is not None:
            weights = self._weights(sample_weight, x)
            x, targets, weights = x[weights > 0], targets[weights > 0], weights[weights > 0]
        n = len(x)
        rows = TaskRows(
            x,
            self._standard,
            self._standard.targets(targets),
            weights,
            np.array([0, n]),
            np.array([0]),
            np.arange(n),
        )
        new = copy.copy(self)
        new._omega, new._rules = self._after(rows)
        new._task_omega = None
        new._publish()
        return new

    @abstractmethod
    def _task_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return checked x (n, p) and targets (n, q) of a new task."""

    def _adapted(self, rows: TaskRows) -> np.ndarray:
        """Weights (q, m, d) of each task, adapted on all of its rows."""
        out = np.empty((len(self._omega), rows.n_tasks, rows.n_columns), rows.x.dtype)
        for tasks in _like_length(rows.counts):
            batches = [_all_rows(rows, tasks, relative) for relative in self._weightings(rows)]
            for j in range(len(self._omega)):
                out[j, tasks] = self._theta(j, batches)
        return out

    def _after(self, rows: TaskRows) -> tuple[np.ndarray, tuple[Rule, ...]]:
        """Weights (q, d) adapted to the rows of one task, and the rules for further rows of it."""
        batches = [_all_rows(rows, np.array([0]), relative) for relative in self._weightings(rows)]
        omega, rules = np.empty((len(self._omega), rows.n_columns), rows.x.dtype), []
        for j, rule in enumerate(self._rules):
            if isinstance(rule, BlendRule):
                # The parts of a blend go on from where these rows have taken them.
                each = [of_target(batch, j) for batch in batches]
                moved = rule.after(each[0], each[-1])
                omega[j] = self._omega[j] + rule.shares @ (moved.starts - rule.starts)
                rules.append(moved)
            else:
                omega[j] = self._theta(j, batches)[0]
                rules.append(rule)
        return omega, tuple(rules)

    def _weightings(self, rows: TaskRows) -> tuple[bool, ...]:
        """Whether rows are weighted relative to their task's mean weight; both ways where a blend needs both.

        A gradient step follows a mean, where only relative weights count; a penalty is held against a sum.
        """
        if isinstance(self._rules[0], BlendRule):
            return (True,) if rows.weights is None else (True, False)
        return (isinstance(self._rules[0], GradientRule),)

    def _theta(self, j: int, batches: list[TaskBatch]) -> np.ndarray:
        """Weights (c, d) of target j from batches with the targets of all, one for each of ``_weightings``."""
        each = [of_target(batch, j) for batch in batches]
        rule = self._rules[j]
        if isinstance(rule, BlendRule):
            return rule.adapt(self._omega[j], each[0], each[-1])
        return rule.adapt(self._omega[j], each[0])

    def _raw(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predictions (R, q) in the targets' units; rows of tasks seen in training from those tasks' weights."""
        check_is_fitted(self)
        x = self._inputs(X)
        z = self._standard.features(x)
        out = z @ self._omega.T.astype(z.dtype)
        if groups is not None and self._task_omega is not None:
            place = places(self.task_ids_, group_values(groups, len(x)))
            seen = np.flatnonzero(place >= 0)
            for start in range(0, len(seen), 8192):
                part = seen[start : start + 8192]
                out[part] = np.einsum("rd,qrd->rq", z[part], self._task_omega[:, place[part]])
        return self._standard.restore_targets(out)

    def _inputs(self, X: Any) -> np.ndarray:
        return np.asarray(validate_data(self, as_array(X), dtype=[np.float64, np.float32], reset=False))

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return predictions for X (R, p).

        groups: (R,) task of each row; rows of a task seen in ``fit`` are predicted by that task's adapted weights, rows
            of other tasks by the common weights omega. None: all by omega. For a new task use ``adapt`` first.
        """
        return self._restored(self._raw(X, groups))

    def _support_and_query(
        self, x: np.ndarray, y: np.ndarray, groups: Any, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Adapt each task on n_support of its rows: predictions (R', q) of its other rows, and their positions."""
        ids, codes = task_codes(groups, len(x))
        weights = None if sample_weight is None else self._weights(sample_weight, x)
        numbers = np.arange(len(x))
        if weights is not None:
            numbers = numbers[weights > 0]
            present, codes = np.unique(codes[numbers], return_inverse=True)
            ids, weights = ids[present], weights[numbers]
        order, offsets = sort_by_task(codes)
        rows = TaskRows(
            x,
            self._standard,
            self._standard.targets(y[numbers[order]]),
            None if weights is None else weights[order],
            offsets,
            ids,
            numbers[order],
        ).large_enough(self.n_support, self.on_small)
        support, query = rows.split(self.n_support, np.random.SeedSequence(self._draw_seed))
        x_t, y_t = rows.inputs(support), rows.y[support]
        batches = []
        for relative in self._weightings(rows):
            w = rows.support_weights(support, relative)[..., None]
            batches.append(TaskBatch(x_t * w, y_t * w, x_t[:, :1], y_t[:, :1]))
        out = np.empty((len(query), len(self._omega)), rows.x.dtype)
        task = np.repeat(np.arange(rows.n_tasks), rows.counts - self.n_support)
        for j in range(len(self._omega)):
            theta = self._theta(j, batches)
            for start in range(0, len(query), 8192):
                part = slice(start, start + 8192)
                out[part, j] = np.einsum("rd,rd->r", rows.inputs(query[part]), theta[task[part]])
        return self._standard.restore_targets(out), rows.rows[query]

    def _score(self, X: Any, y: Any, groups: Any, sample_weight: Any, metric: Any) -> float:
        check_is_fitted(self)
        if groups is None:
            warn_no_groups(f"{type(self).__name__}.score", "nothing is adapted, and all rows are predicted by omega.")
            return float(metric(y, self.predict(X), sample_weight=sample_weight))
        x, targets = self._task_rows(X, y)
        predictions, position = self._support_and_query(x, targets, groups, sample_weight)
        weights = None if sample_weight is None else self._weights(sample_weight, x)[position]
        truth = np.asarray(y).reshape(len(x), -1)[position]
        truth = truth[:, 0] if truth.shape[1] == 1 else truth
        return float(metric(truth, self._restored(predictions), sample_weight=weights))

    @staticmethod
    def _weights(sample_weight: Any, x: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            # Newer versions of scikit-learn have said so already.
            raise InputError("sample_weight holds only zero weights: at least one row must count.")
        return np.asarray(weights)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer) and not isinstance(self.random_state, bool):
            if self.random_state < 0:
                raise InputError(f"random_state={self.random_state}: it must be a whole number of at least 0.")
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _publish_rates(self, scale: float, train_rate: float | None, adapt_rate: float | None = None) -> None:
        """Set scale_ and both rates, raw and spectral; ``adapt_rate`` is for rules that have none."""
        rule = self._rules[0]
        adapt_rate = rule.rate if isinstance(rule, GradientRule) else adapt_rate
        self.scale_ = scale
        self.train_rate_, self.adapt_rate_ = train_rate, adapt_rate
        self.train_rate_spectral_ = None if train_rate is None else train_rate / scale
        self.adapt_rate_spectral_ = None if adapt_rate is None else adapt_rate / scale


def _like_length(counts: np.ndarray) -> list[np.ndarray]:
    """Task numbers in groups of like length, and of bounded size."""
    exponent = np.frexp(counts.astype(np.float64))[1]
    out = []
    for e in np.unique(exponent):
        tasks = np.flatnonzero(exponent == e)
        out += np.array_split(tasks, max(1, len(tasks) // 1024))
    return out


def _all_rows(rows: TaskRows, tasks: np.ndarray, relative: bool) -> TaskBatch:
    """Batch in which all rows of each task are support rows; one row stands in for the query."""
    counts = rows.counts[tasks]
    slot = np.arange(int(counts.max()))
    mask = slot < counts[:, None]
    place = rows.offsets[tasks][:, None] + np.where(mask, slot, 0)
    x, y = rows.inputs(place), rows.y[place]
    if rows.weights is not None:
        w = np.where(mask, rows.weights[place], 0)
        if relative:
            w = w * (counts / w.sum(axis=1))[:, None]
        w = np.sqrt(w).astype(x.dtype)[..., None]
        x, y = x * w, y * w
    return TaskBatch(x, y, x[:, :1], y[:, :1], support_mask=mask)
