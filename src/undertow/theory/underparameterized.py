"""More query rows than features, N > p + 1, isotropic inputs: leading order in 1/m, and what is exact.

See docs/explanation/theory.md, "More query rows than features".
"""

from __future__ import annotations

import math

import numpy as np

from undertow.problem import Design
from undertow.theory import wishart
from undertow.theory._rates import as_finite, homogeneous
from undertow.theory.records import Coefficients


def leading(p: int, design: Design, rates: np.ndarray, steps: int = 1) -> Coefficients:
    """Return the exact coefficient of 1/m in Q, as if it were all. Relative error O(p/N), from the next order."""
    m, n_t, n_v, a = design.n_tasks, design.n_support, design.n_query, as_finite(rates, steps)
    if steps == 1:
        h, mu4, tau, q22, q21 = wishart.rate_traces(a, p, n_t)
        noise, tau, q21 = a**2, a**2 * tau, a**2 * q21
    else:
        h, noise = wishart.inner_step(a, steps, p, n_t)
        mu4, tau, q22, q21 = _many_steps(a, steps, p, n_t, h, noise)
    task = (1 + 1 / n_v) * mu4 + (p / n_v) * q22
    return Coefficients(
        np.zeros_like(a),
        task / (m * h**2),
        ((p / n_v) * h + (p / n_t) * ((1 + 1 / n_v) * tau + (p / n_v) * q21)) / (m * h**2),
    )


def _many_steps(a: np.ndarray, steps: int, p: int, n_t: int, h: np.ndarray, noise: np.ndarray) -> tuple:
    """E tr A^4/p and E tr(A^2 N)/p exactly; E (tr A^2/p)^2 and E (tr A^2/p)(tr N/p) up to their sampled covariance."""
    mu4 = wishart.mean_power(a, 4 * steps, p, n_t)
    # A^2 N(S) with A^2 = (1 - u)^(2k) and N = (1 - (1 - u)^k)^2 / s, as a polynomial in u = a s.
    outer, inner = wishart.binomial(2 * steps), wishart.binomial(steps)
    inner[0] -= 1
    product = np.polynomial.polynomial.polymul(outer, np.polynomial.polynomial.polymul(inner, inner))
    terms = [wishart.moment(0, p, n_t) * 0] + [
        round(float(c)) * wishart.moment(j - 1, p, n_t) for j, c in enumerate(product) if j
    ]
    tau = wishart.exact_polynomial(terms, a)
    # The covariance of two traces is O(1/(n_t p)) of their product, so a few hundred fixed draws are plenty.
    s = wishart.eigenvalue_draws(p, n_t, 400)
    trace2, trace_n = np.empty((2, a.size, len(s)))
    for j, rate in enumerate(a.ravel()):
        power = (1 - rate * s) ** steps
        trace2[j] = (power**2).sum(axis=1) / p
        trace_n[j] = ((1 - power) ** 2 / s).sum(axis=1) / p
    spread2, spread_n = trace2 - trace2.mean(axis=1, keepdims=True), trace_n - trace_n.mean(axis=1, keepdims=True)
    q22 = h**2 + (spread2**2).mean(axis=1).reshape(a.shape)
    q21 = h * noise + (spread2 * spread_n).mean(axis=1).reshape(a.shape)
    return mu4, tau, q22, q21


def at_zero(p: int, design: Design) -> tuple[float, float]:
    """Return the exact task and noise coefficients of Q at train rate 0, for N > p + 1 (and N >= p = 1)."""
    m, n_v, n = design.n_tasks, design.n_query, design.n_query_rows
    noise = p / (n - p - 1) if n > p + 1 else math.inf
    if m == 1:
        return 1.0, noise
    y = n_v * (n - n_v) / (n * (n + 2) * (n - 1))
    x = n_v * (n_v + 2) / (n * (n + 2)) - y
    # With one feature the task part is a share, and finite for every N.
    return m * (x + y * (1.0 if p == 1 else (n * p - 2) / (n - p - 1))), noise


def slope_at_zero(p: int, design: Design, steps: int = 1) -> float:
    """Return dQ/da at a = 0 divided by sigma^2, exact for N > p + 1 and for N < p - 1; the task part has slope 0.

    It is positive, so a small negative rate is always better than none where inputs are isotropic and sigma > 0.
    """
    n = design.n_query_rows
    return 2 * steps * (n / (p - n - 1) if n < p else p / (n - p - 1))


def single_task(p: int, design: Design, rates: np.ndarray, steps: int = 1) -> Coefficients:
    """One task, n_v > p + 1: Q = nu^2 + sigma^2 { E tr A^-2 / (n_v - p - 1) + E tr A^-2 N(S) / n_t }.

    The mean is infinite at every finite positive rate, as A = I - a S is singular at some rate of each draw. The point
    at infinity has the value that is reached from the negative side.
    """
    c, s = homogeneous(-np.abs(rates), steps)  # the positive side is overwritten below
    nodes, weights = wishart.spectrum(p, design.n_support)
    base = c[:, None] - s[:, None] * nodes
    inverse = (c[:, None] / base) ** (2 * steps) @ weights
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = np.where(nodes > 0, ((c[:, None] / base) ** steps - 1) ** 2 / nodes, 0.0) @ weights
    noise = p * (inverse / (design.n_query - p - 1) + growth / design.n_support)
    noise[(rates > 0) & np.isfinite(rates)] = np.inf
    return Coefficients(np.zeros_like(noise), np.ones_like(noise), noise)
