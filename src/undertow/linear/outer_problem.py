r"""The outer problem behind a path: where its numbers come from, and its solvers."""

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
from undertow.linear.solvers import (
    ILL_CONDITIONED,
    MINIMUM_NORM,
    DualSolver,
    Fit,
    GramSolver,
    RowSolver,
    Solver,
    StepSolver,
)

SOLVERS = ("auto", "gram", "dual", "rows", "stepwise")

# Below this many multiplications the slowest solver, which keeps all digits, takes about a tenth of a second.
_CHEAP = 2e7
_CHEAP_TO_COMPRESS = 5e8
_NUMBERS_AT_ONCE = 1 << 24


def check_ridges(ridge: Any) -> np.ndarray:
    """Return ridges as an array (r,), or raise InputError."""
    ridges = np.atleast_1d(_check.numbers(ridge, "ridge"))
    if ridges.ndim > 1 or ridges.size == 0 or (ridges < 0).any():
        raise InputError(
            f"ridge={ridge!r}: it must be one number or a flat sequence of numbers, each at least 0 (none)."
        )
    return ridges


@dataclass
class OuterProblem:
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
    def of(cls, tasks: Tasks | Moments, steps: int, init: Any, weighting: str | None, choice: str) -> OuterProblem:
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
        """Number of features, p."""
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
