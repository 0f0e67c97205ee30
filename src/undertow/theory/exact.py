"""psi(a), the exact noise coefficient of one task when N < p - 1, evaluated to a stated relative error.

    psi(a) = E tr[ (X_v A^2 X_v^T)^-1 (I + (a^2/n_t) X_v S X_v^T) ],   A = I - a S.

It is a mean over two small independent Wishart matrices, so that p and n_t cost nothing. Several inner steps: drawn.py.
All draws are fixed, are the same for every rate, and are made once per (n_t, n_v, p); the
curve is then a trigonometric interpolant on the circle of rates. See docs/explanation/theory.md, "The
exact noise coefficient".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special
from scipy.stats import qmc

from undertow.theory import wishart
from undertow.theory._rates import NaturalCircle, angles, interpolate

# The error of psi is estimated by independent repetitions of the whole set of draws.
_REPEATS = 8
_FEWEST, _MOST = 1 << 9, 1 << 16  # draws in each repetition
_ENTRIES = 1 << 22  # of all matrices together; large ones scatter little, and start with fewer draws
_TARGET = 3.2e-4
# Interpolation stops at the first number of nodes that predicts the values halfway between them this well.
_INTERPOLATION = 1e-4
_MAX_NODES = 1 << 9
# Work, in matrix entries eliminated: about half a second, and about ten.
QUICK, THOROUGH = 6e7, 2e9
# Up to this many columns, low-discrepancy points; beyond it they gain nothing over plain draws.
_QMC_COLUMNS = 6


Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(c, s) of the nodes -> psi at each node in each repetition, (nodes, repetitions)"""


class Psi:
    """psi as a function of the rate, at fixed sizes. Call it with rates (k,), plus or minus infinity included.

    relative_error: stated relative error of the worst rate, the larger of three standard errors of the draws (from
        independent repetitions) and the error of interpolation.
    """

    def __init__(self, circle: NaturalCircle, values: np.ndarray, miss: float) -> None:
        self._circle, self._values = circle, values.mean(axis=1)
        repeats = values.shape[1]
        spread = values.std(axis=1, ddof=1) / np.sqrt(repeats) if repeats > 1 else np.zeros(len(values))
        self.standard_error = float((spread / self._values).max())
        self.miss = miss
        self.relative_error = max(3 * self.standard_error, miss)

    @property
    def count(self) -> int:
        """Number of nodes."""
        return self._values.size

    @classmethod
    def interpolated(cls, circle: NaturalCircle, evaluate: Values) -> Psi:
        """Double the number of nodes until the values halfway between them are predicted."""
        result = cls(circle, evaluate(*circle.nodes(16)), np.inf)
        while result.miss > max(_INTERPOLATION, 0.3 * result.standard_error) and result.count < _MAX_NODES:
            finer = evaluate(*circle.nodes(2 * result.count))
            phase = np.exp(2j * angles(len(finer)))
            miss = float(np.abs(interpolate(result._values, phase) / finer.mean(axis=1) - 1).max())
            result = cls(circle, finer, miss)
        return result

    def __call__(self, rates: np.ndarray) -> np.ndarray:
        """Return psi at each rate, (k,)."""
        return interpolate(self._values, self._circle.phase(rates))


@lru_cache(maxsize=256)
def psi(n_support: int, n_query: int, p: int, work: float = THOROUGH) -> Psi:
    """Return psi for sizes with n_query <= p - 2. The first call draws (and is kept), later ones are free.

    ``work`` bounds the draws. Where the target of 1e-3 is reached earlier, QUICK and THOROUGH give the same curve. The
    target is not reached when p - n_query is below about 4 min(n_query, n_support): the variance at positive rates
    grows there, and is infinite for p - n_query < 4 (but for one query or support row, where rules do the integral).
    """
    circle = NaturalCircle(p, n_support, clustered=abs(n_support - n_query) <= 2)
    q = min(n_support, n_query)
    if q == 1:
        return _by_quadrature(circle, n_support, n_query, p)
    return _drawn(circle, lambda draws: _wishart_sampler(n_support, n_query, p, draws), q**2, work)


def _drawn(circle: NaturalCircle, sampler: Callable[[int], Values], cost: float, work: float) -> Psi:
    """Find the number of nodes with few draws, then the number of draws that the target asks for."""
    draws = _FEWEST
    while draws > 32 and draws * cost * _REPEATS > _ENTRIES:
        draws //= 2
    result = Psi.interpolated(circle, sampler(draws))
    afford = 2 ** np.floor(np.log2(work / (_REPEATS * result.count * cost)))
    most = int(np.clip(afford, draws, _MOST))
    while result.standard_error > _TARGET and draws < most:
        factor = 2 ** np.ceil(2 * np.log2(result.standard_error / _TARGET))
        draws = int(min(most, draws * max(2, factor)))
        result = Psi(circle, sampler(draws)(*circle.nodes(result.count)), result.miss)
    return result


def _by_quadrature(circle: NaturalCircle, n_support: int, n_query: int, p: int) -> Psi:
    """q = 1: a double integral over two chi-square variables, by Gauss rules of two sizes."""

    def evaluate(order: int) -> Values:
        u, wu = _chi2_rule(max(n_support, n_query), order)
        z, wz = _chi2_rule(p - n_query, order)
        u = u / n_support
        rest, c0 = n_query - 1, 1 / (p - n_query - 1)

        def at(c: np.ndarray, s: np.ndarray) -> np.ndarray:
            out = np.empty((c.size, 1))
            for j, (cj, sj) in enumerate(zip(c, s, strict=True)):
                denominator = (cj - sj * u[:, None]) ** 2 + sj**2 / n_support * u[:, None] * z
                out[j] = rest * c0 + wu @ (((cj**2 * c0 + sj**2 / n_support * u)[:, None] / denominator) @ wz)
            return out

        return at

    order = 96
    coarse, fine = Psi.interpolated(circle, evaluate(order)), Psi.interpolated(circle, evaluate(2 * order))
    c, s = circle.nodes(256)
    fine.relative_error = max(fine.miss, float(np.abs(coarse(s / c) / fine(s / c) - 1).max()))
    return fine


def _chi2_rule(degrees: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss rule for a chi-square variable (generalised Gauss-Laguerre by its Jacobi matrix; no overflow)."""
    alpha = degrees / 2 - 1
    i = np.arange(order)
    jacobi = np.diag(2 * i + alpha + 1) + np.diag(np.sqrt(i[1:] * (i[1:] + alpha)), -1)
    nodes, vectors = np.linalg.eigh(jacobi)
    return 2 * nodes, vectors[0] ** 2


def _wishart_sampler(n_support: int, n_query: int, p: int, n_draws: int, stream: int = 20210112) -> Values:
    """psi = (n_v - q) c0 + E tr M^-1 (c0 I + (a^2/n_t) S),  M = (I - a S)^2 + (a^2/n_t) C Z C^T,  S = C C^T,

    with n_t S ~ W_q(max(n_v, n_t)), Z ~ W_q(p - n_v) independent, q = min(n_v, n_t) and c0 = 1/(p - n_v - 1).
    """
    q, dof, rest = min(n_support, n_query), max(n_support, n_query), p - n_query
    c0 = 1 / (rest - 1)
    d, e, z = _wishart_roots(q, dof, rest, n_draws, stream)
    root = wishart.bidiagonal(d, e) / np.sqrt(n_support)
    s_matrix = root @ root.swapaxes(1, 2)
    lower = root @ z
    t_matrix = s_matrix @ s_matrix + lower @ lower.swapaxes(1, 2) / n_support
    weights = _calibrated(s_matrix, root, z, q, dof, rest, n_support)
    s_matrix, t_matrix = _stack_last(s_matrix), _stack_last(t_matrix)
    identity = np.eye(q)[:, :, None]

    def at(c: np.ndarray, s: np.ndarray) -> np.ndarray:
        out = np.empty((c.size, _REPEATS))
        for j, (cj, sj) in enumerate(zip(c, s, strict=True)):
            m = cj**2 * identity - (2 * cj * sj) * s_matrix + sj**2 * t_matrix
            top = cj**2 * c0 * identity + (sj**2 / n_support) * s_matrix
            each = _trace_ratio(m, top).reshape(_REPEATS, n_draws)
            out[j] = (n_query - q) * c0 + (weights * each).sum(axis=1)
        return out

    return at


def _trace_ratio(m: np.ndarray, top: np.ndarray) -> np.ndarray:
    """tr m^-1 top for symmetric matrices with the stack as last axis, (q, q, draws).

    It is the derivative of log det (m + t top) at t = 0: elimination of m that carries the tangent along, all draws at
    once. Small matrices are 10 times faster this way than one by one. Destroys its arguments.
    """
    q, total = m.shape[0], np.zeros(m.shape[-1])
    for k in range(q):
        ratio = top[k, k] / m[k, k]
        total += ratio
        if k + 1 == q:
            break
        column, tangent = m[k + 1 :, k], top[k + 1 :, k]
        scaled = column / m[k, k]
        scaled_tangent = tangent / m[k, k] - scaled * ratio
        for i in range(k + 1, q):
            j = slice(k + 1, i + 1)  # the lower triangle is enough
            row = slice(0, i - k)
            m[i, j] -= scaled[i - k - 1] * column[row]
            top[i, j] -= scaled_tangent[i - k - 1] * column[row] + scaled[i - k - 1] * tangent[row]
    return total


def _wishart_roots(q: int, dof: int, rest: int, n_draws: int, stream: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a bidiagonal root (d, e) of W_q(dof) up to rotation, and a lower root of W_q(rest), all repeats stacked."""
    below, on = wishart.bidiagonal_degrees(q, dof)
    columns = min(q, rest)
    rows, cols = np.tril_indices(q, -1, columns)
    z_on = np.arange(rest, rest - columns, -1)
    degrees = np.concatenate([on, below, z_on])
    total = _REPEATS * n_draws
    generator = np.random.default_rng([stream, q, dof, rest])
    if q <= _QMC_COLUMNS:
        points = qmc.Sobol(degrees.size + rows.size, scramble=False).random(n_draws)
        shifts = generator.random((_REPEATS, 1, points.shape[1]))
        u = ((points + shifts) % 1.0).reshape(total, -1).clip(1e-16, 1 - 1e-16)
        chi2 = 2 * special.gammaincinv(degrees / 2, u[:, : degrees.size])
        normal = special.ndtri(u[:, degrees.size :])
    else:
        chi2 = generator.chisquare(degrees, (total, degrees.size))
        normal = generator.standard_normal((total, rows.size))
    chi = np.sqrt(chi2)
    z = np.zeros((total, q, columns))
    index = np.arange(columns)
    z[:, index, index] = chi[:, 2 * q - 1 :]
    z[:, rows, cols] = normal
    return chi[:, :q], chi[:, q : 2 * q - 1], z


def _calibrated(
    s: np.ndarray, root: np.ndarray, z: np.ndarray, q: int, dof: int, rest: int, n_support: int
) -> np.ndarray:
    """Weights of the draws with which traces of known mean come out right: exact psi near rate 0 and at infinity."""
    zz = z @ z.swapaxes(1, 2)
    n_s = s * n_support
    controls = [
        _trace(n_s) / (q * dof),
        (n_s * n_s).sum(axis=(1, 2)) / (q * dof * (q + dof + 1)),
        _trace(n_s) ** 2 / (q * dof * (q * dof + 2)),
        _trace(zz) / (q * rest),
        (root @ zz * root).sum(axis=(1, 2)) * n_support / (q * dof * rest),
    ]
    if (total := dof + rest - q - 1) > 4:
        # n_t C^T C + Z is W_q(dof + rest); the trace of its inverse is psi at infinity.
        inverse = np.linalg.inv(root.swapaxes(1, 2) @ root * n_support + zz)
        controls.append(_trace(inverse) * (total / q))
    return _control_variates(np.stack(controls, axis=1))


def _control_variates(values: np.ndarray) -> np.ndarray:
    """Return weights (repeats, draws) that sum to 1 and give each control (draws, controls) the mean 1.

    This is the regression estimator. The weights do not depend on the rate, so the curve stays smooth.
    """
    values = values.reshape(_REPEATS, -1, values.shape[1]) - 1
    n = values.shape[1]
    weights = np.empty((_REPEATS, n))
    for r, x in enumerate(values):
        centred = x - x.mean(axis=0)
        weights[r] = (1 - centred @ np.linalg.solve(centred.T @ centred / n, x.mean(axis=0))) / n
    return weights


def _stack_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))


def _trace(x: np.ndarray) -> np.ndarray:
    return np.trace(x, axis1=1, axis2=2)
