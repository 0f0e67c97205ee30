"""The exact mean density of the eigenvalues of a real Wishart matrix, as a quadrature.

With q = min(p, n), a = |n - p| and Laguerre functions
phi_k(x) = sqrt(k! / (k + a)!) x^(a/2) e^(-x/2) L_k^a(x), the nonzero eigenvalues x of X^T X, X (n, p) standard normal,
have the mean density, which integrates to q,

    rho(x) = sum_(k < q-1) phi_k(x)^2 - (1/4) sqrt((q-1)(q-1+a)) g_(q-1)(x) E(x),        g_k(x) = x^(-1/2) phi_k(x),

where E(x) = int sgn(x - t) g_(q-2)(t) dt for even q; for odd q, E is int sgn(x - t) (g_(q-2) - r g_(q-1))(t) dt with
r = int g_(q-2) / int g_(q-1), and g_(q-1)(x) / int g_(q-1) is added. Source: Adler, Forrester, Nagao and van Moerbeke,
"Classical skew orthogonal polynomials and random matrices", J. Stat. Phys. 99 (2000).
"""

from __future__ import annotations

import math

import numpy as np

_PANELS, _ORDER, _KEPT = 100, 8, 6
# Steps of the recurrence in which no value can leave the range of floats.
_STEPS = 16
# P(largest singular value > sqrt(n) + sqrt(p) + t) <= exp(-t^2 / 2), and so for the smallest.
_TAIL = 7.0


def nonzero(p: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights with sum_j weights_j f(nodes_j) = E sum f(s) / p over the nonzero eigenvalues s of S."""
    q, a = min(p, n), abs(n - p)
    # In u = sqrt(x) all integrands are smooth down to 0: x^(-1/2) dx = 2 du.
    low, high = max(0.0, abs(math.sqrt(n) - math.sqrt(p)) - _TAIL), math.sqrt(n) + math.sqrt(p) + _TAIL
    finer = math.ceil(q / _PANELS)  # phi_k changes its sign k times
    panels = finer * _PANELS
    width = (high - low) / panels
    points, weights, within = _panel()
    u = low + width * (np.arange(panels)[:, None] + (points + 1) / 2)
    du = np.broadcast_to(width / 2 * weights, u.shape)
    kernel, before, last = _laguerre(u**2, q, a)

    def against_sign(f: np.ndarray) -> tuple[np.ndarray, float]:
        """int sgn(x - t) t^(-1/2) f(t) dt at all nodes x, and int t^(-1/2) f(t) dt."""
        parts = 2 * (f * du).sum(axis=1)
        below = np.cumsum(parts) - parts
        return 2 * (below[:, None] + width * f @ within.T) - parts.sum(), float(parts.sum())

    edge = math.sqrt((q - 1) * (q - 1 + a))
    if q % 2 == 0:
        correction = -edge / 2 * last * against_sign(before)[0]
    else:
        sign_before, total_before = against_sign(before)
        sign_last, total_last = against_sign(last)
        correction = 2 * last / total_last - edge / 2 * last * (sign_before - total_before / total_last * sign_last)
    density = (2 * u * kernel + correction) * du / p
    nodes, measure = (u**2 / n).reshape(_PANELS, -1), np.maximum(density, 0.0).reshape(_PANELS, -1)
    if finer == 1:
        return nodes.ravel(), measure.ravel()
    # Near 0 the points stay as they are: 1 / s is no polynomial there.
    points, weights = _gauss(nodes[_KEPT:], measure[_KEPT:])
    return np.append(nodes[:_KEPT], points), np.append(measure[:_KEPT], weights)


def _gauss(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points and weights (panels, order) of discrete measures (panels, many), by Stieltjes's recurrence."""
    low, high = nodes[:, :1], nodes[:, -1:]
    x = (2 * nodes - low - high) / (high - low)
    # A floor, so that a panel far outside the spectrum has points too.
    w = weights + 1e-25 * weights.max()
    before, last, norm = np.zeros_like(x), np.ones_like(x), w.sum(axis=1)
    total, jacobi = norm, np.zeros((len(x), _ORDER, _ORDER))
    for k in range(_ORDER):
        alpha = (w * x * last**2).sum(axis=1) / norm
        jacobi[:, k, k] = alpha
        beta = jacobi[:, k, k - 1] ** 2 if k else np.zeros(len(x))
        before, last = last, (x - alpha[:, None]) * last - beta[:, None] * before
        following = (w * last**2).sum(axis=1)
        if k + 1 < _ORDER:
            jacobi[:, k + 1, k] = np.sqrt(following / norm)
        norm = following
    points, vectors = np.linalg.eigh(jacobi)
    return (low + high + (high - low) * points) / 2, total[:, None] * vectors[:, 0] ** 2


def _laguerre(x: np.ndarray, q: int, a: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of phi_k^2 over k < q - 1, phi_(q-2) and phi_(q-1); phi_(-1) = 0."""
    if a < 1000:
        log_square = a * np.log(x) - x - math.lgamma(a + 1)
    else:  # Stirling's series, as a log a would cancel
        shift = x / a - 1
        log_square = a * (np.log1p(shift) - shift) - 0.5 * math.log(2 * math.pi * a) - 1 / (12 * a)
    # Held as mantissas and a logarithm: far from the others phi_0 is smaller than the least float.
    before, last, log = np.zeros_like(x), np.ones_like(x), 0.5 * log_square
    kernel, scale = np.zeros_like(x), np.exp(log)
    for k in range(q - 1):
        kernel += (scale * last) ** 2
        following = (2 * k + 1 + a - x) * last - math.sqrt(k * (k + a)) * before
        before, last = last, following / math.sqrt((k + 1) * (k + 1 + a))
        if k % _STEPS == 0:
            size = np.maximum(np.abs(before), np.abs(last))
            before, last, log = before / size, last / size, log + np.log(size)
            scale = np.exp(log)
    return kernel, scale * before, scale * last


def _panel() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss points and weights on (-1, 1), and the matrix that integrates from -1 to each point."""
    legendre = np.polynomial.legendre
    points, weights = legendre.leggauss(_ORDER)
    to_point = np.stack([legendre.legval(points, legendre.legint(one, lbnd=-1)) for one in np.eye(_ORDER)], axis=1)
    return points, weights, to_point @ np.linalg.inv(legendre.legvander(points, _ORDER - 1))
