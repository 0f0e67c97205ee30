"""Which formula exists where, for isotropic inputs; what "auto" picks, and its expected error."""

from __future__ import annotations

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow.problem import Design, MixedLinearRegression
from undertow.theory import (
    drawn,
    equivalent,
    exact,
    existence,
    free_sum,
    overparameterized,
    underparameterized,
    wishart,
)
from undertow.theory.records import Coefficients, MethodChoice

METHODS = ("exact", "drawn", "leading", "next_order", "equivalent", "auto")

MOST_STEPS = 16

# Largest min(n_query, n_support) for which the exact psi is drawn in well under a second.
_CHEAP = 6
# Below this many features the equivalents are not calibrated, and drawing is cheap.
_FEW = 6


def choose(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int) -> MethodChoice:
    """The choice of "auto" for isotropic inputs."""
    p, m, n = problem.n_features, design.n_tasks, design.n_query_rows
    if p - 1 <= n <= p + 1:
        return MethodChoice("exact", 0.0, f"N={n} is within one of p={p}: the mean is infinite.")
    if not np.any(train):
        return MethodChoice("exact", 1e-12, "Without an inner step the mean is known in closed form.")
    if n < p and problem.noise_std == 0:
        return MethodChoice("exact", 1e-12, "N < p without noise: the mean does not depend on the train rate.")
    if n > p and m == 1:
        error = wishart.spectrum_error(p, design.n_support)
        return MethodChoice("exact", error, "One task with n_v > p + 1: the exact formula over the spectrum of S.")
    rates = np.atleast_1d(train)
    finite = rates[existence.exponents(p, design, rates, steps) > existence.MEAN]
    if not finite.size and (problem.noise_std or p > 1):
        return MethodChoice("exact", 0.0, "The mean is infinite: A is nearly singular too often at these rates.")
    finite = finite if finite.size else rates
    return _below(problem, design, finite, steps) if n < p else _above(problem, design, finite, steps)


def _below(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int) -> MethodChoice:
    """The choice for N < p - 1, at rates where the mean is finite."""
    p, n_t, n_v = problem.n_features, design.n_support, design.n_query
    if steps > 1 and drawn.affordable(p, design):
        error = drawn.relative_error(p, design, train, steps, (0.0, 1.0), drawn.QUICK)
        return MethodChoice("exact", error, "N < p: the exact formula, its one-task mean drawn at each rate.")
    if steps == 1 and min(n_v, n_t) <= _CHEAP and _finite_variance(p, design):
        error = exact.psi(n_t, n_v, p, exact.QUICK).relative_error
        # Compared at a large rate, so that all rates get the same method.
        if error < max(equivalent_error(p, design, np.ones(1), steps), 1e-3):
            return MethodChoice("exact", error, "N < p: the exact formula, its one-task mean drawn once.")
    error = equivalent_error(p, design, train, steps)
    return MethodChoice("equivalent", error, "N < p, but drawing the exact mean would take seconds.")


def _above(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int) -> MethodChoice:
    """The choice for N > p + 1 and several tasks, at rates where the mean is finite."""
    p = problem.n_features
    if (steps > 1 or p < _FEW) and drawn.affordable(p, design):
        sources = float(problem.task_std) ** 2, problem.noise_std**2  # type: ignore[arg-type]
        error = drawn.relative_error(p, design, train, steps, sources, drawn.QUICK)
        return MethodChoice("drawn", error, "N > p + 1, several inner steps or few features: drawn data sets.")
    error = equivalent_error(p, design, train, steps)
    return MethodChoice("equivalent", error, "N > p + 1: no exact result is known away from rate 0.")


def inner_steps(steps: object, name: str = "steps") -> int:
    """Return a number of inner steps that the formulas bear: powers of more lose all digits at ordinary rates."""
    number = _check.whole_number(steps, name)
    if number > MOST_STEPS:
        raise InputError(name, steps, f"the theory is evaluated for at most {MOST_STEPS} inner steps.")
    return number


def mean_is_infinite(p: int, design: Design, train: np.ndarray, steps: int) -> np.ndarray:
    """Whether the noise coefficient has no mean, at each rate (k,)."""
    if p - 1 <= design.n_query_rows <= p + 1:
        return np.full(train.shape, True)
    return existence.exponents(p, design, train, steps) <= existence.MEAN


def equivalent_error(p: int, design: Design, train: np.ndarray, steps: int) -> float:
    """Relative error of the deterministic equivalent to expect; see docs/explanation/theory.md, "How good each
    method is".

    It is of order 1/p at large rates, and goes to 0 with the rate, where the equivalent is exact. Calibrated on random
    sizes against exact values and Monte Carlo.
    """
    size = float(np.max(np.abs(train)))
    per_step = (1 + steps) / 2 / p
    if design.n_query_rows < p:
        return min(1.0, size) * 2.5 * per_step
    error = min(1.0, 2 * size) * ((0.4 * per_step + 0.003) if free_sum.applies(p, design) else 2 * per_step)
    # At large rates only n_t of a task's n_v > n_t rows count; a second threshold, m n_t = p, is felt from afar.
    gap = abs(design.n_tasks * design.n_support / p - 1)
    if design.n_support < design.n_query and gap < 0.6:
        error += min(1.0, size * steps**2 / 6) * min(0.5, 0.03 / max(gap, 1e-3))
    return error


def _finite_variance(p: int, design: Design) -> bool:
    return p - design.n_query >= 4 or min(design.n_query, design.n_support) == 1


def coefficients(
    problem: MixedLinearRegression, design: Design, train: np.ndarray, method: str, steps: int
) -> Coefficients:
    """Return the three coefficients of Q at flat rates (k,), isotropic inputs, by any method."""
    _check.one_of(method, "method", METHODS)
    steps = inner_steps(steps)
    p, n = problem.n_features, design.n_query_rows
    if method == "next_order" and (n >= p or steps > 1):
        raise InputError(
            "method",
            method,
            f"it exists only for N < p and one inner step, and here N = {n}, p = {p}, steps = {steps}.",
            f"Use {_available(problem, design, train)}.",
        )
    if p - 1 <= n <= p + 1:
        return _threshold(problem, design, train, steps)
    finite = existence.exponents(p, design, train, steps) > existence.MEAN
    if finite.all():
        return _finite(problem, design, train, method, steps)
    parts = _finite(problem, design, np.where(finite, train, 0.0), method, steps)
    bounded = n < p or design.n_tasks == 1
    task = parts.task if bounded else np.where(finite, parts.task, _infinite_task(problem, design, train, steps))
    return Coefficients(parts.offset, task, np.where(finite, parts.noise, np.inf))


def _finite(problem: MixedLinearRegression, design: Design, train: np.ndarray, method: str, steps: int) -> Coefficients:
    """The coefficients where all three means are finite."""
    p, n = problem.n_features, design.n_query_rows
    exact_work, drawn_work = exact.THOROUGH, drawn.THOROUGH
    if method == "auto":
        method = choose(problem, design, train, steps).method
        exact_work, drawn_work = exact.QUICK, drawn.QUICK
    if n > p and design.n_tasks == 1 and method in ("exact", "equivalent"):
        return underparameterized.single_task(p, design, train, steps)
    if method == "exact":
        return _exact(problem, design, train, steps, exact_work, drawn_work)
    if method == "drawn":
        return _drawn(problem, design, train, steps, drawn_work)
    if method == "equivalent":
        side = free_sum if n > p and train.any() and free_sum.applies(p, design) else equivalent
        return side.coefficients(p, design, train, steps)
    if method == "next_order":
        return overparameterized.next_order(p, design, train)
    return (overparameterized if n < p else underparameterized).leading(p, design, train, steps)


def _drawn(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int, work: float) -> Coefficients:
    p, n = problem.n_features, design.n_query_rows
    if n < p or design.n_tasks == 1:
        raise InputError(
            "method",
            "drawn",
            f"it is for N > p + 1 and several tasks (here N = {n}, p = {p}, n_tasks = {design.n_tasks}).",
            f"Use {_available(problem, design, train)}.",
        )
    _affordable("drawn", problem, design, train)
    return drawn.coefficients(p, design, train, steps, work)


def _affordable(method: str, problem: MixedLinearRegression, design: Design, train: np.ndarray) -> None:
    if not drawn.affordable(problem.n_features, design):
        raise InputError(
            "method",
            method,
            f"data sets of {design.n_tasks} tasks and {problem.n_features} features take minutes to draw.",
            f"Use {_available(problem, design, train, draws=False)}.",
        )


def _exact(
    problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int, work: float, drawn_work: float
) -> Coefficients:
    p, n = problem.n_features, design.n_query_rows
    if n < p:
        at_zero = np.full(train.shape, design.n_query / (p - design.n_query - 1))
        if not np.any(train):
            return overparameterized.coefficients(p, design, at_zero)
        if problem.noise_std == 0:  # psi is multiplied by 0
            return overparameterized.coefficients(p, design, np.zeros(train.shape))
        if steps > 1:
            _affordable("exact", problem, design, train)
            return drawn.coefficients(p, design, train, steps, drawn_work)
        if not _finite_variance(p, design) and np.any((train > 0) & np.isfinite(train)):
            raise InputError(
                "method",
                "exact",
                f"at a positive rate it needs n_query <= n_features - 4 (here {design.n_query} and {p}), or one query "
                "or support row: otherwise the draws behind it have no finite variance.",
                "Use 'equivalent'.",
            )
        psi = exact.psi(design.n_support, design.n_query, p, work)(train)
        return overparameterized.coefficients(p, design, np.where(train == 0, at_zero, psi))
    if np.any(train):
        raise InputError(
            "method",
            "exact",
            f"it is not known for N > p + 1 away from train rate 0 (here N = {n}, p = {p}).",
            f"Use {_available(problem, design, train)}.",
        )
    task, noise = underparameterized.at_zero(p, design)
    ones = np.ones(train.shape)
    return Coefficients(0 * ones, task * ones, noise * ones)


def _threshold(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int) -> Coefficients:
    """p - 1 <= N <= p + 1: means are infinite, but for the start omega_0 and, with a single task, for its weights."""
    p, n = problem.n_features, design.n_query_rows
    one = design.n_tasks == 1
    task = np.full(train.shape, min(n / p, 1.0)) if one else _infinite_task(problem, design, train, steps)
    return Coefficients(np.full(train.shape, max(1 - n / p, 0.0)), task, np.full(train.shape, np.inf))


def _infinite_task(problem: MixedLinearRegression, design: Design, train: np.ndarray, steps: int) -> np.ndarray:
    """The task part where the noise part is infinite: so is it, but for one feature, where it is a share."""
    if problem.n_features > 1 or problem.noise_std:  # with noise it does not matter
        return np.full(train.shape, np.inf)
    return drawn.coefficients(1, design, train, steps, drawn.QUICK).task


def _available(problem: MixedLinearRegression, design: Design, train: np.ndarray, *, draws: bool = True) -> str:
    names = ["'equivalent'", "'leading'", "'auto'"]
    above = design.n_query_rows > problem.n_features
    if above and design.n_tasks > 1 and draws:
        names.insert(0, "'drawn'")
    if (not above and draws) or (above and design.n_tasks == 1) or not np.any(train):
        names.insert(0, "'exact'")
    return ", ".join(names[:-1]) + " or " + names[-1]
