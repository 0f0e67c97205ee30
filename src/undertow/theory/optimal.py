"""The best train rate, searched on the whole circle of rates, and the best adapt rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from undertow import _check
from undertow.problem import Design, MixedLinearRegression
from undertow.theory import adapted_loss, methods, underparameterized
from undertow.theory.expected_loss import distance, excess, loss_form, method_for, n_adapt, sources
from undertow.theory.records import OptimalRate

# The grid is uniform in v, a = +-_FINE sinh v / sinh 1: linear up to _FINE, logarithmic beyond. Wells far out, for many
# more support rows than features, are wide in log |a| and would be missed on a linear grid.
_FINE, _FAR, _PER_SIDE = 1e-5, 1e7, 240
_NEAR_OPTIMAL = 0.01
_LOCAL = 1e-2  # rates that count as beside 0
_SHALLOW = 0.02
_LOOK = 1.1


def optimal_train_rate(
    problem: MixedLinearRegression,
    design: Design,
    method: str = "auto",
    *,
    adapt_rate: Any = None,
    init_distance: Any = 0.0,
    init: Any = None,
    steps: Any = 1,
) -> OptimalRate:
    """Return the train rate with the least expected loss over all rates, of either sign and infinite.

    With isotropic inputs it minimises E|omega* - w_0|^2, so that it does not depend on the adapt rate, and for N < p -
    1 not on m, sigma, nu, n_r or omega_0 either. With a general input covariance it depends on ``adapt_rate``; None
    means that both rates are chosen together.

    The result is a float with the facts around it, see OptimalRate. It is nan where the mean is infinite at every rate,
    0 where every rate is as good, and minus infinity where the infimum is the point at infinity.

    Parameters
    ----------
    problem, design, init_distance, init, steps
        as in ``expected_loss``.
    method
        as in ``expected_loss``.
    adapt_rate
        rate of the step on a new task; None where it does not matter, or is chosen together with the train rate.

    Raises
    ------
    InputError
        as expected_loss does.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> best = ut.theory.optimal_train_rate(problem, design)
    >>> round(float(best), 2), best.method
    (-1.06, 'exact')
    """
    name, objective, mean_distance = _objective(problem, design, method, adapt_rate, init_distance, init, steps)
    draws = name == "drawn" or (name == "exact" and _check.whole_number(steps, "steps") > 1)
    grid, values = _scan(objective, _grid(sparse=draws), sparse=draws)
    finite, limit = values[:-1], float(values[-1])
    at_zero = float(objective(np.zeros(1))[0])
    facts = {"method": name}
    least = min(float(finite.min()), limit)
    if not math.isfinite(least):
        return OptimalRate(
            math.nan, **facts, distance=math.inf, relative_gain=math.nan, shallow=True, interval=(-math.inf, math.inf),
            message=f"The mean is infinite at every train rate (N={design.n_query_rows} is within one of "
            f"p={problem.n_features}).",
        )  # fmt: skip
    if float(np.ptp(values)) <= 1e-12 * max(abs(least), 1e-300):
        return OptimalRate(
            0.0, **facts, distance=float(mean_distance(np.zeros(1))[0]), relative_gain=0.0, shallow=True,
            interval=(-math.inf, math.inf), message="Every train rate is as good: nothing here depends on it.",
        )  # fmt: skip
    rate, value = _refine(objective, grid, finite)
    if 0 <= rate < _LOCAL and (near := _beside_zero(problem, design, objective, at_zero, steps)):
        rate, value = near
    if limit <= value * (1 + 1e-12):
        rate, value = -math.inf, limit
    gain = 1 - value / at_zero if at_zero > 0 and math.isfinite(at_zero) else math.nan
    shallow = min(at_zero, limit) < (1 + _SHALLOW) * value
    return OptimalRate(
        rate,
        **facts,
        # For isotropic inputs the value is the distance, also where the exact slope decided.
        distance=value if problem.input_covariance is None else float(mean_distance(np.array([rate]))[0]),
        relative_gain=gain,
        shallow=shallow,
        interval=_interval(objective, grid, values, rate, value),
        message=_message(rate, gain, shallow, at_zero < limit),
    )


def optimal_adapt_rate(
    problem: MixedLinearRegression,
    design: Design,
    train_rate: Any,
    method: str = "auto",
    *,
    init_distance: Any = 0.0,
    init: Any = None,
    steps: Any = 1,
) -> float | np.ndarray:
    """Return the adapt rate with the least expected loss at each train rate, for one step on the new task.

    It is never negative: alpha_r* = D/(D (1 + (p + 1)/n_r) + sigma^2 p/n_r) with D = nu^2 + E|omega* - w_0|^2 for
    isotropic inputs, and the ratio of the traces of docs/explanation/theory.md, "General covariance", else. Where the
    mean is infinite it is the limit for isotropic inputs, and nan else. Arguments and errors are those of
    expected_loss.

    Parameters
    ----------
    problem, design, init_distance, init, steps
        as in ``expected_loss``.
    train_rate, method
        as in ``expected_loss``.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> round(ut.theory.optimal_adapt_rate(problem, design, train_rate=-1.06), 2)
    0.08
    """
    train = _check.rates(train_rate, "train_rate", infinite=True)
    if problem.input_covariance is not None:
        best = _best_of_form(loss_form(problem, design, train, init_distance, method, init=init, steps=steps))
    else:
        q = distance(problem, design, train, init_distance, method, init=init, steps=steps)
        best = adapted_loss.best_rate(problem.n_features, n_adapt(design), q, *sources(problem))
    return float(best) if train.ndim == 0 else np.asarray(best)


def _beside_zero(
    problem: MixedLinearRegression,
    design: Design,
    objective: Callable[[np.ndarray], np.ndarray],
    at_zero: float,
    steps: int,
) -> tuple[float, float] | None:
    """The minimum of the parabola with the exact slope at 0, for isotropic inputs with noise; None where there is none.

    A method's own slope at 0 has its error, which decides wrongly where the exact slope is small.
    """
    p, n = problem.n_features, design.n_query_rows
    if problem.input_covariance is not None or not problem.noise_std or p - 1 <= n <= p + 1:
        return None
    slope = underparameterized.slope_at_zero(p, design, steps) * problem.noise_std**2
    low, high = objective(np.array([-_LOCAL, _LOCAL]))
    # Without a mean at positive rates the one side must do.
    curvature = low + high - 2 * at_zero if math.isfinite(high) else 2 * (low - at_zero + slope * _LOCAL)
    curvature /= _LOCAL**2
    if curvature <= 0:
        return None
    return -slope / curvature, at_zero - slope**2 / (2 * curvature)


def _best_of_form(form: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.where(form[1] == 0, 0.0, -form[1] / (2 * form[2]))
    # The direction in which an infinite mean diverges is not known.
    return np.where(np.isinf(form[0]), np.nan, best)


def _objective(
    problem: MixedLinearRegression,
    design: Design,
    method: str,
    adapt_rate: Any,
    init_distance: Any,
    init: Any,
    steps: Any,
) -> tuple[str, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return (method used, what is minimised, the distance), the last two as functions of flat rates."""
    _check.one_of(method, "method", methods.METHODS)
    if adapt_rate is not None:
        adapt_rate = _check.real(adapt_rate, "adapt_rate")
    # "auto" picks one method for all rates but 0, where the others are exact too; so its curve has no steps.
    name = method_for(problem, design, np.inf, steps=steps).method if method == "auto" else method
    if problem.input_covariance is None:
        q = lambda a: distance(problem, design, a, init_distance, method, init=init, steps=steps)  # noqa: E731
        return name, q, q
    form = lambda a: loss_form(problem, design, a, init_distance, method, init=init, steps=steps)  # noqa: E731

    def loss(a: np.ndarray) -> np.ndarray:
        f = form(a)
        r = _best_of_form(f) if adapt_rate is None else adapt_rate
        return np.where(np.isinf(f[0]), np.inf, f[0] + r * f[1] + r**2 * f[2])

    return name, loss, lambda a: excess(problem, design, a, init_distance, method, init=init, steps=steps)[0]


def _grid(*, sparse: bool) -> np.ndarray:
    """Ascending finite rates, symmetric, with 0; ``sparse`` where each of them costs draws."""
    v = np.linspace(0, math.asinh(_FAR / _FINE), _PER_SIDE)
    positive = _FINE * np.sinh(v)
    if sparse:
        every = np.where((positive > 1e-3) & (positive < 1e3), 3, 12)
        positive = positive[np.arange(_PER_SIDE) % every == 0]
    return np.concatenate([-positive[:0:-1], positive])


def _scan(
    objective: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, *, sparse: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rates, values with one more, at infinity); ``sparse``: the rates around each minimum and all good ones.

    Every third rate is looked at, then those next to what is the least among its neighbours or within a tenth of the
    least of all, until there is none left.
    """
    if not sparse:
        return grid, objective(np.append(grid, np.inf))
    rates = np.append(grid, np.inf)
    n = len(rates)
    values = np.full(n, np.nan)
    wanted = np.union1d(np.arange(0, n, 3), [n // 2 - 1, n - 1])  # 0 and infinity among them
    while wanted.size:
        values[wanted] = objective(rates[wanted])
        known = np.flatnonzero(~np.isnan(values))
        found = values[known]
        good = (found <= np.roll(found, 1)) & (found <= np.roll(found, -1))
        good |= found <= _LOOK * found.min()
        near = [(i + side) % n for i in known[good & np.isfinite(found)] for side in (-1, 1)]
        wanted = np.array(sorted(i for i in set(near) if np.isnan(values[i])), dtype=int)
    return grid[~np.isnan(values[:-1])], values[~np.isnan(values)]


def _refine(objective: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Polish the least value of the grid between its two neighbours, in the coordinate in which the grid is uniform."""
    i = int(np.argmin(values))
    v = np.arcsinh(grid / _FINE)
    low, high = v[max(i - 1, 0)], v[min(i + 1, len(v) - 1)]
    at = lambda x: float(objective(np.array([_FINE * math.sinh(x)]))[0])  # noqa: E731
    found = minimize_scalar(at, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if found.fun <= values[i]:  # type: ignore[union-attr]
        return _FINE * math.sinh(found.x), float(found.fun)  # type: ignore[union-attr]
    return float(grid[i]), float(values[i])


def _interval(
    objective: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, values: np.ndarray, rate: float, least: float
) -> tuple[float, float]:
    """Ends of the arc around ``rate`` on which values stay within 1 % of the least, going round through infinity.

    ``values`` has one entry more than ``grid``: that at infinity.
    """
    level = (1 + _NEAR_OPTIMAL) * least
    rates = np.append(grid, math.inf)
    if (values <= level).all():
        return -math.inf, math.inf
    start = len(grid)
    if math.isfinite(rate):
        # The optimum itself is one of the points: a well may be narrower than the grid.
        start = int(np.searchsorted(grid, rate))
        rates, values = np.insert(rates, start, rate), np.insert(values, start, least)
    good, n = values <= level, len(values)
    ends = []
    for direction in (-1, 1):
        i = start
        while good[(i + direction) % n]:
            i = (i + direction) % n
        j = (i + direction) % n
        ends.append(_crossing(objective, rates[i], rates[j], values[j], level))
    low, high = ends
    return (-math.inf if low == math.inf else low), high


def _crossing(
    objective: Callable[[np.ndarray], np.ndarray], inside: float, outside: float, high: float, level: float
) -> float:
    """Where the level is met between two rates; the one inside where one of the two, or the value outside, is not
    finite."""
    if not (math.isfinite(inside) and math.isfinite(outside) and math.isfinite(high)):
        return float(inside)
    over = lambda v: float(objective(np.array([_FINE * math.sinh(v)]))[0]) - level  # noqa: E731
    ends = math.asinh(inside / _FINE), math.asinh(outside / _FINE)
    if over(ends[0]) >= 0:  # by rounding, or where the exact slope at 0 decided
        return float(inside)
    return _FINE * math.sinh(brentq(over, *ends, xtol=1e-4))  # type: ignore[arg-type]


def _message(rate: float, gain: float, shallow: bool, zero_is_better: bool) -> str:
    if rate == 0:
        return "No inner step is best: rate 0 has the least expected distance."
    where = "infinite" if math.isinf(rate) else "negative" if rate < 0 else "positive"
    text = f"The best train rate is {where}; the expected distance is {100 * gain:.2g} % less there than at rate 0"
    if not shallow:
        return text + "."
    return text + f", and {'no inner step' if zero_is_better else 'an infinite rate'} comes within 2 % of the least."
