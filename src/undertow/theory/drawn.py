"""Means over drawn data sets, for several inner steps: no expansion, no limit, and an error that the draws state.

Given the inputs, the mean over task weights and noise is closed form. With B^+ the pseudo-inverse of the rows B,

    task = sum_i |B_i^+ B_i|^2 / p,     noise = |B^+|^2 + sum_i |B_i^+ X_v,i N(S_i)^(1/2)|^2 / n_t,

and for N < p the same noise with one task is psi. Data sets are drawn once for all rates, so that curves are smooth,
and corrected by their own value at rate 0, where the mean is known. See docs/explanation/theory.md, "Drawn data sets".
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_lapack_funcs

from undertow.problem import Design
from undertow.theory import overparameterized, underparameterized, wishart
from undertow.theory._rates import homogeneous
from undertow.theory.records import Coefficients

# Seconds on one core that the draws may take, and those that each rate may, as far as the estimates below go.
_DRAWING = 0.5
QUICK, THOROUGH = 0.04, 0.2
_FEWEST, _MOST = 16, 2000
_KEPT = 4096  # rates whose means are remembered

_geqp3, _orgqr, _trtrs = get_lapack_funcs(("geqp3", "orgqr", "trtrs"), dtype=np.float64)


class Inputs(NamedTuple):
    """Inputs of all data sets, as their tasks' eigenbases have them; t counts tasks, q = min(n_v, p)."""

    eigenvalues: np.ndarray
    """(t, p) of S, zeros included"""
    vectors: np.ndarray | None
    """(t, p, p), one eigenvector a row; None where there is one task, and nothing depends on them"""
    queries: np.ndarray
    """(t, q, p): X_v on the eigenvectors, or the root of X_v^T X_v with n_v > p rows"""


def affordable(p: int, design: Design) -> bool:
    """Whether the fewest data sets take no longer than about a second."""
    drawing, _ = _seconds(p, _drawn_tasks(p, design), design)
    return _FEWEST * drawing <= 2 * _DRAWING


def coefficients(p: int, design: Design, rates: np.ndarray, steps: int, work: float = THOROUGH) -> Coefficients:
    """Return the coefficients of Q, (k,) each, for N < p - 1 and for N > p + 1; exact at rate 0."""
    means = _means(p, design, steps, work)
    values = np.array([means.at(rate)[0] for rate in rates]).reshape(len(rates), 2)
    if design.n_query_rows < p:
        return overparameterized.coefficients(p, design, values[:, 1])
    return Coefficients(np.zeros(len(rates)), values[:, 0], values[:, 1])


def relative_error(
    p: int, design: Design, rates: np.ndarray, steps: int, sources: tuple[float, float], work: float = THOROUGH
) -> float:
    """Return the largest relative error over the rates for (nu^2, sigma^2): three standard errors and one draw's share.

    The largest draw's share of the sum speaks where the variance is infinite or seen too rarely.
    """
    means, worst = _means(p, design, steps, work), 0.0
    for rate in rates:
        value, error = means.at(rate)
        if design.n_query_rows < p:  # the tasks' part is exact there
            worst = max(worst, float(error[1] / value[1]))
        elif (total := float(value @ sources)) > 0:
            worst = max(worst, float(error @ sources) / total)
    return worst


@lru_cache(maxsize=8)
def _means(p: int, design: Design, steps: int, work: float) -> Means:
    return Means(p, Design(design.n_tasks, design.n_support, design.n_query), steps, work)


class Means:
    """Means over fixed data sets at any rate, with their errors."""

    def __init__(self, p: int, design: Design, steps: int, work: float) -> None:
        self._p, self._steps, self._n_support = p, steps, design.n_support
        self._tasks = _drawn_tasks(p, design)
        drawing, rate = _seconds(p, self._tasks, design)
        self._runs = int(np.clip(min(_DRAWING / drawing, work / rate), _FEWEST, _MOST))
        self._inputs = _draw(p, design, self._tasks, self._runs)
        if design.n_query_rows < p:
            self._known = np.array([1.0, design.n_query / (p - design.n_query - 1)])
        else:
            self._known = np.array(underparameterized.at_zero(p, design))
        self._at_zero = self._samples(0.0)
        self._found: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the task and the noise coefficient, (2,), and their stated errors, (2,)."""
        rate = float(rate)
        if rate == 0:
            return self._known, np.zeros(2)
        if rate not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()
            self._found[rate] = self._corrected(self._samples(rate))
        return self._found[rate]

    def _corrected(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take off what the same draws miss at rate 0, by regression: exact in value and in slope near 0."""
        zero, mean = self._at_zero, samples.mean(axis=0)
        spread = zero - zero.mean(axis=0)
        variance = (spread**2).mean(axis=0)
        slope = np.divide((spread * samples).mean(axis=0), variance, out=np.zeros(2), where=variance > 0)
        # A heavy tail must not carry the mean below zero.
        shift = np.clip(slope * (self._known - zero.mean(axis=0)), -0.5 * mean, 0.5 * mean)
        rest = samples - slope * spread
        scatter = rest.std(axis=0, ddof=1) / np.sqrt(self._runs)
        share = np.abs(rest - rest.mean(axis=0)).max(axis=0) / self._runs
        return mean + shift, 3 * scatter + share

    def _samples(self, rate: float) -> np.ndarray:
        """Return the coefficients of each data set, (runs, 2)."""
        inputs, k, p, m = self._inputs, self._steps, self._p, self._tasks
        (c,), (s,) = homogeneous(np.array([rate]), k)
        power = (c - s * inputs.eigenvalues) ** k
        # Rows are turned so that each has the size of one power at most: then small ones survive beside large ones.
        order = np.argsort(-np.abs(power), axis=1, kind="stable")
        power, values = (np.take_along_axis(x, order, 1) for x in (power, inputs.eigenvalues))
        turned = np.asarray(np.linalg.qr(np.take_along_axis(inputs.queries, order[:, None, :], 2), mode="r"))
        growth = np.divide(np.abs(c**k - power), np.sqrt(values * self._n_support), out=0 * power, where=values > 0)
        rows, noise = turned * power[:, None, :], turned * growth[:, None, :]
        q, unit = rows.shape[1], c ** (2 * k)
        if inputs.vectors is None:
            noise = np.concatenate([np.broadcast_to(np.sqrt(unit) * np.eye(q), (self._runs, q, q)), noise], axis=2)
            return np.stack([np.full(self._runs, q / p), (_from_left(rows, noise) ** 2).sum(axis=(1, 2))], axis=1)
        stacked = rows @ np.take_along_axis(inputs.vectors, order[:, :, None], 1)
        stacked = stacked.reshape(self._runs, m * q, p)
        rows, noise = (x.reshape(self._runs, m, q, p) for x in (rows, noise))
        out = np.empty((self._runs, 2))
        for run, b in enumerate(stacked):
            inverse = _pseudo_inverse(b)
            own = inverse.reshape(p, m, q).swapaxes(0, 1)
            out[run, 0] = ((own @ rows[run]) ** 2).sum() / p
            out[run, 1] = unit * (inverse**2).sum() + ((own @ noise[run]) ** 2).sum()
        return out


def _pseudo_inverse(tall: np.ndarray) -> np.ndarray:
    """Return the pseudo-inverse of (n, k), n >= k, for rows of very different sizes.

    Sorted rows and pivoted columns keep each row's own accuracy (Cox and Higham, 1998).
    """
    order = np.argsort(-np.abs(tall).max(axis=1))
    factor, pivots, tau, _, _ = _geqp3(tall[order])
    k = tall.shape[1]
    q, _, _ = _orgqr(factor[:, :k], tau)
    solved, _ = _trtrs(factor[:k], q.T)
    out = np.empty_like(solved)
    out[np.ix_(pivots - 1, order)] = solved
    return out


def _from_left(wide: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return R^-T times (runs, q, c), with wide^T = Q R for each (q, p): as long as the pseudo-inverse times it.

    Columns of the wide rows are sorted by size and the rows turned, so that the columns of wide^T fall in size: they
    need no pivots.
    """
    triangle = np.asarray(np.linalg.qr(wide.swapaxes(1, 2), mode="r"))
    out = np.empty_like(right)
    for j in range(wide.shape[1]):
        known = (triangle[:, None, :j, j] @ out[:, :j])[:, 0]
        out[:, j] = (right[:, j] - known) / triangle[:, j, j, None]
    return out


def _drawn_tasks(p: int, design: Design) -> int:
    return design.n_tasks if design.n_query_rows > p else 1


def _seconds(p: int, tasks: int, design: Design) -> tuple[float, float]:
    """Estimated seconds to draw one data set, and to take its coefficients at one rate; measured on one core."""
    rows = tasks * min(design.n_query, p)
    drawing = tasks * (2e-6 + 2.4e-7 * p**2)
    return drawing, 3e-5 + 2e-7 * rows * p


def _draw(p: int, design: Design, tasks: int, runs: int) -> Inputs:
    """Draw all tasks of all data sets; the seed is fixed by the sizes."""
    n_t, n_v, total = design.n_support, design.n_query, tasks * runs
    generator = np.random.default_rng([20210115, p, tasks, n_t, n_v])
    queries = root(generator, n_v, p, total)
    eigenvalues = np.zeros((total, p))
    if tasks == 1:
        found = wishart.eigenvalue_draws(p, n_t, total)
        vectors = None
    else:
        _, singular, vectors = np.linalg.svd(root(generator, n_t, p, total), full_matrices=True)
        found = singular**2 / n_t
    eigenvalues[:, : found.shape[1]] = found
    return Inputs(eigenvalues, vectors, queries)


def root(generator: np.random.Generator, n: int, p: int, total: int) -> np.ndarray:
    """Draw X, or with more rows than columns the triangular root of X^T X, (total, min(n, p), p)."""
    if n <= p:
        return generator.standard_normal((total, n, p))
    x = np.triu(generator.standard_normal((total, p, p)), 1)
    index = np.arange(p)
    x[:, index, index] = np.sqrt(generator.chisquare(np.arange(n, n - p, -1), (total, p)))
    return x
