"""Fewer query rows than features, N < p - 1, isotropic inputs: exact and first orders of E|omega* - w_0|^2.

    Q = (1 - N/p) |omega_0 - w_0|^2 + (N/p) c nu^2 + m c psi(a) sigma^2,      c = (p - n_v - 1) / (p - N - 1).

Only psi depends on the train rate a; it is a mean over one task. See docs/explanation/theory.md, "Fewer query
rows than features".
"""

from __future__ import annotations

import numpy as np

from undertow.problem import Design
from undertow.theory import wishart
from undertow.theory._rates import as_finite
from undertow.theory.records import Coefficients


def peak_factor(p: int, design: Design) -> float:
    """c = (p - n_v - 1)/(p - N - 1), the interpolation peak that task and noise parts share. Exact."""
    return (p - design.n_query - 1) / (p - design.n_query_rows - 1)


def coefficients(p: int, design: Design, psi: np.ndarray) -> Coefficients:
    """Put psi (k,) into the exact formula for Q, with N <= p - 2."""
    ratio, c = design.n_query_rows / p, peak_factor(p, design)
    return Coefficients(np.full_like(psi, 1 - ratio), np.full_like(psi, ratio * c), design.n_tasks * c * psi)


def leading(p: int, design: Design, rates: np.ndarray, steps: int = 1) -> Coefficients:
    """First order in N/p: c = 1 and psi = (n_v/p)(1 + E tr N(S)/n_t)/h (Bernacchia 2021, Theorem 1, for one step).

    Its relative error is O(N/p) and does not vanish when all sizes grow together.
    h uses p/n_t for (p + 1)/n_t in one step, as in the literature; this keeps the optimum at its closed form.
    """
    ratio = design.n_query_rows / p
    ones = np.ones_like(rates)
    return Coefficients((1 - ratio) * ones, ratio * ones, ratio * leading_psi(p, design.n_support, rates, steps))


def leading_psi(p: int, n_support: int, rates: np.ndarray, steps: int = 1) -> np.ndarray:
    """Return psi p / n_v at first order, (k,). With g = p/n_t and one step this is (1 + g a^2)/((1 - a)^2 + g a^2)."""
    a, g = as_finite(rates, steps), p / n_support
    if steps == 1:
        return (1 + g * a**2) / ((1 - a) ** 2 + g * a**2)
    step = wishart.inner_step(a, steps, p, n_support)
    return (1 + g * step.noise) / step.square


def next_order(p: int, design: Design, rates: np.ndarray) -> Coefficients:
    """Exact c, and psi up to a relative error O((n_v/p)^2 + 1/p^2) at fixed n_v and n_t/p. One inner step."""
    n_t, n_v, a = design.n_support, design.n_query, as_finite(rates)
    t = wishart.rate_traces(a, p, n_t)
    m0 = 1 + a**2 * (p / n_t)
    spread = (n_v + 1) * t.mu4 / (p * t.h**2)
    psi = n_v / (p * t.h) * (m0 * (1 + spread) - (n_v + 1) * a**2 / n_t * t.tau / t.h)
    return coefficients(p, design, psi)
