"""How the estimators are trained: at given rates, ratios and ridge, or at those that a search chooses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.choice.mixed_family import task_statistics
from undertow.choice.record import Choice
from undertow.choice.row_space import RowSpace
from undertow.choice.search import RULES, WORK, search
from undertow.estimators.base import MAMLBase
from undertow.estimators.inputs import task_folds
from undertow.linear.block_moments import BlockMoments
from undertow.linear.gradient_step import stability_limit
from undertow.linear.moments import support_moment
from undertow.linear.path import RatePath, rate_path
from undertow.linear.proximal_step import RidgeMoments
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.linear.surface import LossSurface
from undertow.mixed.model import STRUCTURES, fit_mixed
from undertow.tasks.losses import TaskLosses
from undertow.tasks.rows import TaskRows, of_target

# Draws of this many numbers are held together and solved by whatever keeps most digits.
_FEW_NUMBERS = 1 << 23

# So many tasks say what rate is stable.
_LIMIT_TASKS = 500

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
    n_draws: int | None

    def _checked(self) -> None:
        _check.one_of(self.rule, "rule", RULES)
        _check.one_of(self.rate_unit, "rate_unit", ("raw", "spectral"))
        _check.positive_int(self.steps, "steps")
        if self.n_draws is not None:
            _check.positive_int(self.n_draws, "n_draws")
        _check.real(self.ridge, "ridge", minimum=0.0)
        _check.one_of(self.structure, "structure", STRUCTURES)
        if np.ndim(_check.rates(self.train_rate, "train_rate", infinite=True)):
            raise InputError(f"train_rate={self.train_rate!r}: it must be one number; MAMLRegressorCV tries many.")
        adapt_rate = _check.real(self.adapt_rate, "adapt_rate", hint="A rate may have either sign.")
        if self.rule == "gradient" and adapt_rate < 0:
            warnings.warn(
                f"adapt_rate={adapt_rate:g} is negative: the step moves away from the new task's data. The best "
                "adaptation rate is never negative on average; a negative rate is for meta-training (train_rate).",
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
        self._train_drawn(rows)
        if isinstance(self._rules[0], GradientRule):
            self._warn_unstable(rows, self._rules[0].rate)

    def _warn_unstable(self, rows: TaskRows, rate: float) -> None:
        """Warn of a raw adaptation rate at which steps overshoot in most training tasks."""
        some = np.linspace(0, rows.n_tasks - 1, min(_LIMIT_TASKS, rows.n_tasks)).round().astype(int)
        seed = np.random.SeedSequence(self._draw_seed, spawn_key=(0,))
        drawn = rows.select(np.unique(some)).draw(self.n_support, seed)
        limit = float(np.median(np.concatenate([stability_limit(of_target(batch, 0)) for batch, _, _ in drawn])))
        if rate > limit:
            unit = f", {limit / self.scale_:.3g} in spectral units" if self.rate_unit == "spectral" else ""
            warnings.warn(
                f"adapt_rate={self.adapt_rate:g} is above the stability limit of most training tasks: from 2 / "
                f"lambda_max of the support rows on, in the median {limit:.3g}{unit}, a step overshoots. Use a "
                "smaller rate.",
                stacklevel=6,
            )

    def _train_drawn(self, rows: TaskRows) -> None:
        d, n_rows = rows.n_columns, len(rows.y)
        work = float(n_rows) * ((self.steps + 1) * (d + 1)) ** 2
        n_draws = int(np.clip(WORK // work, 1, 5)) if self.n_draws is None else self.n_draws
        drawn = (
            batch
            for k in range(n_draws)
            for batch in rows.draw(self.n_support, np.random.SeedSequence(self._draw_seed, spawn_key=(k,)))
        )
        if n_draws * n_rows <= d or n_draws * n_rows * d <= _FEW_NUMBERS:
            self._train_on([batch for batch, _, _ in drawn])
            return
        # Tall tables are summed up batch by batch, for all targets at once, and never held as draws.
        if self.rule == "ridge":
            self._train_ridge((batch for batch, _, _ in drawn), rows.x.dtype)
            return
        one = np.zeros(1, dtype=np.int64)
        sums = BlockMoments.from_batches(drawn, np.zeros(rows.n_tasks, dtype=np.int64), one, self.steps)
        factor = sums.scale if self.rate_unit == "spectral" else 1.0
        rate = float(self.train_rate) * factor
        targets = range(sums.n_targets)
        paths = [rate_path(sums.moments(j), rate, ridge=float(self.ridge), steps=self.steps) for j in targets]
        self._set_gradient(paths, factor, rows.x.dtype)

    def _train_one(self, rows: TaskRows) -> None:
        self._checked()
        if self.rule == "mixed":
            self._train_mixed(rows)
            return
        self._train_on([rows.shared()])

    def _train_on(self, batches: list[TaskBatch]) -> None:
        if self.rule == "ridge":
            self._train_ridge(iter(batches), batches[0].query_x.dtype)
            return
        each = [[of_target(batch, j) for batch in batches] for j in range(batches[0].support_y.shape[2])]
        unit = rate_path(each[0], 0.0, ridge=1.0).scale
        factor = unit if self.rate_unit == "spectral" else 1.0
        rate = float(self.train_rate) * factor
        paths = [rate_path(tasks, rate, ridge=float(self.ridge), steps=self.steps) for tasks in each]
        self._set_gradient(paths, factor, batches[0].query_x.dtype)

    def _train_ridge(self, batches: Iterator[TaskBatch], dtype: Any) -> None:
        sums: list[RidgeMoments] = []
        support, n_tasks = np.zeros(()), 0.0
        for batch in batches:
            part, number = support_moment(batch)
            support, n_tasks = support + part, n_tasks + number
            ratio = [float(self.train_ratio)]
            new = [RidgeMoments.from_tasks(of_target(batch, j), ratio) for j in range(batch.support_y.shape[2])]
            sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        fits = [one.solve([float(self.ridge)]) for one in sums]
        self._omega = np.stack([fit.weights[0, 0] for fit in fits]).astype(dtype)
        self._rules = (ProximalRule(float(self.adapt_ratio)),) * len(fits)
        top = float(np.linalg.eigvalsh(support)[-1]) / n_tasks
        self._publish_rates(1 / top if top > 0 else 1.0, None)

    def _set_gradient(self, paths: list[RatePath], factor: float, dtype: Any) -> None:
        self._omega = np.stack([path.weights[0] for path in paths]).astype(dtype)
        self._rules = (GradientRule(float(self.adapt_rate) * factor, self.steps),) * len(paths)
        self._publish_rates(paths[0].scale, float(paths[0].train_rates[0]))

    def _train_mixed(self, rows: TaskRows) -> None:
        structure = self.structure if rows.n_tasks > 1 else "none"
        if structure == "intercept" and not self.fit_intercept:
            raise InputError("structure='intercept' needs fit_intercept=True: without it no intercept can vary.")
        statistics = [task_statistics(rows, j) for j in range(rows.y.shape[1])]
        fits = [fit_mixed(one, structure, seed=self._draw_seed) for one in statistics]
        self._omega = np.stack([fit.mean for fit in fits]).astype(rows.x.dtype)
        self._rules = tuple(ProximalRule(max(fit.noise_variance, 1e-12), fit.task_covariance) for fit in fits)
        # The spectral unit is that of the tasks' mean second moment, as with drawn support rows.
        support = np.zeros((rows.n_columns, rows.n_columns))
        for tasks in np.array_split(np.arange(rows.n_tasks), max(1, rows.n_tasks // 64)):
            place = np.arange(int(rows.offsets[tasks[0]]), int(rows.offsets[tasks[-1] + 1]))
            z = rows.inputs(place).astype(np.float64)
            weights = np.ones(len(place)) if rows.weights is None else rows.weights[place]
            total = np.add.reduceat(weights, rows.offsets[tasks] - place[0])
            support += (z * (weights / np.repeat(total, rows.counts[tasks]))[:, None]).T @ z
        top = float(np.linalg.eigvalsh(support)[-1]) / rows.n_tasks
        self._publish_rates(1 / top if top > 0 else 1.0, None)


class SearchMixin(MAMLBase):
    """Training at rates, ratios and ridge chosen by task-wise cross-validation."""

    cv: Any
    rules: str | Sequence[str]
    blend: bool
    ridges: Any
    steps: int | Sequence[int]
    n_rates: int | None
    n_draws: int | None
    level: float
    rate_path_: RatePath | list[RatePath] | None
    choice_: Choice | None
    cv_surface_: LossSurface | None
    held_out_: TaskLosses | None

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
        if not isinstance(self.blend, bool | np.bool_):
            raise InputError(f"blend={self.blend!r}: it must be True or False.")
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
        # With more columns than rows the rows' own directions are all there is to search in.
        space = RowSpace.of(everything)
        found = search(
            everything if space is None else space.rows,
            rows if space is None else space.rows.large_enough(self.n_support, "drop"),
            n_support=self.n_support,
            cv=task_folds(self.cv, rows),
            rules=[self.rules] if isinstance(self.rules, str) else list(self.rules),
            blend=self.blend,
            ridges=(ridges if space is None else ridges * space.ridge_factor).tolist(),
            rotated=space is not None,
            steps=steps,
            n_draws=self.n_draws,
            n_rates=self.n_rates,
            level=self.level,
            seed=self._draw_seed,
        )
        best = found.best if space is None else space.found(found.best)
        self._omega = best.weights.astype(rows.x.dtype)
        self._rules = best.rules
        settings = best.settings
        self.choice_ = found.choice if space is None else space.choice(found.choice)
        self.rule_ = found.choice.strategy
        self.ridge_ = settings.get("ridge")
        self.steps_ = int(settings["steps"]) if "steps" in settings else None
        self.n_draws_ = found.n_draws
        self.cv_surface_ = found.surface if space is None else space.surface(found.surface)
        self.held_out_ = found.held_out
        pick = found.pick
        moments = found.moments.first(pick.steps)
        paths = [rate_path(moments.moments(j), ridge=pick.ridge, steps=pick.steps) for j in range(rows.y.shape[1])]
        paths = paths if space is None else [space.path(path) for path in paths]
        self.rate_path_ = paths[0] if len(paths) == 1 else paths
        # A strategy without rates still leaves the gradient rule's best ones to be read.
        self._publish_rates(found.scale, settings.get("train_rate", pick.train_rate), pick.adapt_rate)

    def _train_one(self, rows: TaskRows) -> None:
        self._checked()
        self._train_pooled([rows.shared()])

    def _train_pooled(self, batches: list[TaskBatch]) -> None:
        """One task: there is nothing to choose by, so the weights are a ridge regression and nothing is adapted."""
        self.choice_, self.rate_path_, self.rule_, self.n_draws_, self.steps_ = None, None, "joint", 1, 1
        self.ridge_, self.cv_surface_, self.held_out_ = 1e-3, None, None
        each = [[of_target(batch, j) for batch in batches] for j in range(batches[0].support_y.shape[2])]
        paths = [rate_path(tasks, 0.0, ridge=self.ridge_) for tasks in each]
        self._omega = np.stack([path.weights[0] for path in paths])
        self._rules = (GradientRule(0.0),) * len(paths)
        self._publish_rates(paths[0].scale, 0.0)
