"""Means over drawn data sets for correlated inputs, N > r + 1 and several tasks: for few features, far from any limit.

With S of the support rows, V = X_v'X_v, A = c I - s S and W_i = A V A of task i, r x r, W = sum_i W_i and a metric C,

    tasks = sum_i tr C W^-1 W_i Sigma_w W_i W^-1,     noise = c^2 tr C W^-1 + s^2/n_t sum_i tr C W^-1 A V S V A W^-1.

S and V are drawn once for all rates, so that curves are smooth, and corrected by their own means at rate 0, where the
true ones are known; the rest is as for isotropic inputs (``drawn``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from undertow._check import InputError
from undertow.problem import Design
from undertow.theory import drawn, existence
from undertow.theory.anisotropic_equivalent import tasks_at_zero
from undertow.theory.anisotropic_leading import Angles, Pieces, Spectrum

# Below this many input directions the equivalent is far off, and drawing is cheap.
_FEW = 6
# Products of matrices that a rate may cost, in units of r^2 (r + 10) numbers: about .02 s.
_WORK = 4e6
_FLAT = 1e-3  # a rate this much beyond 1 / (largest variance), inverted, is as good as infinite
_FEWEST, _MOST = 16, 20_000


class Found(NamedTuple):
    """Coefficients (k, j) for each of several metrics, and errors: three standard ones and the share of the tail."""

    tasks: np.ndarray
    noise: np.ndarray
    tasks_error: np.ndarray
    noise_error: np.ndarray


def underparameterized(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Pieces:
    """N > r + 1 and several tasks. ``metrics`` is (j, r). Raises InputError where drawing takes seconds a rate."""
    found = means(spectrum, design, angles, metrics)
    return Pieces(np.zeros_like(found.tasks), found.tasks, found.noise)


def means(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Found:
    """The same, with errors."""
    r, n, m = len(spectrum.inputs), design.n_query_rows, design.n_tasks
    if n <= r + 1 or m == 1:
        rule = f"it is for N > p + 1 and several tasks (here N = {n}, p = {r}, n_tasks = {m})."
        raise InputError("method", "drawn", rule, "Use 'equivalent', 'leading' or 'auto'.")
    runs = min(_runs(r, design), _MOST)
    if runs < _FEWEST:
        rule = f"data sets of {m} tasks and {r} features take minutes to draw."
        raise InputError("method", "drawn", rule, "Use 'equivalent', 'leading' or 'auto'.")
    s, v = _draws(r, m, design.n_support, design.n_query, runs)
    root = np.sqrt(spectrum.inputs)
    s, v = (root[:, None] * part * root for part in (s, v))
    zero = _samples(spectrum, design.n_support, s, v, 1.0, 0.0, metrics)
    known = np.stack([tasks_at_zero(spectrum, design, metrics), metrics @ (1 / spectrum.inputs) / (n - r - 1)])
    exponents = existence.exponents(r, design, np.where(angles.cosine > 0, angles.sine, np.inf), 1)
    found = np.empty((len(angles.cosine), 2, 2, len(metrics)))
    # Far out the tasks leave directions alone: what settles these would drown in rounding.
    least = _FLAT if m * min(design.n_support, design.n_query) < r else 0.0
    for k, (cosine, sine) in enumerate(zip(*angles, strict=True)):
        if sine == 0:
            found[k] = known, 0 * known
        else:
            far = abs(sine) * spectrum.inputs.max()
            cosine = max(cosine, least * far)
            size = np.hypot(cosine, far)
            samples = _samples(spectrum, design.n_support, s, v, cosine / size, sine / size, metrics)
            found[k] = _corrected(samples, zero, known, exponents[k])
    return Found(*(found[:, i, j] for i in (0, 1) for j in (0, 1)))


def is_best(r: int, design: Design) -> bool:
    """Whether "auto" draws: N > r + 1, several tasks, few directions, and not so many tasks that it takes long."""
    return design.n_query_rows > r + 1 and design.n_tasks > 1 and r < _FEW and _runs(r, design) >= _FEWEST


def _runs(r: int, design: Design) -> int:
    return int(_WORK / (design.n_tasks * r * r * (r + 10)))


@lru_cache(maxsize=8)
def _draws(r: int, m: int, n_t: int, n_v: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """S and V of white inputs, (runs, m, r, r); the seed is fixed by the sizes."""
    generator = np.random.default_rng([20210118, r, m, n_t, n_v])
    roots = [drawn.root(generator, n, r, runs * m) for n in (n_t, n_v)]
    s, v = ((root.swapaxes(1, 2) @ root).reshape(runs, m, r, r) for root in roots)
    return s / n_t, v


def _samples(
    spectrum: Spectrum, n_t: int, s: np.ndarray, v: np.ndarray, cosine: float, sine: float, metrics: np.ndarray
) -> np.ndarray:
    """Coefficients of each data set, (runs, 2, j): of the tasks and of the noise."""
    one = cosine * np.eye(len(spectrum.inputs)) - sine * s
    av = one @ v
    parts = av @ one.swapaxes(-1, -2)
    inverse = np.linalg.inv(parts.sum(axis=1))
    share = inverse[:, None] @ parts
    tasks = (share**2 @ spectrum.tasks).sum(axis=1) @ metrics.T
    support = (av @ s @ av.swapaxes(-1, -2)).sum(axis=1)
    spread = cosine**2 * inverse + sine**2 / n_t * (inverse @ support @ inverse)
    noise = np.einsum("nkk->nk", spread) @ metrics.T
    return np.stack([tasks, noise], axis=1)


def _corrected(
    samples: np.ndarray, zero: np.ndarray, known: np.ndarray, exponent: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take off what the same draws miss at rate 0, by regression, and state the error: both (2, j).

    Beyond the largest of n draws with the tail x^(-e/2) lies e/(e - 2) times a n-th of it.
    """
    runs, mean, spread = len(samples), samples.mean(axis=0), zero - zero.mean(axis=0)
    variance = (spread**2).mean(axis=0)
    slope = np.divide((spread * samples).mean(axis=0), variance, out=np.zeros_like(mean), where=variance > 0)
    # A heavy tail must not carry the mean below zero.
    shift = np.clip(slope * (known - zero.mean(axis=0)), -0.5 * mean, 0.5 * mean)
    rest = samples - slope * spread
    share = np.abs(rest - rest.mean(axis=0)).max(axis=0) / runs
    if existence.MEAN < exponent <= existence.VARIANCE:
        share = share * exponent / (exponent - existence.MEAN)
    return mean + shift, 3 * rest.std(axis=0, ddof=1) / np.sqrt(runs) + share
