"""Brute force in an explicit feature space: inner steps written out, one task after the other, and least squares."""

import numpy as np


def task(tasks, i):
    """The real rows of one task: support_x, support_y, query_x, query_y."""
    rows = []
    for kind in ("support", "query"):
        x, y, mask = (getattr(tasks, f"{kind}_{part}") for part in ("x", "y", "mask"))
        keep = slice(None) if mask is None else mask[i]
        rows += [x[i][keep], y[i][keep]]
    return rows


def steps_on(delta, phi, residual, rate, steps):
    """Gradient steps on half the mean squared error of f0 + phi.delta; residual = y - f0 on the same rows."""
    for _ in range(steps):
        gradient = np.zeros_like(delta)
        for row, target in zip(phi, residual, strict=True):
            gradient = gradient + row * (row @ delta - target) / len(phi)
        delta = delta - rate * gradient
    return delta


def outer_rows(features, f0, tasks, rate, steps):
    """B and gamma with rows of the outer problem, from inner steps; at the rate infinity what the last power leaves."""
    matrices, targets = [], []
    for i in range(tasks.n_tasks):
        x_t, y_t, x_v, y_v = task(tasks, i)
        phi_t, phi_v, rest_t, rest_v = features(x_t), features(x_v), y_t - f0(x_t), y_v - f0(x_v)
        p = phi_t.shape[1]
        if np.isinf(rate):
            second = phi_t.T @ phi_t / len(phi_t)
            matrices.append(phi_v @ np.linalg.matrix_power(second, steps))
            targets.append(phi_v @ np.linalg.matrix_power(second, steps - 1) @ phi_t.T @ rest_t / len(phi_t))
            continue
        offset = steps_on(np.zeros(p), phi_t, rest_t, rate, steps)
        columns = [steps_on(e, phi_t, rest_t, rate, steps) - offset for e in np.eye(p)]
        matrices.append(phi_v @ np.stack(columns, axis=1))
        targets.append(rest_v - phi_v @ offset)
    return np.concatenate(matrices), np.concatenate(targets)


def fit(features, f0, tasks, rate, steps=1, ridge=0.0, rcond=None):
    """Parameters minus starting parameters, and the meta-loss. ridge is relative to tr(B B^T) / N."""
    matrix, target = outer_rows(features, f0, tasks, rate, steps)
    p = matrix.shape[1]
    if ridge:
        weight = np.sqrt(ridge * (matrix**2).sum() / len(matrix))
        full = np.concatenate([matrix, weight * np.eye(p)]), np.concatenate([target, np.zeros(p)])
    else:
        full = matrix, target
    delta = np.linalg.lstsq(*full, rcond=rcond)[0]
    return delta, 0.5 * np.mean((matrix @ delta - target) ** 2)


def adapted(features, f0, delta, tasks, rate, steps=1):
    """Predictions on the query rows of each new task after steps on its support rows."""
    out = []
    for i in range(tasks.n_tasks):
        x_r, y_r, x_q, _ = task(tasks, i)
        theta = steps_on(delta, features(x_r), y_r - f0(x_r), rate, steps)
        out.append(f0(x_q) + features(x_q) @ theta)
    return out


def ragged(tasks, seed=0):
    """Make a batch ragged: masks with random lengths in random places, and garbage where a row is not real."""
    rng = np.random.default_rng(seed)
    parts, masks = [], []
    for x, y in (tasks[:2], tasks[2:4]):
        m, n = y.shape
        mask = np.arange(n) < rng.integers(max(1, n // 2), n + 1, m)[:, None]
        mask = rng.permuted(mask, axis=1)
        parts += [np.where(mask[..., None], x, np.nan), np.where(mask, y, 1e30)]
        masks.append(mask)
    return type(tasks)(*parts, *masks)
