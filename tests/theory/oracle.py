"""An independent Monte Carlo oracle: the definitions, with no formula of the package.

Given the inputs X, the mean over task weights and noise is taken in closed form (linear algebra), which removes most of
the scatter; the mean over X is sampled. Only isotropic inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    mean: np.ndarray
    error: np.ndarray  # standard error of the mean

    def z(self, value):
        return (np.asarray(value) - self.mean) / self.error


def estimate(samples: np.ndarray) -> Estimate:
    return Estimate(samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def distance_samples(p, design, rates, *, runs, seed, steps=1, offset=None, task_root=None, chunk=200):
    """Samples (runs, rates, 3) of the offset, task and noise parts of E|omega* - w_0|^2 given X.

    offset: omega_0 - w_0 of unit length (p,); task_root: R with Sigma_w = R R^T of trace 1; both default to isotropic.
    """
    generator = np.random.default_rng(seed)
    m, n_t, n_v, n = design.n_tasks, design.n_support, design.n_query, design.n_query_rows
    root = np.eye(p) / np.sqrt(p) if task_root is None else task_root
    direction = np.eye(p)[0] if offset is None else offset
    parts = []
    for first in range(0, runs, chunk):
        r = min(chunk, runs - first)
        xt = generator.standard_normal((r, m, n_t, p))
        xv = generator.standard_normal((r, m, n_v, p))
        s = xt.swapaxes(-1, -2) @ xt / n_t
        out = np.empty((r, len(rates), 3))
        for k, a in enumerate(rates):
            one = np.eye(p) - a * s
            power, growth = np.broadcast_to(np.eye(p), s.shape), np.zeros_like(s)
            for _ in range(steps):  # theta = omega - a X_t^T (X_t omega - y_t)/n_t, step by step
                growth = growth + power
                power = power @ one
            b = xv @ power  # what multiplies omega - w in the query residual
            j = (a / n_t) * (xv @ growth @ xt.swapaxes(-1, -2))  # what multiplies the support noise
            rows = b.reshape(r, n, p)
            if n <= p:
                gram = rows @ rows.swapaxes(-1, -2)
                inverse = np.linalg.solve(gram, rows).swapaxes(-1, -2)  # minimum norm
                null = direction - (inverse @ (rows @ direction)[..., None])[..., 0]
            else:
                inverse = np.linalg.solve(rows.swapaxes(-1, -2) @ rows, rows.swapaxes(-1, -2))
                null = np.zeros((r, p))
            own = inverse.reshape(r, p, m, n_v).transpose(0, 2, 1, 3)  # (r, m, p, n_v), columns of each task
            out[:, k, 0] = (null**2).sum(axis=-1)
            out[:, k, 1] = ((own @ (b @ root)) ** 2).sum(axis=(1, 2, 3))
            out[:, k, 2] = (own**2).sum(axis=(1, 2, 3)) + ((own @ j) ** 2).sum(axis=(1, 2, 3))
        parts.append(out)
    return np.concatenate(parts)


def meta_train(tasks, rate, steps, init):
    """The meta-learned weights of one TaskBatch by their definition: least squares, nearest to ``init``."""
    rows, targets = [], []
    for xt, yt, xv, yv in zip(*tasks[:4], strict=True):
        s, moment = xt.T @ xt / len(xt), xt.T @ yt / len(xt)
        matrix, shift = np.eye(xt.shape[1]), np.zeros(xt.shape[1])
        for _ in range(steps):
            matrix, shift = matrix - rate * s @ matrix, shift - rate * (s @ shift - moment)
        rows.append(xv @ matrix)
        targets.append(yv - xv @ shift)
    b, y = np.concatenate(rows), np.concatenate(targets)
    return init + np.linalg.lstsq(b, y - b @ init, rcond=None)[0]
