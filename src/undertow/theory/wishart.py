"""Moments of a real Wishart matrix S = X^T X / n, with X (n, p) standard normal, and quadratures for its spectrum.

Every moment here is exact at finite p and n. See docs/explanation/theory.md, "Wishart moments".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from undertow.theory import wishart_density


@lru_cache(maxsize=4096)
def moment(order: int, p: int, n: int) -> Fraction:
    """Return E tr(S^order) / p as an exact fraction, for any order >= 0.

    A power sum is a combination of zonal polynomials Z_lambda (Jack's with parameter 2), and
    E Z_lambda(n S) = prod over boxes (p + c)(n + c), with c = 2 (column - 1) - (row - 1) of the box. See Hanlon,
    Stanley and Stembridge, "Some combinatorial aspects of the spectra of normally distributed random matrices" (1992).
    """
    if order == 0:
        return Fraction(1)
    total = Fraction(0)
    for shape in _shapes(order):
        columns = [sum(row > j for row in shape) for j in range(shape[0])]
        value, norm = 2 * order, 1
        for i, row in enumerate(shape):
            for j in range(row):
                content = 2 * j - i
                value *= (p + content) * (n + content) * (content if i or j else 1)
                hook = 2 * (row - j - 1) + columns[j] - i - 1
                norm *= (hook + 1) * (hook + 2)
        total += Fraction(value, norm)
    return total / p / n**order


def _shapes(order: int) -> Iterator[tuple[int, ...]]:
    """Partitions of ``order`` without a box in row 3, column 2: there the content is 0, and so is the coefficient."""
    for first in range(1, order + 1):
        for second in range(0, min(first, order - first) + 1):
            rest = order - first - second
            if rest and not second:
                continue
            yield (first, *((second,) if second else ()), *(1,) * rest)


class InnerStep(NamedTuple):
    """Traces of powers of A = (I - a S)^steps that the formulas need; each is an array over the rates."""

    square: np.ndarray
    """h = E tr A^2 / p"""
    noise: np.ndarray
    """E tr N / p, with N(s) = (1 - (1 - a s)^steps)^2 / s, which is a^2 s for one step"""


def inner_step(rates: np.ndarray, steps: int, p: int, n: int) -> InnerStep:
    """Return E tr (I - a S)^(2 steps) / p and E tr N(S) / p at finite rates, (k,) each, exact."""
    if steps == 1:
        return InnerStep((1 - rates) ** 2 + rates**2 * ((p + 1) / n), rates**2)
    square = binomial(2 * steps)
    # (1 - (1 - u)^k)^2 = 1 - 2 (1 - u)^k + (1 - u)^(2k); divided by s, u^j stands for a^j s^(j-1).
    noise = [x - 2 * y for x, y in zip(square, binomial(steps) + [0] * steps, strict=True)]
    noise[0] += 1
    s = [moment(j, p, n) for j in range(2 * steps + 1)]
    return InnerStep(
        exact_polynomial([c * s[j] for j, c in enumerate(square)], rates),
        exact_polynomial([Fraction(0)] + [c * s[j - 1] for j, c in enumerate(noise) if j], rates),
    )


def mean_power(rates: np.ndarray, power: int, p: int, n: int) -> np.ndarray:
    """Return E tr (I - a S)^power / p at finite rates, (k,), exact."""
    return exact_polynomial([c * moment(j, p, n) for j, c in enumerate(binomial(power))], rates)


def binomial(power: int) -> list[int]:
    """Coefficients of (1 - u)^power, lowest first."""
    return [(-1) ** j * math.comb(power, j) for j in range(power + 1)]


def exact_polynomial(coefficients: list[Fraction], rates: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial (lowest coefficient first) at each rate in exact arithmetic; the sums alternate in sign."""
    out = np.empty(rates.shape)
    for index, rate in np.ndenumerate(rates):
        a, value = Fraction(float(rate)), Fraction(0)
        for c in reversed(coefficients):
            value = value * a + c
        try:
            out[index] = value
        except OverflowError:
            out[index] = np.inf if value > 0 else -np.inf
    return out


def pair_moments(p: int, n: int) -> tuple[float, float, float]:
    """Return E (tr S / p)^2, E (tr S / p)(tr S^2 / p) and E (tr S^2 / p)^2, exact."""
    s2 = 1 + (p + 1) / n
    last = s2**2 + 4 * (2 * n**2 + 2 * p**2 + 5 * n * p + 5 * n + 5 * p + 5) / (n**3 * p)
    return 1 + 2 / (n * p), s2 * (n * p + 4) / (n * p), last


class Spectrum(NamedTuple):
    """A quadrature rule: E tr f(S) / p = sum_j weights_j f(nodes_j). Nodes at 0 stand for the null space of S."""

    nodes: np.ndarray
    weights: np.ndarray


# Above this rank the exact density takes many seconds, and the Marchenko-Pastur law stands in for it.
EXACT_RANK = 5000
_MATCHED = 6


@lru_cache(maxsize=64)
def spectrum(p: int, n: int) -> Spectrum:
    """Return a quadrature for the mean spectrum of S: its exact density when min(p, n) <= 5000, else the limit law.

    The weights of the limit law are corrected so that the moments of order 0 to 6 are exact at finite size.
    """
    if min(p, n) > EXACT_RANK:
        return _match_moments(marchenko_pastur(p / n), p, n)
    nodes, weights = wishart_density.nonzero(p, n)
    return Spectrum(np.append(nodes, 0.0), np.append(weights, 1 - n / p)) if n < p else Spectrum(nodes, weights)


def spectrum_error(p: int, n: int) -> float:
    """Relative error of ``spectrum`` for a mean of (1 - a s)^-2 at rates a < 0: that of its limit, the mean of s^-2."""
    if min(p, n) <= EXACT_RANK:
        return 1e-8
    gap = abs(n - p)
    if gap <= 3:
        return 1.0
    high, low = max(p, n), min(p, n)
    exact = low / p * n**2 * (high - 1) / (gap * (gap - 1) * (gap - 3))
    rule = spectrum(p, n)
    live = rule.nodes > 0
    return max(1e-8, abs(float(rule.weights[live] @ rule.nodes[live] ** -2.0) / exact - 1))


def marchenko_pastur(y: float, n_nodes: int = 800) -> Spectrum:
    """Return a quadrature for the Marchenko-Pastur law of ratio y = p / n, the limit of the spectrum at large p and n.

    Nodes 1 + y + 2 sqrt(y) cos t_j at equally spaced angles t_j, plus the atom 1 - 1/y at 0 when y > 1.
    """
    angle = np.arange(1, n_nodes + 1) * (np.pi / (n_nodes + 1))
    nodes = 1 + y + 2 * math.sqrt(y) * np.cos(angle)
    weights = 2 * np.sin(angle) ** 2 / (nodes * (n_nodes + 1))
    if y > 1:
        nodes, weights = np.append(nodes, 0.0), np.append(weights, 1 - 1 / y)
    return Spectrum(nodes, weights)


def eigenvalue_draws(p: int, n: int, n_draws: int) -> np.ndarray:
    """Return the nonzero eigenvalues of independent S, (n_draws, min(p, n)). The seed is fixed by the sizes.

    They are those of a tridiagonal matrix of independent chi variables (Dumitriu and Edelman, 2002).
    """
    rank = min(p, n)
    generator = np.random.default_rng([20210111, p, n])
    lower, diagonal = bidiagonal_degrees(p, n)
    d = np.sqrt(generator.chisquare(diagonal, (n_draws, rank)))
    e = np.sqrt(generator.chisquare(lower, (n_draws, rank - 1))) if rank > 1 else np.zeros((n_draws, 0))
    root = bidiagonal(d, e)
    # Singular values and not eigenvalues of the square: the smallest ones keep their relative accuracy.
    return np.linalg.svd(root, compute_uv=False) ** 2 / n


def bidiagonal_degrees(p: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom of the sub-diagonal and of the diagonal of a bidiagonal root of n S (or of its Gram)."""
    rank = min(p, n)
    return np.arange(rank - 1, 0, -1), np.arange(max(p, n), max(p, n) - rank, -1)


def bidiagonal(diagonal: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return lower bidiagonal matrices (..., q, q)."""
    q = diagonal.shape[-1]
    root = np.zeros((*diagonal.shape, q))
    index = np.arange(q)
    root[..., index, index] = diagonal
    root[..., index[1:], index[:-1]] = lower
    return root


def _match_moments(base: Spectrum, p: int, n: int) -> Spectrum:
    """Multiply the weights by a polynomial, so that the moments of order 0 to 6 become exact."""
    live, rank = base.nodes > 0, min(p, n)
    nodes, weights = base.nodes[live], base.weights[live]
    matched = base.weights.copy()
    matched[~live] = 1 - rank / p
    # Legendre polynomials on the range of the nodes keep the small linear system well conditioned.
    low, high = nodes.min(), nodes.max()
    shift = np.polynomial.Polynomial([-(low + high) / (high - low), 2 / (high - low)])
    basis = np.polynomial.legendre.legvander(shift(nodes), _MATCHED)
    target = np.array([_exact_mean(np.polynomial.legendre.leg2poly(row), shift, p, n) for row in np.eye(_MATCHED + 1)])
    target[0] = rank / p
    correction = np.linalg.solve((basis * weights[:, None]).T @ basis, target - basis.T @ weights)
    matched[live] = weights * (1 + basis @ correction)
    return Spectrum(base.nodes, matched)


def _exact_mean(legendre: np.ndarray, shift: np.polynomial.Polynomial, p: int, n: int) -> float:
    """E tr f(S) / p over nonzero eigenvalues, for the polynomial f(s) = legendre(shift(s))."""
    coefficients = np.polynomial.Polynomial(legendre)(shift).coef  # type: ignore[union-attr]
    total = Fraction(float(coefficients[0])) * Fraction(min(p, n), p)
    return float(sum((Fraction(float(c)) * moment(j, p, n) for j, c in enumerate(coefficients) if j), total))


class RateTraces(NamedTuple):
    """Exact traces at one inner step: E tr(.)/p of A^2, A^4, A^2 S, and of products of two traces, (k,) each."""

    h: np.ndarray
    mu4: np.ndarray
    tau: np.ndarray
    q22: np.ndarray
    q21: np.ndarray


def rate_traces(a: np.ndarray, p: int, n: int) -> RateTraces:
    """Return h, mu4 = E tr A^4/p, tau = E tr A^2 S/p, q22 = E (tr A^2/p)^2, q21 = E (tr A^2/p)(tr S/p); A = I - a S."""
    s2, s3, s4 = (float(moment(j, p, n)) for j in (2, 3, 4))
    t11, t12, t22 = pair_moments(p, n)
    return RateTraces(
        h=1 - 2 * a + a**2 * s2,
        mu4=1 - 4 * a + 6 * a**2 * s2 - 4 * a**3 * s3 + a**4 * s4,
        tau=1 - 2 * a * s2 + a**2 * s3,
        q22=1 - 4 * a + 4 * a**2 * t11 + 2 * a**2 * s2 - 4 * a**3 * t12 + a**4 * t22,
        q21=1 - 2 * a * t11 + a**2 * t12,
    )
