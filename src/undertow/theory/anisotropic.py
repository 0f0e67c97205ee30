"""Mixed linear regression with correlated inputs: the test loss, and how far the trained weights are from w_0.

The meta-loss of adapted weights is exact given T = E(omega* - w_0)(omega* - w_0)':

    L = sigma^2/2 (1 + b^2 tr(Sx^2)/n_r) + 1/2 tr[(C_0 - 2 b C_1 + b^2 C_2) (Sigma_w + T)],    b the adapt rate,
    C_0 = Sx,  C_1 = Sx^2,  C_2 = (1 + 1/n_r) Sx^3 + tr(Sx^2)/n_r Sx.

``task_coefficients`` and ``noise_coefficient`` give what does not depend on training, ``excess_coefficients`` gives
tr[C_j T]. Everything is done in the eigenbasis of Sx = Sigma_x; directions in which inputs do not vary are left out,
which is exact, so that p below is the rank of Sigma_x. Formulas: docs/explanation/theory.md, "General covariance".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow._types import Rates, Real, Vector
from undertow.problem import Design, MixedLinearRegression
from undertow.theory import anisotropic_drawn, anisotropic_equivalent, anisotropic_leading, existence
from undertow.theory.anisotropic_leading import Angles, Pieces, Spectrum
from undertow.theory.records import MethodChoice

METHODS = ("leading", "equivalent", "drawn")
_CHUNK = 500_000  # rates x features at a time: 8 MB a complex array
_FLAT = 1e-5  # stands for cosine 0 where the value at infinite rates is a limit only


def excess_coefficients(
    problem: MixedLinearRegression, design: Design, train_rates: Rates, offset: Vector, method: str = "equivalent"
) -> Real:
    """Return tr[C_j E(omega* - w_0)(omega* - w_0)'] for the three C_j, at every train rate: (k, 3).

    ``train_rates`` (k,) have any sign and may be infinite: both infinities are one point, the limit of large rates.
    ``offset`` (p,) is omega_0 - w_0; omega* is the solution nearest to omega_0. It has no effect for N > p.

    ``method`` "equivalent" is the limit of large sizes in any proportions with finite-size corrections; "leading" is
    the first order in 1/m (N > p + 1), with the exact coefficient, or in N (N < p - 1). The expectation is infinite
    for p - 1 <= N <= p + 1 as soon as weights or labels are random, and for N > p + 1 where isotropic inputs have
    none (``existence``). The leading order in N can be far off, and even negative, once N tr(H_t^2) / (tr H_t)^2 is
    not small, H_t = E[A Sx A].

    Raises InputError for an unknown method, for an offset of the wrong shape or for inputs that do not vary at all.
    """
    _check.one_of(method, "method", METHODS)
    rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
    spectrum = _spectrum(problem)._replace(gap=_gap(problem, offset))
    metrics = _metrics(spectrum, design)
    r, n = len(spectrum.inputs), design.n_query_rows
    label = problem.noise_std**2
    random = label > 0 or bool(spectrum.tasks.any())
    if r - 1 <= n <= r + 1 and (random or n >= r):
        # Without noise and spread all tasks agree, and N >= p rows find w_0 exactly.
        return np.full((len(rates), 3), np.inf if random else 0.0)
    if n > r + 1 and not random:
        return np.zeros((len(rates), 3))
    formula = _formula(method, below=n < r)
    step = max(1, _CHUNK // r)
    parts = []
    for first in range(0, len(rates), step):
        angles = _angles(rates[first : first + step], spectrum, design)
        parts.append(_total(formula(spectrum, design, angles, metrics), label))
    total = np.concatenate(parts)
    if n > r + 1 and (label > 0 or (design.n_tasks > 1 and r > 1)):
        total[_diverges(rates, r, design)] = np.inf
    return total


def _formula(method: str, *, below: bool) -> Any:
    if method == "drawn":
        return anisotropic_drawn.underparameterized
    room = anisotropic_leading if method == "leading" else anisotropic_equivalent
    return room.overparameterized if below else room.underparameterized


def task_coefficients(problem: MixedLinearRegression, design: Design) -> Real:
    """Return tr[C_j Sigma_w] for the three C_j, (3,): what new tasks differ by, exact."""
    spectrum = _spectrum(problem)
    return _metrics(spectrum, design) @ spectrum.tasks


def noise_coefficient(problem: MixedLinearRegression, design: Design) -> float:
    """Return tr(Sx^2) / n_r, what the adaptation step multiplies label noise by, exact."""
    inputs = _spectrum(problem).inputs
    return float(inputs @ inputs) / _n_adapt(design)


def auto(problem: MixedLinearRegression, design: Design) -> str:
    """Return the method that "auto" uses at all rates."""
    return "drawn" if anisotropic_drawn.is_best(len(_spectrum(problem).inputs), design) else "equivalent"


def method_for(problem: MixedLinearRegression, design: Design, train_rates: Any = (0.0, np.inf)) -> MethodChoice:
    """Return which method "auto" uses for correlated inputs, and the relative error of it to expect at these rates.

    The error is of tr[Sx E(omega* - w_0)(omega* - w_0)']: that of the draws, or for the equivalent one calibrated on
    random problems (docs/explanation/theory.md, "How accurate it is").
    """
    spectrum, rates = _spectrum(problem), np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
    r, n = len(spectrum.inputs), design.n_query_rows
    if r - 1 <= n <= r + 1:
        reason = f"N = {n} stands at the interpolation threshold of {r} input directions: the expectation is infinite."
        return MethodChoice("equivalent", 0.0, reason)
    finite = rates if n < r else rates[~_diverges(rates, r, design)]
    method, side = auto(problem, design), f"N = {n} {'<' if n < r else '>'} p = {r}"
    if not finite.size:
        return MethodChoice(method, 0.0, "The mean is infinite: A is nearly singular too often at these rates.")
    if method == "drawn":
        label, metrics = problem.noise_std**2, _metrics(spectrum, design)[:1]
        found = anisotropic_drawn.means(spectrum, design, _angles(finite, spectrum, design), metrics)
        value, error = found.tasks + label * found.noise, found.tasks_error + label * found.noise_error
        worst = float(np.divide(error, value, out=np.zeros_like(value), where=value > 0).max())
        return MethodChoice(method, worst, f"{side} with few correlated features: drawn data sets.")
    error = float(equivalent_error(spectrum, design, finite).max())
    reason = (
        f"{side} with correlated inputs: no exact form is known, and the large-size limit with finite-size "
        "corrections is nearly always closer than the leading order."
    )
    return MethodChoice(method, error, reason)


# What the equivalent is off by at rates in units of 1 / (largest eigenvalue of Sx + tr Sx / n_t): shares of 1/d_x, for
# N > r + 1 and for N < r, and of 1/d_x^2 for N < r. Calibrated; the last rate, infinity, is the point before the first.
_AT = np.arctan([-np.inf, -10, -4, -1.5, -0.7, -0.2, 0, 0.2, 0.6, 1, 1.5, 4, 10, np.inf])
_ABOVE = np.array([1.6, 1.2, 0.9, 0.45, 0.3, 0.12, 0, 0.08, 0.45, 1.8, 1.5, 1.1, 1.2, 1.6])
_BELOW = np.array([1, 1, 0.9, 0.8, 0.65, 0.6, 0.6, 0.6, 0.65, 1, 1, 1, 1, 1])
_BELOW_SQUARE = np.array([9, 7, 2, 0.2, 0, 0, 0, 0.1, 2, 3, 4, 3, 7, 9])
_LEAST = 0.003


def equivalent_error(spectrum: Spectrum, design: Design, rates: np.ndarray) -> np.ndarray:
    """(k,) relative error of the equivalent to expect; docs/explanation/theory.md, "How accurate it is".

    d_x = (tr Sx)^2 / tr Sx^2 counts the directions that inputs fill.
    """
    share = spectrum.inputs / spectrum.inputs.max()  # squares of very small or large variances would leave the floats
    total = float(share.sum())
    thin, r = float(share @ share) / total**2, len(share)
    with np.errstate(over="ignore"):
        angles = np.arctan(rates * spectrum.inputs.max() * (1 + total / design.n_support))
    if design.n_query_rows < r:
        return _LEAST + np.interp(angles, _AT, _BELOW) * thin + np.interp(angles, _AT, _BELOW_SQUARE) * thin**2
    # At rate 0 it is exact. Where a task's n_v > n_t rows lose rank far out, a second threshold, m n_t = r, is near.
    error = _LEAST * np.minimum(1, np.abs(angles) / _AT[7]) + np.interp(angles, _AT, _ABOVE) * thin
    gap = abs(design.n_tasks * design.n_support / r - 1)
    if design.n_query >= design.n_support:
        error += np.interp(np.abs(angles), _AT[-4:], (0, 0.1, 0.5, 1)) * min(0.5, 0.08 / max(gap, 1e-3))
    return error


def _total(pieces: Pieces, label: float) -> np.ndarray:
    total = pieces.start + pieces.tasks
    # Labels without noise add nothing, also where the coefficient is infinite.
    return total + label * pieces.noise if label > 0 else total


def _diverges(rates: np.ndarray, r: int, design: Design) -> np.ndarray:
    """(k,) rates at which the expectation is infinite although N > r + 1: the same as for isotropic inputs."""
    return existence.exponents(r, design, rates, 1) <= existence.MEAN


def may_be_infinite(problem: MixedLinearRegression, design: Design, rates: np.ndarray) -> np.ndarray:
    """(k,) whether an infinite value at a rate can be a mean, and is not a number out of range."""
    r, n = len(_spectrum(problem).inputs), design.n_query_rows
    return (r - 1 <= n <= r + 1) | ((n > r + 1) & _diverges(rates, r, design))


def _angles(rates: np.ndarray, spectrum: Spectrum, design: Design) -> Angles:
    """Points of the circle: tan(phi) = rate * lambda_max, so that finite and infinite rates are alike."""
    scale = float(spectrum.inputs.max())
    # Infinity is that of the negative side: with one task the positive one is infinite all the way.
    phi = np.arctan2(np.where(np.isinf(rates), -np.inf, rates), 1 / scale)
    cosine = np.where(np.isinf(rates), 0.0, np.cos(phi))
    if design.n_query >= design.n_support:
        # X_v S loses rank: the point at infinity is not regular, its limit is what is asked for.
        cosine = np.maximum(cosine, _FLAT)
    return Angles(cosine, np.sin(phi) / scale)


@lru_cache(maxsize=32)
def _basis(problem: MixedLinearRegression) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Eigenvalues of Sigma_x, (p,), its eigenvectors (None: the axes) and which eigenvalues are not zero."""
    covariance = problem.input_covariance
    if covariance is None:
        values, vectors = np.ones(problem.n_features), None
    elif covariance.ndim == 1:
        values, vectors = covariance, None
    else:
        values, vectors = np.linalg.eigh(covariance)
    kept = values > values.max() * len(values) * 10 * np.finfo(np.float64).eps
    if not kept.any():
        raise InputError(
            None,
            rule="input_covariance is zero: inputs that do not vary say nothing.",
            way_out="Give at least one variance > 0.",
        )
    return values[kept], vectors, kept


@lru_cache(maxsize=32)
def _spectrum(problem: MixedLinearRegression) -> Spectrum:
    values, vectors, kept = _basis(problem)
    covariance = problem.task_covariance
    if covariance is None:
        tasks = np.full(problem.n_features, float(problem.task_std or 0.0) ** 2 / problem.n_features)
    elif vectors is None:
        tasks = covariance if covariance.ndim == 1 else np.diag(covariance)
    elif covariance.ndim == 1:
        tasks = covariance @ vectors**2
    else:
        tasks = np.einsum("ij,ij->j", vectors, covariance @ vectors)
    return Spectrum(values, np.maximum(tasks[kept], 0.0), np.zeros(len(values)))


def _gap(problem: MixedLinearRegression, offset: Any) -> np.ndarray:
    gap = _check.vector(offset, "offset", problem.n_features)
    _, vectors, kept = _basis(problem)
    return (gap if vectors is None else gap @ vectors)[kept] ** 2


def _metrics(spectrum: Spectrum, design: Design) -> np.ndarray:
    """(3, r) diagonals of C_0, C_1, C_2."""
    x, n_r = spectrum.inputs, _n_adapt(design)
    return np.stack([x, x**2, (1 + 1 / n_r) * x**3 + (x @ x) / n_r * x])


def _n_adapt(design: Design) -> int:
    assert design.n_adapt is not None  # set in Design
    return design.n_adapt
