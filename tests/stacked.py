"""Brute force: the outer problem written out task by task, and solved by least squares on the stacked rows."""

import numpy as np


def task(tasks, i):
    """The real rows of one task: support_x, support_y, query_x, query_y."""
    rows = []
    for kind in ("support", "query"):
        x, y, mask = (getattr(tasks, f"{kind}_{part}") for part in ("x", "y", "mask"))
        keep = slice(None) if mask is None else mask[i]
        rows += [x[i][keep], y[i][keep]]
    return rows


def outer_rows(tasks, rate, steps):
    """B and gamma from the definition: run the inner steps on a basis of starting points."""
    matrices, targets = [], []
    for i in range(tasks.n_tasks):
        x_t, y_t, x_v, y_v = task(tasks, i)
        s, b = x_t.T @ x_t / len(x_t), x_t.T @ y_t / len(x_t)
        if np.isinf(rate):
            power = np.linalg.matrix_power(s, steps)
            matrices.append(x_v @ power)
            targets.append(x_v @ np.linalg.matrix_power(s, steps - 1) @ b)
            continue
        matrix, offset = np.eye(tasks.n_features), np.zeros(tasks.n_features)
        for _ in range(steps):
            offset = offset - rate * (s @ offset - b)
            matrix = matrix - rate * s @ matrix
        matrices.append(x_v @ matrix)
        targets.append(y_v - x_v @ offset)
    return np.concatenate(matrices), np.concatenate(targets)


def solve(tasks, rate, steps=1, init=None, ridge=0.0, rcond=None):
    """omega by lstsq on stacked rows (augmented with ridge rows). rcond: share from which a singular value counts."""
    matrix, target = outer_rows(tasks, rate, steps)
    p = tasks.n_features
    init = np.zeros(p) if init is None else init
    rest = target - matrix @ init
    if ridge:
        weight = np.sqrt(ridge * (matrix**2).sum() / p)
        return (
            init
            + np.linalg.lstsq(
                np.concatenate([matrix, weight * np.eye(p)]), np.concatenate([rest, np.zeros(p)]), rcond=None
            )[0]
        )
    return init + np.linalg.lstsq(matrix, rest, rcond=rcond)[0]


def meta_loss(tasks, weights, rate, steps=1):
    matrix, target = outer_rows(tasks, rate, steps)
    return 0.5 * np.mean((matrix @ weights - target) ** 2)


def relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def ragged(tasks, seed=0):
    """Make a batch ragged: masks with random lengths, and garbage where a row is not real."""
    rng = np.random.default_rng(seed)
    m, n_t = tasks.support_y.shape
    n_v = tasks.query_y.shape[1]
    support = np.arange(n_t) < rng.integers(max(2, n_t // 2), n_t + 1, m)[:, None]
    query = np.arange(n_v) < rng.integers(1, n_v + 1, m)[:, None]
    parts = []
    for x, y, mask in [(tasks.support_x, tasks.support_y, support), (tasks.query_x, tasks.query_y, query)]:
        parts += [np.where(mask[..., None], x, np.nan), np.where(mask, y, 1e30)]
    return tasks._replace(
        support_x=parts[0],
        support_y=parts[1],
        query_x=parts[2],
        query_y=parts[3],
        support_mask=support,
        query_mask=query,
    )
