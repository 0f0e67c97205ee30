"""Leading orders for correlated inputs: exact coefficients of 1/m (N > p + 1) and of N (N < p - 1).

Everything stands in the eigenbasis of Sigma_x, where only diagonals matter: flipping the sign of a coordinate leaves
the law of the inputs as it is, so off-diagonal entries of Sigma_w and of (omega_0 - w_0)(omega_0 - w_0)' average out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from undertow.problem import Design
from undertow.theory import wick


class Spectrum(NamedTuple):
    """A problem in the eigenbasis of its input covariance, null directions left out; r is the rank."""

    inputs: np.ndarray
    """(r,) eigenvalues of Sigma_x, all > 0"""
    tasks: np.ndarray
    """(r,) diagonal of Sigma_w"""
    gap: np.ndarray
    """(r,) squares of the entries of omega_0 - w_0"""


class Angles(NamedTuple):
    """Rates on the circle: train_rate = sine / cosine, so that infinity is an ordinary point (cosine = 0)."""

    cosine: np.ndarray
    """(k,)"""
    sine: np.ndarray
    """(k,)"""


class Pieces(NamedTuple):
    """tr[C E(omega* - w_0)(omega* - w_0)'] for each of several matrices C, split by what causes it."""

    start: np.ndarray
    """(k, j) from omega_0 - w_0"""
    tasks: np.ndarray
    """(k, j) from the spread of the task weights"""
    noise: np.ndarray
    """(k, j) from label noise of variance 1"""


def moments(word: str, traces: tuple[str, ...], n: int, angles: Angles, **diagonals: np.ndarray) -> np.ndarray:
    """Return E[word prod tr(trace)], "A" = cosine I - sine S, at every angle: (k, r)."""
    coefficients = wick.polynomial(word, traces, n, diagonals)
    degree = len(coefficients) - 1
    powers = [angles.cosine ** (degree - j) * angles.sine**j for j in range(degree + 1)]
    return np.stack(powers, axis=-1) @ coefficients


def underparameterized(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Pieces:
    """N > r + 1: the exact coefficient of 1/m divided by m, at any n_v, n_t and r. ``metrics`` is (j, r)."""
    n_t, n_v, m = design.n_support, design.n_query, design.n_tasks
    x, w = spectrum.inputs, spectrum.tasks
    gram = moments("AXA", (), n_t, angles, X=x)
    # The score of one task is A V A u + A X_v' xi / n_v with V = X_v' X_v / n_v and
    # E[V C V] = (1 + 1/n_v) Sx C Sx + tr(C Sx) / n_v Sx; the curvature is E A V A = gram.
    drift = (1 + 1 / n_v) * moments("AXAWAXA", (), n_t, angles, X=x, W=w)
    drift += moments("AXA", ("AWAX",), n_t, angles, X=x, W=w) / n_v
    support = (1 + 1 / n_v) * moments("AXSXA", (), n_t, angles, X=x) + moments("AXA", ("SX",), n_t, angles, X=x) / n_v
    cosine, sine = (part[:, None] for part in angles)
    noise = cosine**2 * gram / n_v + sine**2 / n_t * support
    weights = 1 / (m * gram**2)
    tasks, noise = ((weights * score) @ metrics.T for score in (drift, noise))
    return Pieces(np.zeros_like(tasks), tasks, noise)


def overparameterized(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Pieces:
    """N < r - 1: leading order in N tr(H_t^2) / (tr H_t)^2, H_t = E[A Sx A]. ``metrics`` is (j, r)."""
    n_t, n = design.n_support, design.n_query_rows
    x = spectrum.inputs
    gram = moments("AXA", (), n_t, angles, X=x)
    total = gram.sum(axis=1, keepdims=True)
    gain = n * gram @ metrics.T / total**2
    start = metrics @ spectrum.gap - 2 * n * (gram * spectrum.gap) @ metrics.T / total
    start += gain * (gram @ spectrum.gap)[:, None]
    label = angles.cosine**2 + angles.sine**2 * (x**2).sum() / n_t
    return Pieces(start, gain * (gram @ spectrum.tasks)[:, None], gain * label[:, None])
