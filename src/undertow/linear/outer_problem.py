r"""The outer problem behind a path: where its numbers come from, and its solvers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting, one_of
from undertow._types import Basis, Ridges, Square, Turn, Turns, Vector
from undertow.linear import circle
from undertow.linear.blocks import MAX_STEPS, Tasks, as_batches, check_steps
from undertow.linear.moments import Moments, of_batch, same_weighting, spectral_unit, sum_moments, support_moment
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


def check_ridges(ridge: Any) -> Ridges:
    """Return ridges as an array (r,), or raise InputError."""
    ridges = np.atleast_1d(_check.numbers(ridge, "ridge"))
    if ridges.ndim > 1 or ridges.size == 0 or (ridges < 0).any():
        raise InputError("ridge", ridge, "it must be one number or a flat sequence of numbers, each at least 0 (none).")
    return ridges


@dataclass(frozen=True, eq=False)
class OuterProblem:
    """The outer problem behind a path: where its numbers come from, and its solvers, each made when first needed."""

    batches: tuple[TaskBatch, ...]
    """the tasks; none where only their moments were given"""
    given: Moments | None
    """moments in place of tasks, of omega - omega_0"""
    steps: int
    """number of inner steps, k"""
    init: Vector
    """(p,) omega_0"""
    weighting: str
    """how query rows are weighted: "rows" or "tasks" """
    solver: str
    """one of ``SOLVERS``"""
    basis: Basis | None = None
    """(p, r) orthonormal columns, where the problem is posed in the r directions that the rows span (moments only)"""
    n_jobs: int | None = None
    """how many workers make the moments"""

    @classmethod
    def of(
        cls,
        tasks: Tasks | Moments,
        steps: int = 1,
        init: Any = None,
        weighting: str | None = None,
        solver: str = "auto",
        n_jobs: int | None = None,
    ) -> OuterProblem:
        """Return the problem of these tasks; arguments are those of ``rate_path``, and so are the errors."""
        steps = _check.whole_number(steps, "steps")
        one_of(solver, "solver", SOLVERS)
        if isinstance(tasks, Moments):
            if tasks.steps != steps:
                rule = f"the moments were made for {tasks.steps}."
                raise InputError("steps", steps, rule, ("Make them with ", Setting("steps", steps), "."))
            same_weighting(weighting, tasks)
            if solver not in ("auto", "gram"):
                way_out = ("Use ", Setting("solver", "gram"), ".")
                raise InputError("solver", solver, "it needs the tasks themselves, not their moments.", way_out)
            start = _init(init, tasks.n_features)
            return cls((), tasks.centred(start) if start.any() else tasks, steps, start, tasks.weighting, "gram")
        batches = tuple(as_batches(tasks))
        start = _init(init, batches[0].n_features)
        weighting = one_of("rows" if weighting is None else weighting, "weighting", ("rows", "tasks"))
        problem = cls(batches, None, steps, start, weighting, solver, n_jobs=n_jobs)
        _refuse_extreme_units(problem.scale, steps, problem.dtype)
        return problem

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return len(self.init)

    @cached_property
    def n_rows(self) -> int:
        """Number of query rows, N."""
        return sum(batch.n_query_rows for batch in self.batches) if self.given is None else self.given.n_rows

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return sum(batch.n_tasks for batch in self.batches) if self.given is None else self.given.n_tasks

    @property
    def weight(self) -> float:
        """Total weight of the query rows."""
        if self.given is not None:
            return self.given.weight
        return float(self.n_rows if self.weighting == "rows" else self.n_tasks)

    @property
    def dtype(self) -> np.dtype:
        """Precision of the weights: that of the inputs."""
        arrays = (array for batch in self.batches for array in (batch.support_x, batch.query_x))
        return np.dtype(np.float64) if self.given is not None else np.result_type(*arrays, np.float32)

    @cached_property
    def scale(self) -> float:
        """Spectral unit of the rate, as in ``Moments``."""
        if self.given is not None:
            return self.given.scale
        parts, numbers = zip(*self._support, strict=True)
        return spectral_unit(np.sum(parts, axis=0), sum(numbers))

    @cached_property
    def moments(self) -> Moments:
        """The moments of omega - omega_0, from one pass over the tasks."""
        if self.given is not None:
            return self.given
        return self._moments()

    def _moments(self, turn: Turn | None = None) -> Moments:
        parts = zip(self.batches, self._support, strict=True)
        moments = sum_moments(
            of_batch(batch, self.steps, self.weighting, known, turn, self.n_jobs) for batch, known in parts
        )
        return moments.centred(self.init) if self.init.any() else moments

    @cached_property
    def _support(self) -> list[tuple[Square, float]]:
        return [support_moment(batch) for batch in self.batches]

    @cached_property
    def dual(self) -> DualSolver:
        """The solver on the kernel between rows."""
        return DualSolver.from_batches(self.batches, self.steps, self.weighting, self.init)

    @cached_property
    def rows(self) -> RowSolver:
        """The solver on the rows themselves."""
        return RowSolver.from_batches(self.batches, self.steps, self.weighting, self.init)

    def solve(self, turns: Turns, ridges: Ridges, *, at_once: int = _NUMBERS_AT_ONCE) -> Fit:
        """Solve by the chosen solver; "auto" mends by slower ones what the faster ones could not do well.

        turns: (k, 2) the homogeneous coefficients of one step, cos(phi) and -scale sin(phi). at_once: how many numbers
        the matrices of some rates, which are solved together, may hold; 2^24 are 128 MB.
        """

        def mend(poor: np.ndarray, name: str) -> None:
            if self.batches and poor.any():
                for ours, theirs in zip(fit, self._in_parts(name, turns[poor], ridges, at_once), strict=True):
                    ours[poor] = theirs

        name = self.solver
        if name == "auto":
            name = "stepwise" if self.steps > MAX_STEPS else self._cheapest(len(turns))
        fit = self._in_parts(name, turns, ridges, at_once)
        if self.solver != "auto" or name == "stepwise":
            return fit
        if name != "rows":
            # A rank that moments or kernel find too low may be lost digits; under a ridge it does no harm.
            low = (fit.outcome == MINIMUM_NORM).any(axis=1) & (fit.rank < min(self.n_rows, self.n_features))
            mend((fit.outcome == ILL_CONDITIONED).any(axis=1) | low, "rows")
        # Well-conditioned, and yet digits are lost: in the powers of S, which taking the steps one by one avoids.
        mend(((fit.outcome == ILL_CONDITIONED) & (fit.condition < 1e6)).any(axis=1), "stepwise")
        return fit

    def _in_parts(self, name: str, turns: Turns, ridges: Ridges, at_once: int) -> Fit:
        if name == "gram" and len(turns) == 1 and self.batches and "moments" not in self.__dict__:
            # One rate needs one Gram matrix, of p + 1 columns; moments for all rates need as many times more as blocks.
            check_steps(self.steps)
            return GramSolver(self._moments(turns[0])).solve(np.ones((1, 1)), ridges)
        p, n = self.n_features, self.n_rows
        short = min(n, (self.steps + 1) * (p + 1))
        numbers = {"gram": (p + 1) ** 2, "dual": n * n, "rows": short * (p + 1), "stepwise": 1}[name]
        coefficients = turns if name == "stepwise" else circle.homogeneous(turns[:, 0], turns[:, 1], self.steps)
        size = max(1, at_once // numbers)
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
            return StepSolver(self.batches, self.steps, self.weighting, self.init)
        check_steps(self.steps)
        return GramSolver(self.moments) if name == "gram" else self.dual if name == "dual" else self.rows


def _refuse_extreme_units(scale: float, steps: int, dtype: np.dtype) -> None:
    """Raise InputError where products of the blocks would leave the range of the numbers."""
    limits = np.finfo(dtype)
    power = -np.log10(scale) * (2 * min(steps, MAX_STEPS) + 1)
    if not np.log10(limits.tiny) + 12 < power < np.log10(limits.max) - 12:
        raise InputError(
            None,
            rule=f"the largest mean square of the features is about {1 / scale:.3g}: products for {steps} steps leave "
            f"the range of {dtype}.",
            way_out="Scale the features to about 1 first.",
        )


def _init(init: Any, p: int) -> Vector:
    if init is None:
        return np.zeros(p)
    return _check.vector(init, "init", p)
