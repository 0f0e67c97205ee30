r"""All rates, all ridges: the path of exact solutions of the outer problem over signed training rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, one_of
from undertow.linear import circle
from undertow.linear.blocks import MAX_STEPS, Tasks, as_batches, check_steps
from undertow.linear.moments import Moments, of_batch, sum_moments, support_moment
from undertow.linear.solve import (
    ILL_CONDITIONED,
    MINIMUM_NORM,
    REMEDY,
    DualSolver,
    Fit,
    GramSolver,
    RowSolver,
    Solver,
    StepSolver,
)
from undertow.linear.surface import LossSurface, evaluate

SOLVERS = ("auto", "gram", "dual", "rows", "stepwise")

# Below this many multiplications the slowest solver, which keeps all digits, takes about a tenth of a second.
_CHEAP = 2e7
_CHEAP_TO_COMPRESS = 5e8
_NUMBERS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class RatePath:
    """Exact meta-learned weights at each training rate (and each ridge).

    With several ridges the arrays marked (k,) have shape (k, r) and ``weights`` has shape (k, r, p).
    """

    train_rates: np.ndarray
    """(k,) raw rates alpha_t, of either sign; infinity is a rate"""
    weights: np.ndarray
    """(k, p) omega"""
    meta_loss: np.ndarray
    """(k,) half the mean squared error on the query rows after the inner steps; infinite at the rate infinity"""
    outcome: np.ndarray
    """(k,) "full_rank", "minimum_norm", "ridge" or "ill_conditioned"; ``explain`` says more"""
    condition: np.ndarray
    """(k,) condition number of the outer problem"""
    rank: np.ndarray
    """(k,) its numerical rank, before any ridge"""
    ridges: np.ndarray
    """(r,) ridges, relative to tr(B^T B) / p"""
    scale: float
    """spectral unit of the rate, 1 / lambda_max of the mean support second moment"""
    steps: int
    """number of inner steps k while meta-training"""
    init: np.ndarray
    """(p,) omega_0"""
    n_rows: int
    """N, number of query rows"""
    n_tasks: int
    """m, number of tasks"""
    problem: _Problem
    """the outer problem, kept so that further rates can be asked for (``at``)"""

    @property
    def spectral_rates(self) -> np.ndarray:
        """(k,) rates in the spectral unit."""
        return self.train_rates / self.scale

    @property
    def angles(self) -> np.ndarray:
        """(k,) angles of the rates on the circle, in [-pi/2, pi/2]."""
        return circle.angles_of(self.train_rates, self.scale)

    def at(self, train_rates: Any) -> RatePath:
        """Return the path of the same problem at other raw rates, without reading the tasks again."""
        rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
        return _solve(self.problem, rates, self.ridges, self.outcome.ndim == 2)

    def evaluate(
        self, new_tasks: Tasks | Moments, *, steps: int = 1, per_task: bool = False, weighting: str | None = None
    ) -> LossSurface:
        """Return the test loss on new tasks as a function of both rates, exactly.

        new_tasks: their support rows are the adaptation rows and their query rows the test rows.
        steps: number of adaptation steps. per_task: also keep the loss of each task (memory m k (steps + 1)^2).
        Raises InputError when the tasks have another number of features.
        """
        return evaluate(
            self.train_rates, self.weights, self.scale, self.ridges, new_tasks, steps, per_task, weighting, self
        )

    def explain(self, index: int = 0) -> str:
        """Say in words how the solution at one position of the path was found, and what to do if it is poor."""
        if not -len(self.train_rates) <= index < len(self.train_rates):
            raise InputError(f"index={index}: the path has {len(self.train_rates)} rates, numbered from 0.")
        name = str(np.atleast_2d(self.outcome.T).T[index].flat[0])
        condition = float(np.atleast_2d(self.condition.T).T[index].flat[0])
        return (
            f"train_rate={self.train_rates[index]:g}: {name.replace('_', ' ')} (rank {self.rank[index]} of "
            f"{self.weights.shape[-1]}, condition number {condition:.3g}). {REMEDY[name]}"
        )

    def __repr__(self) -> str:
        finite = self.train_rates[np.isfinite(self.train_rates)]
        span = f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "infinity"
        return (
            f"RatePath({len(self.train_rates)} rates, {span}; {self.n_tasks} tasks, {self.n_rows} query rows, "
            f"{self.weights.shape[-1]} features, steps={self.steps}, ridges={self.ridges.tolist()})"
        )


def rate_path(
    tasks: Tasks | Moments,
    train_rates: Any = None,
    ridge: Any = 0.0,
    init: Any = None,
    steps: int = 1,
    *,
    rate_unit: str = "raw",
    weighting: str | None = None,
    solver: str = "auto",
) -> RatePath:
    """Solve the outer problem of MAML exactly at every training rate, in one pass over the tasks.

    tasks: a TaskBatch, a sequence of them (they are read one after the other), or Moments.
    train_rates: rates of the inner step, of either sign; 0 means no inner loop, infinity is allowed. None means a
        grid of 101 rates that is uniform on the circle: fine near 0, both signs alike, reaching infinity.
    ridge: one number or several >= 0, relative to tr(B^T B) / p of the outer problem; it pulls towards ``init``.
    init: omega_0, (p,); None means zeros. With fewer independent rows than features and no ridge the solution is the
        one nearest to it.
    steps: number of inner steps, each at the same rate. Beyond 8 the tasks are read once per rate.
    rate_unit: "raw", or "spectral" when ``train_rates`` are multiples of 1 / lambda_max (see ``RatePath.scale``).
    weighting: "rows" (each query row counts once, as in one stacked least-squares problem) or "tasks" (each task once);
        None means "rows", or that of the moments.
    solver: "gram" (moments), "dual" (kernel between rows), "rows" (singular values, all digits), "stepwise" (the same,
        reading the tasks anew at each rate, for many steps), or "auto", which takes the cheapest and goes over to the
        next where more than half of the digits would be lost.

    Raises InputError naming the argument that cannot be used.
    """
    problem = _Problem.of(tasks, steps, init, weighting, one_of(solver, "solver", SOLVERS))
    one_of(rate_unit, "rate_unit", ("raw", "spectral"))
    if train_rates is None:
        rates = circle.rates_of(circle.grid(), problem.scale)
    else:
        rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
        rates = rates * problem.scale if rate_unit == "spectral" else rates
    return _solve(problem, rates, check_ridges(ridge), np.ndim(ridge) > 0)


def check_ridges(ridge: Any) -> np.ndarray:
    """Return ridges as an array (r,), or raise InputError."""
    ridges = np.atleast_1d(_check.numbers(ridge, "ridge"))
    if ridges.ndim > 1 or ridges.size == 0 or (ridges < 0).any():
        raise InputError(
            f"ridge={ridge!r}: it must be one number or a flat sequence of numbers, each at least 0 (none)."
        )
    return ridges


@dataclass
class _Problem:
    """The outer problem behind a path: where its numbers come from, and its solvers, made when first needed."""

    batches: list[TaskBatch] | None
    support: list[tuple[np.ndarray, float]]
    moments: Moments | None
    steps: int
    init: np.ndarray
    weighting: str
    choice: str
    scale: float
    n_rows: int
    n_tasks: int
    weight: float
    dtype: np.dtype
    basis: np.ndarray | None = None
    """(p, r) orthonormal columns, where the problem is posed in the r directions that the rows span (moments only)"""
    _dual: DualSolver | None = None
    _rows: RowSolver | None = None

    @classmethod
    def of(cls, tasks: Tasks | Moments, steps: int, init: Any, weighting: str | None, choice: str) -> _Problem:
        """Check the arguments and read the spectral unit."""
        steps = _check.positive_int(steps, "steps")
        if isinstance(tasks, Moments):
            if tasks.steps != steps:
                raise InputError(
                    f"steps={steps}, but the moments were made for {tasks.steps}: make them with steps={steps}."
                )
            if weighting not in (None, tasks.weighting):
                raise InputError(f"weighting={weighting!r}, but the moments were made with {tasks.weighting!r}.")
            if choice not in ("auto", "gram"):
                raise InputError(f"solver={choice!r} needs the tasks themselves, not their moments: use solver='gram'.")
            start = _init(init, tasks.n_features)
            moments = tasks.centred(start) if start.any() else tasks
            dtype = np.dtype(np.float64)
            return cls(
                None,
                [],
                moments,
                steps,
                start,
                tasks.weighting,
                "gram",
                tasks.scale,
                tasks.n_rows,
                tasks.n_tasks,
                tasks.weight,
                dtype,
            )
        batches = as_batches(tasks)
        start = _init(init, batches[0].n_features)
        n_rows = sum(batch.n_query_rows for batch in batches)
        n_tasks = sum(batch.n_tasks for batch in batches)
        weighting = one_of("rows" if weighting is None else weighting, "weighting", ("rows", "tasks"))
        support = [support_moment(batch) for batch in batches]
        top = float(np.linalg.eigvalsh(sum(part[0] for part in support))[-1]) / sum(part[1] for part in support)
        dtype = np.result_type(*(a for b in batches for a in (b.support_x, b.query_x)), np.float32)
        _refuse_extreme_units(top, steps, dtype)
        weight = float(n_rows if weighting == "rows" else n_tasks)
        scale = 1 / top if top > 0 else 1.0
        return cls(batches, support, None, steps, start, weighting, choice, scale, n_rows, n_tasks, weight, dtype)

    @property
    def n_features(self) -> int:
        return len(self.init)

    def solve(self, turns: np.ndarray, ridges: np.ndarray) -> Fit:
        """Solve by the chosen solver; "auto" mends by slower ones what the faster ones could not do well.

        turns: (k, 2) the homogeneous coefficients of one step, cos(phi) and -scale sin(phi).
        """
        if self.choice != "auto":
            return self._in_parts(self.choice, turns, ridges)
        if self.steps > MAX_STEPS:
            return self._in_parts("stepwise", turns, ridges)
        name = self._cheapest(len(turns))
        fit = self._in_parts(name, turns, ridges)
        if name != "rows":
            # A rank that moments or kernel find too low may be lost digits; under a ridge it does no harm.
            low = (fit.outcome == MINIMUM_NORM).any(axis=1) & (fit.rank < min(self.n_rows, self.n_features))
            self._mend(fit, (fit.outcome == ILL_CONDITIONED).any(axis=1) | low, "rows", turns, ridges)
        # Well-conditioned, and yet digits are lost: in the powers of S, which taking the steps one by one avoids.
        cancelled = (fit.outcome == ILL_CONDITIONED) & (fit.condition < 1e6)
        self._mend(fit, cancelled.any(axis=1), "stepwise", turns, ridges)
        return fit

    def _mend(self, fit: Fit, poor: np.ndarray, name: str, turns: np.ndarray, ridges: np.ndarray) -> None:
        if self.batches is None or not poor.any():
            return
        for ours, theirs in zip(fit, self._in_parts(name, turns[poor], ridges), strict=True):
            ours[poor] = theirs

    def _in_parts(self, name: str, turns: np.ndarray, ridges: np.ndarray) -> Fit:
        """Solve for some rates at a time, so that their matrices never take more than about 128 MB."""
        p, n = self.n_features, self.n_rows
        short = min(n, (self.steps + 1) * (p + 1))
        numbers = {"gram": (p + 1) ** 2, "dual": n * n, "rows": short * (p + 1), "stepwise": 1}[name]
        coefficients = turns if name == "stepwise" else circle.homogeneous(turns[:, 0], turns[:, 1], self.steps)
        size = max(1, _NUMBERS_AT_ONCE // numbers)
        solver = self.by(name)
        parts = [solver.solve(coefficients[i : i + size], ridges) for i in range(0, len(coefficients), size)]
        return parts[0] if len(parts) == 1 else Fit(*(np.concatenate(field) for field in zip(*parts, strict=True)))

    def _cheapest(self, n_rates: int) -> str:
        p = self.n_features
        width = (self.steps + 1) * (p + 1)
        short = min(self.n_rows, width)
        if (
            n_rates * short * p * min(short, p) <= _CHEAP
            and self.n_rows * width * min(width, self.n_rows) <= _CHEAP_TO_COMPRESS
        ):
            return "rows"
        return "dual" if self.n_rows < p else "gram"

    def by(self, name: str) -> Solver:
        """Return one solver, making it if it is not there yet."""
        if name == "stepwise":
            return StepSolver(self._tasks, self.steps, self.weighting, self.init)
        check_steps(self.steps)
        if name == "gram":
            if self.moments is None:
                parts = zip(self._tasks, self.support, strict=True)
                moments = sum_moments(of_batch(batch, self.steps, self.weighting, known) for batch, known in parts)
                self.moments = moments.centred(self.init) if self.init.any() else moments
            return GramSolver(self.moments)
        if name == "dual":
            if self._dual is None:
                self._dual = DualSolver.from_batches(self._tasks, self.steps, self.weighting, self.init)
            return self._dual
        if self._rows is None:
            self._rows = RowSolver.from_batches(self._tasks, self.steps, self.weighting, self.init)
        return self._rows

    @property
    def _tasks(self) -> list[TaskBatch]:
        assert self.batches is not None  # "gram" was forced where only moments are there
        return self.batches


def _refuse_extreme_units(top: float, steps: int, dtype: np.dtype) -> None:
    """Raise InputError where products of the blocks would leave the range of the numbers."""
    limits = np.finfo(dtype)
    power = np.log10(top) * (2 * min(steps, MAX_STEPS) + 1) if top > 0 else 0.0
    if not np.log10(limits.tiny) + 12 < power < np.log10(limits.max) - 12:
        raise InputError(
            f"the largest mean square of the features is about {top:.3g}: products for {steps} steps leave the range "
            f"of {dtype}. Scale the features to about 1 first."
        )


def _init(init: Any, p: int) -> np.ndarray:
    if init is None:
        return np.zeros(p)
    return _check.vector(init, "init", p)


def _solve(problem: _Problem, rates: np.ndarray, ridges: np.ndarray, many: bool) -> RatePath:
    turns, cos = circle.coefficients(rates, problem.scale, 1)
    basis, init = problem.basis, problem.init
    # A ridge is relative to a mean over all columns.
    fit = problem.solve(turns, ridges if basis is None else ridges * basis.shape[1] / basis.shape[0])
    loss = _raw_loss(fit.residual / (2 * problem.weight), cos ** (2 * problem.steps), fit, problem, ridges)
    weights = init + fit.weights
    if basis is not None:
        weights, init = weights @ basis.T, basis @ init
    weights = weights.astype(problem.dtype)
    take = slice(None) if many else 0
    return RatePath(
        train_rates=rates,
        weights=weights[:, take],
        meta_loss=loss[:, take],
        outcome=fit.outcome[:, take],
        condition=fit.condition[:, take],
        rank=fit.rank,
        ridges=ridges,
        scale=problem.scale,
        steps=problem.steps,
        init=init,
        n_rows=problem.n_rows,
        n_tasks=problem.n_tasks,
        problem=problem,
    )


def _raw_loss(scaled: np.ndarray, factor: np.ndarray, fit: Fit, problem: _Problem, ridges: np.ndarray) -> np.ndarray:
    """Undo the homogeneous form: at the rate infinity any residual is an infinite loss."""
    interpolates = (fit.rank == problem.n_rows)[:, None] & (ridges == 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        raw = scaled / factor[:, None]
    return np.where(factor[:, None] > 0, raw, np.where(interpolates, 0.0, np.inf))
