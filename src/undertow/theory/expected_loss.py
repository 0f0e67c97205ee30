"""One face over the formulas: which of them exists where, and what it says about a problem and a design."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow.problem import Design, MixedLinearRegression
from undertow.theory import adapted_loss, anisotropic, methods
from undertow.theory.records import MethodChoice

_FAR = 1e100
_LARGEST = 1e154


def expected_loss(
    problem: MixedLinearRegression,
    design: Design,
    train_rate: Any,
    adapt_rate: Any,
    init_distance: Any = 0.0,
    method: str = "auto",
    *,
    init: Any = None,
    steps: Any = 1,
    adapt_steps: Any = 1,
) -> float | np.ndarray:
    """Return the expected test loss, half a mean squared error, after meta-training and adapting to a new task.

    The mean is over everything random: tasks, inputs, noise, adaptation rows and test row. Source:
    docs/explanation/theory.md, and for the leading order Bernacchia, "Meta-learning with negative learning rates", ICLR
    2021 (arXiv:2102.00940).

    Parameters
    ----------
    problem, design
        p, sigma, nu and the covariances; m, n_t, n_v, n_r.
    train_rate
        any sign, () or (k,); plus and minus infinity are one point, the limit of large rates.
    adapt_rate
        any sign, finite; broadcasts with train_rate.
    init_distance
        |omega_0 - w_0|, a norm. It matters only when N < p.
    init
        omega_0 itself, (p,), in place of init_distance; needed for a general input covariance.
    steps, adapt_steps
        inner steps while meta-training, and on the new task.
    method
        "exact"; "drawn" (N > p + 1: means over fixed data sets); "leading" (first order in N/p or in 1/m);
        "next_order" (N < p, one step); "equivalent" (all sizes of the same order); "auto" (see method_for).

    Returns
    -------
    float | np.ndarray
        a float, or an array where a rate is one. It is infinite where the mean is: for p - 1 <= N <= p + 1, and at
        positive or infinite rates where few tasks leave a direction too weak (docs/explanation/theory.md, "Where
        the mean exists").

    Raises
    ------
    InputError
        for a method that does not exist at these sizes, and names those that do.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> ut.theory.expected_loss(problem, design, train_rate=[-1.0, 0.0, 0.2], adapt_rate=0.2).round(3).tolist()
    [0.687, 0.709, 0.731]
    """
    train = _check.rates(train_rate, "train_rate", infinite=True)
    adapt = _check.rates(adapt_rate, "adapt_rate")
    adapt_steps = methods.inner_steps(adapt_steps, "adapt_steps")
    shape = together(train, adapt)
    if problem.input_covariance is not None:
        if adapt_steps > 1:
            raise InputError(
                "adapt_steps",
                adapt_steps,
                "with input_covariance the loss is known for one step only.",
                ("Use ", Setting("adapt_steps", 1), "."),
            )
        form = loss_form(problem, design, train, init_distance, method, init=init, steps=steps)
        with np.errstate(over="ignore", invalid="ignore"):
            loss = form[0] + adapt * form[1] + adapt**2 * form[2]
        loss = np.where(np.isinf(form[0]), np.inf, loss)
        _representable(loss, np.isinf(form[0]))
    else:
        q = distance(problem, design, train, init_distance, method, init=init, steps=steps)
        nu2, sigma2 = sources(problem)
        with np.errstate(over="ignore", invalid="ignore"):
            loss = adapted_loss.loss(problem.n_features, n_adapt(design), adapt, q, nu2, sigma2, adapt_steps)
        loss = np.where(np.isinf(q), np.inf, loss)
        _representable(loss, np.isinf(q))
    return _plain(np.broadcast_to(loss, shape))


def expected_distance(
    problem: MixedLinearRegression,
    design: Design,
    train_rate: Any,
    init_distance: Any = 0.0,
    method: str = "auto",
    *,
    init: Any = None,
    steps: Any = 1,
) -> float | np.ndarray:
    """Return Q = E|omega* - w_0|^2, the mean squared distance of the meta-learned weights from the mean task.

    Arguments, infinities and errors are those of expected_loss, which is increasing in Q. With a general input
    covariance it is the quadratic form E(omega* - w_0)^T Sigma_x (omega* - w_0).

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
    >>> ut.theory.expected_distance(problem, design, train_rate=[-1.0, 0.0]).round(3).tolist()
    [0.084, 0.14]
    """
    train = _check.rates(train_rate, "train_rate", infinite=True)
    if problem.input_covariance is not None:
        return _plain(excess(problem, design, train, init_distance, method, init=init, steps=steps)[0])
    return _plain(distance(problem, design, train, init_distance, method, init=init, steps=steps))


def method_for(
    problem: MixedLinearRegression, design: Design, train_rate: Any = 0.0, *, steps: Any = 1
) -> MethodChoice:
    """Return which formula method="auto" uses, and the relative error of E|omega* - w_0|^2 to expect from it.

    "auto" is exact where an exact result exists and takes well under a second; else, with several steps or fewer than
    6 features, it is a mean over drawn data sets if those are quick, and the deterministic equivalent if not. The error
    of what is drawn is that of its draws. For several rates the choice serves all of them.

    Parameters
    ----------
    problem, design, train_rate, steps
        as in ``expected_loss``.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> print(ut.theory.method_for(problem, design, train_rate=-1.0).reason)
    N < p: the exact formula, its one-task mean drawn once.
    """
    train = _check.rates(train_rate, "train_rate", infinite=True)
    steps = methods.inner_steps(steps)
    if problem.input_covariance is not None:
        _one_step(steps)
        return anisotropic.method_for(problem, design, _nearer(train))
    return methods.choose(problem, design, _nearer(train), steps)


def distance(
    problem: MixedLinearRegression,
    design: Design,
    train: np.ndarray,
    init_distance: Any,
    method: str,
    *,
    init: Any,
    steps: Any,
) -> np.ndarray:
    """Q at rates of any shape, for isotropic inputs."""
    if init is None:
        d2 = _check.real(init_distance, "init_distance", minimum=0.0, hint="It is a norm, |omega_0 - w_0|.") ** 2
    else:
        d2 = float((_offset(problem, init) ** 2).sum())
    rates, places = _distinct(train)
    nu2, sigma2 = sources(problem)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total = methods.coefficients(problem, design, rates, method, steps).distance(d2, nu2, sigma2)
    _representable(total, methods.mean_is_infinite(problem.n_features, design, rates, methods.inner_steps(steps)))
    return total[places]


def excess(
    problem: MixedLinearRegression,
    design: Design,
    train: np.ndarray,
    init_distance: Any,
    method: str,
    *,
    init: Any,
    steps: Any,
) -> np.ndarray:
    """Traces of E(omega* - w_0)(omega* - w_0)^T that the loss needs, (3, *train.shape); general covariance."""
    _one_step(steps)
    if init is not None:
        offset = _offset(problem, init)
    elif _check.real(init_distance, "init_distance", minimum=0.0):
        raise InputError(
            "init_distance",
            init_distance,
            "with input_covariance the direction of omega_0 - w_0 matters too.",
            ("Give the vector omega_0 as ", Setting("init"), "."),
        )
    else:
        offset = np.zeros(problem.n_features)
    sources(problem)
    if method == "auto":
        method = anisotropic.auto(problem, design)
    rates, places = _distinct(train)
    try:
        with np.errstate(all="ignore"):
            values = anisotropic.excess_coefficients(problem, design, rates, offset, method)
    except (ArithmeticError, np.linalg.LinAlgError):
        values = np.full((len(rates), 3), np.nan)
    # An infinite mean belongs to the threshold, to one task or to infinite rates.
    _representable(values, anisotropic.may_be_infinite(problem, design, rates)[:, None])
    return np.moveaxis(np.asarray(values), -1, 0)[:, places]


def loss_form(
    problem: MixedLinearRegression, design: Design, train: np.ndarray, init_distance: Any, method: str, **options: Any
) -> np.ndarray:
    """Coefficients (3, *train.shape) of the loss as a polynomial in the adapt rate; general covariance."""
    q = excess(problem, design, train, init_distance, method, **options)
    t = np.asarray(anisotropic.task_coefficients(problem, design)).reshape(3, *(1,) * train.ndim)
    noise2 = problem.noise_std**2 * np.array([1.0, 0.0, float(anisotropic.noise_coefficient(problem, design))])
    signs = np.array([1.0, -2.0, 1.0])
    shape = (3, *(1,) * train.ndim)
    with np.errstate(invalid="ignore"):
        form = 0.5 * (noise2.reshape(shape) + signs.reshape(shape) * (t + q))
    # An infinite mean is infinite at every adapt rate; inf - inf would make it nan.
    infinite = np.isinf(q[0])
    return np.where(infinite, np.array([np.inf, 0.0, 0.0]).reshape(shape), form)


def _distinct(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rates, with one infinity, and where each rate is among them: both infinities get one value."""
    rates, places = np.unique(np.where(np.isinf(train), np.inf, _nearer(train)), return_inverse=True)
    return rates, places.reshape(train.shape)


def _nearer(train: np.ndarray) -> np.ndarray:
    """Cut finite rates at _FAR: beyond it all are one to rounding, and their squares would overflow."""
    return np.where(np.isinf(train), train, np.clip(train, -_FAR, _FAR))


def together(train: np.ndarray, adapt: np.ndarray) -> tuple[int, ...]:
    """Return the shape of both rates. Raises InputError where they do not broadcast."""
    try:
        return np.broadcast_shapes(train.shape, adapt.shape)
    except ValueError:
        raise InputError(
            None,
            rule=f"train_rate has shape {train.shape} and adapt_rate {adapt.shape}: they must broadcast.",
            way_out="Give one of them as a single number, or both with the same length.",
        ) from None


def sources(problem: MixedLinearRegression) -> tuple[float, float]:
    """Return (nu^2, sigma^2)."""
    for name in ("task_std", "noise_std"):
        if (size := float(getattr(problem, name))) > _LARGEST:
            raise InputError(name, size, f"its square must be a number: at most {_LARGEST:g}.", "Use another unit.")
    return float(problem.task_std) ** 2, problem.noise_std**2  # type: ignore[arg-type]


def _representable(values: np.ndarray, infinite: np.ndarray) -> None:
    """Refuse what left the range of floats on the way: NaN, or infinity where the mean is finite."""
    if (np.isnan(values) | (np.isinf(values) & ~infinite)).any():
        raise InputError(
            None,
            rule="at these rates, steps and sizes of noise and tasks a number leaves the range of floats.",
            way_out="Take smaller rates or another unit.",
        )


def n_adapt(design: Design) -> int:
    """Return n_r, which the record fills in when it is not given."""
    assert design.n_adapt is not None
    return design.n_adapt


def _offset(problem: MixedLinearRegression, init: Any) -> np.ndarray:
    """omega_0 - w_0."""
    return _check.vector(init, "init", problem.n_features) - problem.mean_weights


def _one_step(steps: Any) -> None:
    if _check.whole_number(steps, "steps") > 1:
        raise InputError(
            "steps",
            steps,
            "with input_covariance the loss is known for one inner step only.",
            ("Use ", Setting("steps", 1), "."),
        )


def _plain(values: np.ndarray) -> float | np.ndarray:
    return float(values) if values.ndim == 0 else np.array(values)
