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

_PANELS, _ORDER = 100, 8
# P(largest singular value > sqrt(n) + sqrt(p) + t) <= exp(-t^2 / 2), and so for the smallest.
_TAIL = 7.0


def nonzero(p: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights with sum_j weights_j f(nodes_j) = E sum f(s) / p over the nonzero eigenvalues s of S."""
    q, a = min(p, n), abs(n - p)
    # In u = sqrt(x) all integrands are smooth down to 0: x^(-1/2) dx = 2 du.
    low, high = max(0.0, abs(math.sqrt(n) - math.sqrt(p)) - _TAIL), math.sqrt(n) + math.sqrt(p) + _TAIL
    width = (high - low) / _PANELS
    points, weights, within = _panel()
    u = low + width * (np.arange(_PANELS)[:, None] + (points + 1) / 2)
    du = np.broadcast_to(width / 2 * weights, u.shape)
    kernel, before, last = _laguerre(u**2, q, a)

    def against_sign(f: np.ndarray) -> tuple[np.ndarray, float]:
        """int sgn(x - t) t^(-1/2) f(t) dt at all nodes x, and int t^(-1/2) f(t) dt."""
        panels = 2 * (f * du).sum(axis=1)
        below = np.cumsum(panels) - panels
        return 2 * (below[:, None] + width * f @ within.T) - panels.sum(), float(panels.sum())

    edge = math.sqrt((q - 1) * (q - 1 + a))
    if q % 2 == 0:
        correction = -edge / 2 * last * against_sign(before)[0]
    else:
        sign_before, total_before = against_sign(before)
        sign_last, total_last = against_sign(last)
        correction = 2 * last / total_last - edge / 2 * last * (sign_before - total_before / total_last * sign_last)
    density = (2 * u * kernel + correction) * du / p
    return (u**2 / n).ravel(), np.maximum(density, 0.0).ravel()


def _laguerre(x: np.ndarray, q: int, a: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of phi_k^2 over k < q - 1, phi_(q-2) and phi_(q-1); phi_(-1) = 0."""
    if a < 1000:
        log_square = a * np.log(x) - x - math.lgamma(a + 1)
    else:  # Stirling's series, as a log a would cancel
        shift = x / a - 1
        log_square = a * (np.log1p(shift) - shift) - 0.5 * math.log(2 * math.pi * a) - 1 / (12 * a)
    before, last = np.zeros_like(x), np.exp(0.5 * log_square)
    kernel = np.zeros_like(x)
    for k in range(q - 1):
        kernel += last**2
        following = (2 * k + 1 + a - x) * last - math.sqrt(k * (k + a)) * before
        before, last = last, following / math.sqrt((k + 1) * (k + 1 + a))
    return kernel, before, last


def _panel() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss points and weights on (-1, 1), and the matrix that integrates from -1 to each point."""
    legendre = np.polynomial.legendre
    points, weights = legendre.leggauss(_ORDER)
    to_point = np.stack([legendre.legval(points, legendre.legint(one, lbnd=-1)) for one in np.eye(_ORDER)], axis=1)
    return points, weights, to_point @ np.linalg.inv(legendre.legvander(points, _ORDER - 1))
