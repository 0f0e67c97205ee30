"""Deterministic equivalents: E|omega* - w_0|^2 for sizes that are all of the same order, on either side of N = p.

Each solves one scalar equation for kappa > 0 over the mean spectrum of S, with D(s) = (1 - a s)^(2 steps) and
N(s) = (1 - (1 - a s)^steps)^2 / s. The terms written "+ 1" are finite-size corrections.
See docs/explanation/theory.md, "Deterministic equivalents".
"""

from __future__ import annotations

import numpy as np

from undertow.problem import Design
from undertow.theory import overparameterized, wishart
from undertow.theory._rates import homogeneous
from undertow.theory.records import Coefficients
from undertow.theory.wishart import Spectrum


def coefficients(p: int, design: Design, rates: np.ndarray, steps: int = 1) -> Coefficients:
    """Return the equivalent of Q on the side of N = p that the design is on; at least two tasks when N > p + 1."""
    rule = wishart.spectrum(p, design.n_support)
    if design.n_query_rows < p:
        return overparameterized.coefficients(p, design, psi(p, design, rates, steps, rule))
    return _underparameterized(p, design, rates, steps, rule)


def psi(p: int, design: Design, rates: np.ndarray, steps: int, rule: Spectrum) -> np.ndarray:
    """Return psi (k,): kappa solves p E D/(D + kappa) = n_v + 1, then

    psi = n_v/(n_v + 1) { 1/kappa + (p/n_t) E N/(D + kappa) }.

    The finite-size 1 in n_v + 1 makes psi exact at rate 0; without it this is the bare asymptotic form.
    """
    n_v, n_t = design.n_query, design.n_support
    d, noise, unit = _functions(rates, steps, rule.nodes)
    kappa = solve(d, rule.weights, (n_v + 1) / p)
    resolvent = 1 / (d + kappa[:, None])
    return n_v / (n_v + 1) * (unit / kappa + (p / n_t) * ((noise * resolvent) @ rule.weights))


def _underparameterized(p: int, design: Design, rates: np.ndarray, steps: int, rule: Spectrum) -> Coefficients:
    """Free additive convolution of m task matrices, each by its own equivalent; exact at rate 0."""
    m, n_v, n_t, n = design.n_tasks, design.n_query, design.n_support, design.n_query_rows
    d, noise, unit = _functions(rates, steps, rule.nodes)
    kappa = solve(d, rule.weights, 1 / m)
    resolvent = 1 / (d + kappa[:, None])
    df2 = p * ((d * resolvent) ** 2 @ rule.weights)
    t1 = (p / n_t) * ((noise * resolvent) @ rule.weights)
    t2 = (p / n_t) * ((noise * d * resolvent**2) @ rule.weights)
    # p/m - df2 = p E D kappa/(D + kappa)^2, without the cancellation.
    gap = p * ((d * resolvent**2) @ rule.weights)
    r = n_v - (p + 1) / m
    within = m * ((n_v + 2) / (n + 2) - (n - n_v) / ((n + 2) * (n - 1)))
    between = n * (n - 2 / p) / ((n + 2) * (n - 1))
    task = within * df2 / (gap * kappa) + between * (p / m) / r
    sigma = unit * p / (kappa * r) + (p / r) * t1 + (1 + 1 / n_v) * p * t2 / (kappa * gap)
    return Coefficients(np.zeros_like(kappa), (1 - 1 / m) * task, (1 - 1 / m) * sigma)


def _functions(rates: np.ndarray, steps: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """D and N at (rates, nodes) and D(0) at (rates,), all times cos^(2 steps): finite at infinite rates too."""
    c, s = homogeneous(rates, steps)
    d = (c[:, None] - s[:, None] * nodes) ** (2 * steps)
    if steps == 1:
        noise = s[:, None] ** 2 * nodes
    else:
        change = (c[:, None] ** steps - (c[:, None] - s[:, None] * nodes) ** steps) ** 2
        noise = change / np.where(nodes > 0, nodes, 1.0)
    return d, noise, c ** (2 * steps)


def solve(d: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Return kappa > 0 with sum_j weights_j d_j/(d_j + kappa) = share, for each row of d; 0 < share < 1.

    Newton's method in log kappa, kept inside a bracket that halves whenever a step leaves it.
    """
    mean = d @ weights
    high = np.log(mean / share)
    # d/(d + kappa) <= share on average is sure once kappa = mean/share; it is sure to be above it for the least d.
    positive = np.where(d > 0, d, np.inf)
    low = np.minimum(np.log(positive.min(axis=1)) + np.log1p(-share) - np.log(share), high - 1.0)
    t = 0.5 * (low + high)
    t = np.maximum(t, high - 3.0)
    for _ in range(200):
        kappa = np.exp(t)[:, None]
        ratio = d / (d + kappa)
        excess = ratio @ weights - share
        slope = (ratio * (1 - ratio)) @ weights
        low, high = np.where(excess > 0, t, low), np.where(excess > 0, high, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = t + excess / slope
        inside = (step > low) & (step < high)
        following = np.where(inside, step, 0.5 * (low + high))
        # Relative error of kappa is the change of its logarithm.
        if np.all(np.abs(following - t) < 1e-13 * np.maximum(1.0, np.abs(t))):
            t = following
            break
        t = following
    return np.exp(t)
