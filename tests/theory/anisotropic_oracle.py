"""Monte Carlo for correlated inputs: inputs are drawn, weights and noise are averaged in closed form."""

from __future__ import annotations

import math

import numpy as np

from undertow import Design, MixedLinearRegression
from undertow.theory import anisotropic


def covariance(p: int, seed: int, spread: float = 1.0) -> np.ndarray:
    """A dense covariance with log-normal eigenvalues of mean 1."""
    rng = np.random.default_rng(seed)
    values = np.exp(spread * rng.normal(size=p))
    vectors = np.linalg.qr(rng.normal(size=(p, p)))[0]
    return (vectors * (values / values.mean())) @ vectors.T


def dense(matrix: np.ndarray | None, p: int, default: float = 1.0) -> np.ndarray:
    if matrix is None:
        return default * np.eye(p)
    return np.diag(matrix) if matrix.ndim == 1 else matrix


def metrics(problem: MixedLinearRegression, design: Design) -> np.ndarray:
    """(3, p, p) matrices C_j, written out."""
    sx = dense(problem.input_covariance, problem.n_features)
    n_r = design.n_adapt
    return np.stack([sx, sx @ sx, (1 + 1 / n_r) * sx @ sx @ sx + np.trace(sx @ sx) / n_r * sx])


def slope_at_zero(problem, design, weights=(1, 0, 0), method="equivalent") -> float:
    """Slope in the train rate at 0 of E|omega* - w_0|^2_H, H = sum of weights times C_j, by central differences."""
    rates = np.array([-1e-4, 1e-4])
    low, high = anisotropic.excess_coefficients(problem, design, rates, np.zeros(problem.n_features), method) @ weights
    return float(high - low) / 2e-4


def sample(problem, design, rates, offset, runs, seed) -> np.ndarray:
    """(runs, k, 3) values of tr[C_j E((omega* - w_0)(omega* - w_0)' | inputs)]: only the inputs are drawn."""
    p, m, n = problem.n_features, design.n_tasks, design.n_query_rows
    n_t, n_v = design.n_support, design.n_query
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(dense(problem.input_covariance, p)).T
    sw = dense(problem.task_covariance, p, problem.task_std**2 / p)
    c = metrics(problem, design)
    out = np.empty((runs, len(rates), 3))
    for first in range(0, runs, 100):
        b = min(100, runs - first)
        xt = rng.normal(size=(b, m, n_t, p)) @ root
        xv = rng.normal(size=(b, m, n_v, p)) @ root
        k = xv @ np.swapaxes(xt, -1, -2) / n_t
        u = k @ xt
        for i, rate in enumerate(rates):
            rows = xv - rate * u
            flat = rows.reshape(b, n, p)
            back = np.swapaxes(flat, -1, -2)
            pinv = back @ np.linalg.inv(flat @ back) if n < p else np.linalg.solve(back @ flat, back)
            start = offset - (pinv @ (flat @ offset)[..., None])[..., 0]
            own = np.moveaxis(pinv.reshape(b, p, m, n_v), 1, 2)  # (b, m, p, n_v)
            labels = problem.noise_std**2 * (np.eye(n_v) + rate**2 * k @ np.swapaxes(k, -1, -2))
            labels = labels + rows @ sw @ np.swapaxes(rows, -1, -2)
            for j in range(3):
                spread = ((c[j] @ own) * (own @ labels)).sum(axis=(1, 2, 3))
                out[first : first + b, i, j] = spread + ((start @ c[j]) * start).sum(axis=1)
    return out


def standard_error(values: np.ndarray) -> np.ndarray:
    return values.std(axis=0) / math.sqrt(len(values))
