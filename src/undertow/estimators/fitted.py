"""A fitted model as a value: common weights, the rules that adapt them, and the weights of the tasks it has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.choice.uncertainty import Uncertainty
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.levels import Levels, Taken
from undertow.estimators.linked import Link
from undertow.linear.rules import BlendRule, Rule
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.tasks import labels
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.standard import Standard

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Letters: q targets, d standardised columns, p features, m tasks.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor(adapt_rate=0.3).fit(table.x, table.y, groups=table.groups)
    >>> fitted = model.model_
    >>> fitted.omega.shape, fitted.task_omega.shape
    ((1, 4), (1, 142, 4))
    >>> coefficients, intercepts = fitted.coefficients
    >>> bool((fitted.predict(table.x)[:, 0] == model.predict(table.x)).all())
    True
    """

    standard: Standard
    """from the user's units to standardised ones and back"""
    omega: np.ndarray
    """(q, d) common weights"""
    rules: tuple[Rule | LaplaceRule, ...]
    """rule of each target"""
    task_ids: np.ndarray
    """(m,) tasks whose weights are known, sorted"""
    stored_omega: np.ndarray | None = None
    """(q, m, d) their weights where these have been made; else None, see ``task_omega``"""
    task_rows: KnownRows | None = None
    """what is kept of their rows; None where nothing is, and further rows cannot be added to them"""
    unadapted: np.ndarray | None = None
    """(q, d) weights that predict tasks without labelled rows, where these are not the common ones"""
    uncertainty: Uncertainty | None = None
    """behind intervals; None where nothing speaks of errors"""
    levels: Levels | None = None
    """of a second grouping, which the targets here are without; None where there is none"""
    link: Link | None = None
    """of a model of two values or counts, whose weights make the log odds, or the log of the mean; else None"""
    one_task: KnownRows | None = None
    """what is kept of the rows of a ridge regression on one task, to which rows can be added; None for other models"""

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return len(self.omega)

    @property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of a task without labelled rows, in the user's units: coefficients (q, p) and intercepts (q,)."""
        return self.standard.restore_weights(self.alone)

    @property
    def alone(self) -> np.ndarray:
        """(q, d) what predicts a task without labelled rows."""
        return self.omega if self.unadapted is None else self.unadapted

    @cached_property
    def task_omega(self) -> np.ndarray | None:
        """(q, m, d) weights of the tasks, made of their rows when first asked for; None where there was one task."""
        if self.stored_omega is not None or self.task_rows is None:
            return self.stored_omega
        return self.weights_of(self.task_rows)

    @property
    def knows_tasks(self) -> bool:
        """Whether there are tasks whose weights are known."""
        return self.stored_omega is not None or self.task_rows is not None

    def rows(
        self,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
        tasks: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> TaskRows:
        """Return rows x (R, p), targets (R, q) in this model's standardised units.

        Parameters
        ----------
        weights
            (R,); rows of weight 0 leave no trace.
        tasks
            ids (m,) and the number of each row's task (R,); None for one task.
        """
        ids, codes = (np.array([0]), np.zeros(len(x), dtype=np.int64)) if tasks is None else tasks
        return task_rows(self.standard, x, targets, weights, ids, codes)

    def adapt(self, rows: TaskRows) -> FittedModel:
        """Return the model adapted to the rows of one task; further rows of it may follow."""
        batch = _all_rows(rows, np.array([0]))
        omega, rules = np.empty((self.n_targets, rows.n_columns), rows.x.dtype), []
        for j, rule in enumerate(self.rules):
            if isinstance(rule, BlendRule):
                # The parts of a blend go on from where these rows have taken them.
                after = rule.after(of_target(batch, j))
                omega[j] = self.omega[j] + rule.shares @ (after.starts - rule.starts)
                rules.append(after)
            else:
                omega[j] = self.adapt_each(batch, j)[0]
                rules.append(rule)
        link = None if self.link is None else self.link.after(omega[0], of_target(batch, 0))
        uncertainty = self.uncertainty
        if uncertainty is not None:
            z = rows.inputs().astype(np.float64)
            uncertainty = uncertainty.after(z if rows.weights is None else z * np.sqrt(rows.weights)[:, None])
        known = replace(self, stored_omega=None, task_rows=None, one_task=None, unadapted=None, link=link)
        return replace(known, omega=omega, rules=tuple(rules), uncertainty=uncertainty)

    def with_levels(self, taken: Taken) -> FittedModel:
        """Return the model that was trained without the levels with them."""
        return replace(self, levels=taken.levels, uncertainty=taken.added_to(self.uncertainty))

    def with_tasks(self, rows: TaskRows) -> FittedModel:
        """Return the model that knows the tasks of ``rows`` too; the rows of a task known by its id are added to it.

        A known task whose rows were not kept is adapted anew from the common weights.
        """
        new, before = KnownRows.of(rows, self.link is not None), self.task_omega
        if before is None:
            return replace(self, task_ids=rows.ids, task_rows=new)
        ids, codes = labels.union(self.task_ids, rows.ids)
        kept = None if self.task_rows is None else self.task_rows.joined(new, codes, len(ids))
        known, into = np.split(codes, [len(self.task_ids)])
        omega = np.empty((self.n_targets, len(ids), rows.n_columns), rows.x.dtype)
        omega[:, known] = before
        omega[:, into] = self.weights_of(new if kept is None else kept.take(into))
        return replace(self, task_ids=ids, stored_omega=omega, task_rows=kept)

    def weights_of(self, known: KnownRows) -> np.ndarray:
        """Return the weights (q, m, d) of tasks, adapted to all of their rows."""
        q, d = self.omega.shape
        out = np.empty((q, len(known.totals), d), known.rows.dtype)
        for tasks in known.chunks():
            batch = known.batch(tasks, d)
            for j in range(q):
                out[j, tasks] = self.adapt_each(batch, j)
        return out

    def without_tasks(self) -> FittedModel:
        """Return the model that knows no task: each one is new to it."""
        return replace(self, task_ids=self.task_ids[:0], stored_omega=None, task_rows=None)

    def adapt_each(self, batch: TaskBatch, target: int = 0) -> np.ndarray:
        """Return weights (c, d) of one target for each task of a batch with the targets of all."""
        return self.rules[target].adapt(self.omega[target], of_target(batch, target))

    def predict(self, x: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Return predictions (R, q) in the targets' units for x (R, p).

        Parameters
        ----------
        places
            (R,) position of each row's task among ``task_ids``, whose weights it is predicted by; -1 for a task
            without rows. None: all rows as such.
        """
        z = self.standard.features(x)
        out = self._linear(z, places)
        if self.link is not None:
            return self.link.mean(out[:, 0], self.link.open(z, places, self.task_omega, self.task_rows))
        return self.standard.restore_targets(out)

    def _linear(self, z: np.ndarray, places: np.ndarray | None) -> np.ndarray:
        """Rows z (R, d) times the weights of their tasks, (R, q)."""
        out = z @ self.alone.T.astype(z.dtype)
        if places is not None and (places >= 0).any() and (omega := self.task_omega) is not None:
            seen = np.flatnonzero(places >= 0)
            for start in range(0, len(seen), _ROWS_AT_ONCE):
                part = seen[start : start + _ROWS_AT_ONCE]
                out[part] = np.einsum("rd,qrd->rq", z[part], omega[:, places[part]])
        return out

    def bounds(
        self,
        predictions: np.ndarray,
        x: np.ndarray,
        level: float,
        places: np.ndarray | None = None,
        levels: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends (R, q) of the interval around each prediction (R, q), in the targets' units.

        Raises
        ------
        InputError
            for a level outside 0.01 to 0.99, for two values, and where nothing is known of errors.
        """
        if self.link is None:
            half = self.half_widths(x, level, places, levels)
            return predictions - half, predictions + half
        z = self.standard.features(x)
        variance = self.link.open(z, places, self.task_omega, self.task_rows)
        return self.link.interval(self._linear(z, places)[:, 0], variance, level)

    def half_widths(
        self, x: np.ndarray, level: float, places: np.ndarray | None = None, levels: Any = None
    ) -> np.ndarray:
        """Return half the length (R, q) of the interval around each prediction of ``predict``, in the targets' units.

        Raises
        ------
        InputError
            for a level outside 0.01 to 0.99, and where nothing is known of errors.
        """
        if self.uncertainty is None:
            raise InputError(
                "interval",
                level,
                "this model has no held-out errors and no variances to make intervals from.",
                "Use an estimator with CV and at least three tasks, or rule=MixedRule().",
            )
        z = self.standard.features(x)
        widths = self.uncertainty.half_widths(z, level)
        if places is not None and (kept := self.task_rows) is not None:
            seen = np.flatnonzero(places >= 0)
            seen = seen[np.argsort(places[seen], kind="stable")]
            tasks, starts = np.unique(places[seen], return_index=True)
            for task, part in zip(tasks, np.split(seen, starts[1:]) if len(seen) else (), strict=True):
                own = kept.factor[kept.offsets[task] : kept.offsets[task + 1], : z.shape[1]]
                known = self.uncertainty.after(own, round(float(kept.totals[task])))
                widths[part] = known.half_widths(z[part], level)
        widths = widths * self.standard.target_spread
        return widths if self.levels is None else self.levels.widened(widths, level, levels)

    @property
    def has_probabilities(self) -> bool:
        """Whether held-out tasks say how often a class comes at a predicted number."""
        if self.link is not None:
            return self.link.rule.family == "binomial"
        return self.uncertainty is not None and bool(self.uncertainty.curves.size)

    def probabilities(self, x: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Return the probability (R, q) of the larger of two values of each target; x and places as in ``predict``."""
        if self.link is not None:
            low = self.link.rule.low
            return (self.predict(x, places) - low) / (1 - low)
        assert self.uncertainty is not None
        values = self.standard.targets(self.predict(x, places).astype(np.float64))
        known = np.zeros(len(values))
        if places is not None and self.task_rows is not None:
            known = np.where(places >= 0, self.task_rows.totals[places], 0.0)
        return self.uncertainty.probabilities(values, known)

    def predict_query(self, rows: TaskRows, n_support: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Adapt tasks on some of their rows, at random; return predictions (R', q) of all others, and their numbers."""
        support, query = rows.split(n_support, np.random.SeedSequence(seed))
        x_t, y_t = rows.inputs(support), rows.y[support]
        w, mean = rows.support_weights(support)[..., None], None
        if rows.weights is not None:
            mean = rows.weights[support].mean(axis=1)
        batch = TaskBatch(x_t * w, y_t * w, x_t[:, :1], y_t[:, :1], support_weight=mean)
        out = np.empty((len(query), self.n_targets), rows.x.dtype)
        task = np.repeat(np.arange(rows.n_tasks), rows.counts - n_support)
        for j in range(self.n_targets):
            theta, link = self.adapt_each(batch, j), self.link
            spread = None if link is None else link.rule.spread(theta, of_target(batch, j))
            for start in range(0, len(query), _ROWS_AT_ONCE):
                part = slice(start, start + _ROWS_AT_ONCE)
                z = rows.inputs(query[part])
                out[part, j] = np.einsum("rd,rd->r", z, theta[task[part]])
                if link is not None and spread is not None:
                    out[part] = link.mean(out[part, j], link.rule.variance(z, spread[task[part]]))
        return self.standard.restore_targets(out), rows.rows[query]


def task_rows(
    standard: Standard,
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    ids: np.ndarray,
    codes: np.ndarray,
) -> TaskRows:
    """Return rows x (R, p) and targets (R, q), sorted by the number of their task, codes (R,), and standardised.

    A row of weight 0 leaves no trace, not even in the draw of support rows.
    """
    numbers, ids, offsets = by_task(ids, codes, weights)
    return TaskRows(
        x=x,
        standard=standard,
        y=standard.targets(targets[numbers]),
        weights=None if weights is None else weights[numbers],
        offsets=offsets,
        ids=ids,
        rows=numbers,
    )


def by_task(
    ids: np.ndarray, codes: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of the rows sorted by task, in their order within each, and the ids and offsets of the tasks.

    codes: (R,) number of each row's task among ``ids``. Rows of weight 0 are left out.
    """
    numbers = np.arange(len(codes))
    if weights is not None and not (weights > 0).all():
        numbers = np.flatnonzero(weights > 0)
        present, codes = np.unique(codes[numbers], return_inverse=True)
        ids = ids[present]
    return numbers[np.argsort(codes, kind="stable")], ids, np.concatenate([[0], np.cumsum(np.bincount(codes))])


def _all_rows(rows: TaskRows, tasks: np.ndarray) -> TaskBatch:
    """Batch in which all rows of each task are support rows; one row stands in for the query."""
    counts = rows.counts[tasks]
    slot = np.arange(int(counts.max()))
    mask = slot < counts[:, None]
    place = rows.offsets[tasks][:, None] + np.where(mask, slot, 0)
    x, y, mean = rows.inputs(place), rows.y[place], None
    if rows.weights is not None:
        w = np.where(mask, rows.weights[place], 0)
        mean = w.sum(axis=1) / counts
        w = np.sqrt(w / mean[:, None]).astype(x.dtype)[..., None]
        x, y = x * w, y * w
    return TaskBatch(x, y, x[:, :1], y[:, :1], support_mask=mask, support_weight=mean)
