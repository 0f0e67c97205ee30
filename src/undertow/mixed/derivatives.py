r"""Slopes of the mixed model's likelihood, and two measures of its curvature.

With :math:`G_i = A_i^T A_i`, :math:`g_i = A_i^T e_i` (see ``likelihood``), the precision P of the mean and
:math:`B_i = g_i g_i^T + G_i P^{-1} G_i`, the slope, the expected information of a known mean and the average of
expected and observed information are

.. math:: \frac{\partial \ell}{\partial \Sigma_w} = \tfrac12 \sum_i \left[ B_i - G_i \right] , \qquad
          E(D, D') = \tfrac12 \sum_i \operatorname{tr} (D G_i D' G_i) , \qquad
          A(D, D') = \tfrac12 \sum_i \operatorname{tr} (D G_i D' B_i) - \tfrac12 h(D)^T P^{-1} h(D') ,

with :math:`h(D) = \sum_i G_i D g_i`; the terms with :math:`G_i P^{-1} G_i` belong to the restricted likelihood. Both
measures are positive semidefinite, and 2 A - E is the observed curvature up to terms of the order of one task in all
and of the prior's width. All that belongs to sigma^2 follows without another sum: multiplying :math:`\Sigma_w` and
sigma^2 by c multiplies every :math:`H_i` by c.

Sources: Gilmour, Thompson & Cullis, Biometrics 51 (1995), for A; Jennrich & Schluchter, Biometrics 42 (1986).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from undertow.mixed.likelihood import Evaluation

# A search needs no exact curvature: beyond this many products, evenly spaced tasks stand for all.
_CURVATURE_WORK = 2e9
_FEWEST_TASKS = 512
# Rows of a matrix up to which the places of pairs of its numbers are kept: two arrays of 300 KB.
_KEPT = 16


class Derivatives(NamedTuple):
    """Of the log-likelihood by n - 1 parameters in which Sigma_w is linear and, last, by sigma^2."""

    slope: Float[np.ndarray, " n"]
    expected: Float[np.ndarray, "n n"]
    """E"""
    average: Float[np.ndarray, "n n"]
    """A"""


class _Sums(NamedTuple):
    """Sums over tasks, by the parameters of Sigma_w only."""

    trace: np.ndarray
    """of G"""
    pulls: np.ndarray
    """of g g^T"""
    known: np.ndarray
    """of G P^{-1} G; 0 for maximum likelihood"""
    expected: np.ndarray
    average: np.ndarray
    """without the part of h"""
    turn: np.ndarray
    """h, with as many rows as the mean"""


def gradients(a: Float[np.ndarray, "b k p"], e: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "b p"]:
    """Return g of each task."""
    return (e[:, None, :] @ a)[:, 0]


def slope_by_components(
    at: Evaluation, components: Float[np.ndarray, "p c"], v: Float[np.ndarray, " c"]
) -> Float[np.ndarray, " n"]:
    """Return the derivatives by v for Sigma_w = diag(components @ v), and by sigma^2, n = c + 1, without curvature."""
    slope = -np.diagonal(at.gram)
    for block, a, e in at.parts:
        b, k, p = a.shape
        slope = slope + block.weights @ gradients(a, e) ** 2
        if at.restricted:
            spread = (a.reshape(b * k, p) @ at.mean_covariance).reshape(b, k, p)
            slope += block.weights @ (((spread @ a.transpose(0, 2, 1)) @ a) * a).sum(axis=1)
    slope = 0.5 * components.T @ slope
    return np.append(slope, (at.scale_slope - float(slope @ v)) / at.noise)


def by_components(at: Evaluation, components: Float[np.ndarray, "p c"], v: Float[np.ndarray, " c"]) -> Derivatives:
    """Return the derivatives by v for Sigma_w = diag(components @ v), and by sigma^2, n = c + 1."""
    p, c = components.shape
    trace = np.diagonal(at.gram) @ components
    sums = _Sums(trace, np.zeros(c), np.zeros(c), np.zeros((c, c)), np.zeros((c, c)), np.zeros((p, c)))
    for block, a, e in at.parts if c else ():
        # Products of p x p numbers for each task, or of k x k for each component, whichever are fewer.
        one = _of_features if p <= c * a.shape[1] else _of_rows
        sums = _Sums(trace, *(x + y for x, y in zip(sums[1:], one(at, components, block.weights, a, e), strict=True)))
    return _with_noise(at, sums, v, at.prior * at.mean, at.mean_covariance)


def _of_features(
    at: Evaluation, components: np.ndarray, w: np.ndarray, a: np.ndarray, e: np.ndarray
) -> tuple[np.ndarray, ...]:
    """All but the first of the sums over a block, from G."""
    # Features whose weights do not vary have no part in the sums, but through the mean.
    varies = components.any(axis=1)
    used = slice(None) if varies.all() else np.flatnonzero(varies)
    own, of_used = components[used], a[..., used]
    b, u, p = len(a), len(own), a.shape[2]
    g, first = of_used.transpose(0, 2, 1) @ a, gradients(of_used, e)
    pulls, turn = w @ first**2, np.einsum("kc,kcp->pc", w[:, None] * first, g)
    both = first[:, :, None] * first[:, None, :]
    known = np.zeros(u)
    if at.restricted:
        # All of G is symmetric, and the product with it as it stands is faster.
        spread = (g.reshape(b * u, p) @ at.mean_covariance).reshape(b, u, p) @ (g if u == p else g.transpose(0, 2, 1))
        known = w @ np.diagonal(spread, axis1=1, axis2=2)
        both += spread
    inside = g[..., used]
    both *= inside
    expected, average = (own.T @ np.tensordot(w, x, axes=1) @ own for x in (inside**2, both))
    return pulls @ own, known @ own, 0.5 * expected, 0.5 * average, turn @ own


def _of_rows(
    at: Evaluation, components: np.ndarray, w: np.ndarray, a: np.ndarray, e: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The same sums from K = A D A^T, which is k x k."""
    b, k, p = a.shape
    c = components.shape[1]
    kernels = np.stack([(a * one) @ a.transpose(0, 2, 1) for one in components.T])
    pulled = (kernels @ e[..., None])[..., 0]
    weighted, flat = (pulled * w[:, None]).reshape(c, -1), (kernels * w[:, None, None]).reshape(c, -1)
    average = weighted @ pulled.reshape(c, -1).T
    known = np.zeros(c)
    if at.restricted:
        spread = (a.reshape(b * k, p) @ at.mean_covariance).reshape(b, k, p) @ a.transpose(0, 2, 1)
        known = flat @ spread.reshape(-1)
        average += flat @ (kernels @ spread).reshape(c, -1).T
    turn = a.reshape(b * k, p).T @ weighted.T
    pulls = (weighted.reshape(c, b, k) * e).sum(axis=(1, 2))
    return pulls, known, 0.5 * flat @ kernels.reshape(c, -1).T, 0.5 * average, turn


def _with_noise(at: Evaluation, sums: _Sums, v: np.ndarray, prior: np.ndarray, spread: np.ndarray) -> Derivatives:
    """Complete the derivatives by sigma^2; prior: Lambda mu, spread: P^{-1}, both in the axes of ``sums.turn``.

    Summed over all parameters times their values, each sum is one that is known: those of tr(H^{-1} H) and the like.
    """
    n, noise = len(v), at.noise

    def noise_part(whole: float, part: np.ndarray) -> np.ndarray:
        return np.append(part, (whole - float(part @ v)) / noise)

    pulls, trace = noise_part(at.squares, sums.pulls), noise_part(at.rows, sums.trace)
    known = noise_part(float((at.mean_covariance * at.gram).sum()) if at.restricted else 0.0, sums.known)
    turn = np.column_stack([sums.turn, (prior - sums.turn @ v) / noise])
    held = prior @ spread @ turn

    def completed(inside: np.ndarray, whole: np.ndarray) -> np.ndarray:
        # Well above rounding, which is all that is left of it where next to nothing of H is noise.
        matrix = np.empty((n + 1, n + 1))
        matrix[:n, :n] = inside
        matrix[n, :n] = matrix[:n, n] = (whole[:n] - inside @ v) / noise
        matrix[n, n] = max((whole[n] - float(matrix[n, :n] @ v)) / noise, 1e-8 * at.rows / noise**2)
        return matrix

    average = sums.average - 0.5 * sums.turn.T @ spread @ sums.turn
    return Derivatives(
        0.5 * (pulls + known - trace),
        completed(sums.expected, 0.5 * trace),
        completed(average, 0.5 * (pulls + known - held)),
    )


class _Packing(NamedTuple):
    """How an (r, r) symmetric matrix is a vector of n = r (r + 1) / 2 numbers."""

    rows: np.ndarray
    columns: np.ndarray
    flat: np.ndarray
    """(n,) places in the flattened matrix"""
    position: np.ndarray
    """(r, r) places in the vector"""
    factors: np.ndarray
    """(n,) root 2 off the diagonal, so that dot products stay what they are"""
    shares: np.ndarray
    """(r, r) 1 / factors, as a matrix"""


@lru_cache(maxsize=64)
def packing(r: int) -> _Packing:
    """Return how (r, r) symmetric matrices are packed."""
    rows, columns = np.tril_indices(r)
    position = np.empty((r, r), dtype=np.intp)
    position[rows, columns] = position[columns, rows] = np.arange(len(rows))
    factors = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return _Packing(rows, columns, rows * r + columns, position, factors, (1 / factors)[position])


def packed(matrix: Float[np.ndarray, "r r"]) -> Float[np.ndarray, " n"]:
    """Return a symmetric matrix as a vector of n = r (r + 1) / 2 numbers, with the same dot product."""
    places = packing(len(matrix))
    return matrix.take(places.flat) * places.factors


def unpacked(vector: Float[np.ndarray, " n"]) -> Float[np.ndarray, "r r"]:
    """Return the symmetric matrix of ``packed``."""
    places = packing((math.isqrt(8 * len(vector) + 1) - 1) // 2)
    return vector.take(places.position) * places.shares


def by_matrix(
    at: Evaluation, axes: Float[np.ndarray, "p r"], back: Float[np.ndarray, "r p"], inner: Float[np.ndarray, "r r"]
) -> Derivatives:
    """Return the derivatives by S, packed, for Sigma_w = axes S axes^T at S = inner, and by sigma^2.

    back: inverse of the axes on all that the features reach, A = A axes back.
    """
    p, r = axes.shape
    places = packing(r)
    n = len(places.flat)
    spread = back @ at.mean_covariance @ back.T
    pulls, known, turn = np.zeros((r, r)), np.zeros((r, r)), np.zeros((n, r))
    expected, average = np.zeros((n, n)), np.zeros((n, n))
    stride = -(-sum(len(part.a) for part in at.parts) // max(_FEWEST_TASKS, int(_CURVATURE_WORK / n**2)))
    for block, a, e in at.parts:
        b, k, _ = a.shape
        w = block.weights
        turned = (a.reshape(b * k, p) @ axes).reshape(b, k, r)
        g, first = turned.transpose(0, 2, 1) @ turned, gradients(turned, e)
        pulls += (first * w[:, None]).T @ first
        both = first[:, :, None] * first[:, None, :]
        if at.restricted:
            each = (g.reshape(b * r, r) @ spread).reshape(b, r, r) @ g
            known += np.tensordot(w, each, axes=1)
            both += each
        flat = g.reshape(b, r * r)[:, places.flat]
        turn += (flat * w[:, None]).T @ first
        some = w[::stride] * (w.sum() / max(w[::stride].sum(), 1e-300))
        flat = flat[::stride]
        weighted = (flat * some[:, None]).T
        expected += weighted @ flat
        average += weighted @ both[::stride].reshape(-1, r * r)[:, places.flat]
    sums = _Sums(
        packed(axes.T @ at.gram @ axes),
        packed(pulls),
        packed(known),
        _paired(expected, places),
        _paired(0.5 * (average + average.T), places),
        # h by the unit matrix of rows s, t: G_as g_t + G_at g_s.
        0.5
        * places.factors
        * (
            turn[places.position[:, places.rows], places.columns]
            + turn[places.position[:, places.columns], places.rows]
        ),
    )
    return _with_noise(at, sums, packed(inner), axes.T @ (at.prior * at.mean), spread)


def _paired(products: np.ndarray, places: _Packing) -> np.ndarray:
    """Half of tr(D G D' B) for all pairs of packed unit matrices, from the products of packed G and B."""
    r = len(places.position)
    first, second = _pairs(r) if r <= _KEPT else _pairs.__wrapped__(r)
    total = products.take(first)
    total += products.take(second)
    total *= 0.25 * places.factors[:, None] * places.factors
    return total


@lru_cache(maxsize=16)
def _pairs(r: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the flattened products of packed G and B have G_ik B_jl and G_il B_jk for the pairs ij, kl, each (n, n)."""
    rows, columns, _, position, _, _ = packing(r)
    n = len(rows)
    first = position[rows[:, None], rows] * n + position[columns[:, None], columns]
    second = position[rows[:, None], columns] * n + position[columns[:, None], rows]
    return first, second
