r"""All rates, all ridges: the path of exact solutions of the outer problem over signed train rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check, _circle
from undertow._check import InputError
from undertow._types import PathNames, PathValues, PathWeights, Ranks, Rates, Ridges, Vector
from undertow.linear import circle
from undertow.linear.blocks import Tasks, as_batches
from undertow.linear.moments import Moments
from undertow.linear.outer_problem import OuterProblem, check_ridges
from undertow.linear.solvers import REMEDY, Fit
from undertow.linear.surface import BestRates, LossSurface, evaluate, refined


@dataclass(frozen=True, eq=False)
class RatePath:
    """Exact meta-learned weights at each train rate (and each ridge).

    With several ridges the arrays marked (k,) have shape (k, r) and ``weights`` has shape (k, r, p).

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=8)
    >>> tasks = problem.sample(ut.Design(n_tasks=20, n_support=12, n_query=5), seed=0)
    >>> path = ut.rate_path(tasks)
    >>> len(path.train_rates), path.weights.shape, float(path.train_rates[-1])
    (101, (101, 8), inf)
    >>> path.at(0.0)
    RatePath(1 rates, 0 to 0; 20 tasks, 100 query rows, 8 features, steps=1, ridges=[0.0])
    """

    train_rates: Rates
    """(k,) raw rates alpha_t, of either sign; infinity is a rate"""
    weights: PathWeights
    """(k, p) omega"""
    meta_loss: PathValues
    """(k,) half the mean squared error on the query rows after the inner steps; infinite at the rate infinity"""
    outcome: PathNames
    """(k,) "full_rank", "minimum_norm", "ridge" or "ill_conditioned"; ``explain`` says more"""
    condition: PathValues
    """(k,) condition number of the outer problem"""
    rank: Ranks
    """(k,) its numerical rank, before any ridge"""
    ridges: Ridges
    """(r,) ridges, relative to tr(B^T B) / p"""
    scale: float
    """spectral unit of the rate, 1 / lambda_max of the mean support second moment"""
    steps: int
    """number of inner steps k while meta-training"""
    init: Vector
    """(p,) omega_0"""
    n_rows: int
    """N, number of query rows"""
    n_tasks: int
    """m, number of tasks"""
    problem: OuterProblem
    """the outer problem, kept so that further rates can be asked for (``at``)"""

    @property
    def spectral_rates(self) -> Rates:
        """(k,) rates in the spectral unit."""
        return self.train_rates / self.scale

    @property
    def angles(self) -> Rates:
        """(k,) angles of the rates on the circle, in [-pi/2, pi/2]."""
        return _circle.angles_of(self.train_rates, self.scale)

    def at(self, train_rates: Any) -> RatePath:
        """Return the path of the same problem at other raw rates, without reading the tasks again."""
        rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
        return _solve(self.problem, rates, self.ridges, self.outcome.ndim == 2)

    def evaluate(
        self, new_tasks: Tasks | Moments, *, steps: int = 1, per_task: bool = False, weighting: str | None = None
    ) -> LossSurface:
        """Return the test loss on new tasks as a function of both rates, exactly.

        Parameters
        ----------
        new_tasks
            their support rows are the adaptation rows and their query rows the test rows.
        steps
            number of adaptation steps.
        per_task
            also keep the loss of each task (memory m k (steps + 1)^2).

        Raises
        ------
        InputError
            when the tasks have another number of features.
        """
        return evaluate(
            self.train_rates,
            self.weights,
            self.scale,
            self.ridges,
            new_tasks,
            steps=steps,
            per_task=per_task,
            weighting=weighting,
        )

    def refine(self, surface: LossSurface, new_tasks: Tasks | Moments) -> BestRates:
        """Return the pair of rates with the least loss on new tasks, also between the rates of the path.

        Parameters
        ----------
        surface
            what ``evaluate`` returned for these tasks. They are evaluated about twenty times more.
        """
        tasks = new_tasks if isinstance(new_tasks, Moments) else as_batches(new_tasks)
        return refined(
            surface, lambda rate: self.at(rate).evaluate(tasks, steps=surface.steps, weighting=surface.weighting)
        )

    def explain(self, index: int = 0) -> str:
        """Return in words how the solution at one position of the path was found, and what to do if it is poor."""
        if not -len(self.train_rates) <= index < len(self.train_rates):
            raise InputError("index", index, f"the path has {len(self.train_rates)} rates, numbered from 0.")
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
    n_jobs: int | None = None,
) -> RatePath:
    """Solve the outer problem of MAML exactly at every train rate, in one pass over the tasks.

    Parameters
    ----------
    tasks
        a TaskBatch, a sequence of them (they are read one after the other), or Moments.
    train_rates
        rates of the inner step, of either sign; 0 means no inner loop, infinity is allowed. None means a grid of
        101 rates that is uniform on the circle: fine near 0, both signs alike, reaching infinity.
    ridge
        one number or several >= 0, relative to tr(B^T B) / p of the outer problem; it pulls towards ``init``.
    init
        omega_0, (p,); None means zeros. With fewer independent rows than features and no ridge the solution is the
        one nearest to it.
    steps
        number of inner steps, each at the same rate. Beyond 8 the tasks are read once per rate.
    rate_unit
        "raw", or "spectral" when ``train_rates`` are multiples of 1 / lambda_max (see ``RatePath.scale``).
    weighting
        "rows" (each query row counts once, as in one stacked least-squares problem) or "tasks" (each task once);
        None means "rows", or that of the moments.
    solver
        "gram" (moments), "dual" (kernel between rows), "rows" (singular values, all digits), "stepwise" (the same,
        reading the tasks anew at each rate, for many steps), or "auto", which takes the cheapest and goes over to
        the next where more than half of the digits would be lost.
    n_jobs
        how many workers read the tasks (None: one; -1: every core); the digits do not depend on it.

    Returns
    -------
    RatePath
        ``weights`` (k, p), or (q, k, p) for q ridges, ``meta_loss`` (k,), ``outcome`` and ``condition`` at each of the
        k rates, ``scale``; ``evaluate`` takes it to new tasks.

    Raises
    ------
    InputError
        naming the argument that cannot be used.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> path = ut.rate_path(problem.sample(design, seed=0), train_rates=[-1.0, 0.0, 0.2])
    >>> path.weights.shape
    (3, 60)
    >>> path.outcome.tolist()
    ['minimum_norm', 'minimum_norm', 'minimum_norm']
    """
    problem = OuterProblem.of(tasks, steps, init, weighting, solver, n_jobs)
    rates = circle.asked(train_rates, rate_unit, problem.scale)
    return _solve(problem, rates, check_ridges(ridge), np.ndim(ridge) > 0)


def _solve(problem: OuterProblem, rates: Rates, ridges: Ridges, many: bool) -> RatePath:
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


def _raw_loss(scaled: PathValues, factor: Rates, fit: Fit, problem: OuterProblem, ridges: Ridges) -> PathValues:
    """Undo the homogeneous form: at the rate infinity any residual is an infinite loss."""
    interpolates = (fit.rank == problem.n_rows)[:, None] & (ridges == 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        raw = scaled / factor[:, None]
    return np.where(factor[:, None] > 0, raw, np.where(interpolates, 0.0, np.inf))
