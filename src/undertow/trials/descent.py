r"""An outer loop by gradient descent, at every train rate and time, without taking its steps.

With B the rows of the outer problem, G = B'B/N and a step of q / lambda_max(G), the weights after t updates from
omega_0 are

    omega_t = omega* - (I - q G/lambda_max)^t (omega* - omega_0),

omega* being the solution nearest to omega_0. So one singular value decomposition of B serves all times, and given the
inputs the mean over weights and noise is closed form, as in ``trials.conditional``, with the filter
1 - (1 - q s_i^2/s_1^2)^t on the inverse of each singular value.
"""

from __future__ import annotations

import numpy as np

from undertow._batch import TaskBatch
from undertow.problem import MixedLinearRegression


def weights_at(
    tasks: TaskBatch, rates: np.ndarray, times: np.ndarray, step: float = 1.0, init: np.ndarray | None = None
) -> np.ndarray:
    """Weights (k, t, p) after ``times`` updates (infinite: the solution), one inner step at each of ``rates``.

    step: that of the outer loop, q, as a share of 1 / lambda_max.
    """
    rows, shrunk, _ = _blocks(tasks.support_x[None], tasks.query_x[None])
    moment = np.einsum("mnp,mn->mp", tasks.support_x, tasks.support_y) / tasks.support_x.shape[1]
    shift = np.einsum("mvp,mp->mv", tasks.query_x, moment).ravel()
    start = np.zeros(rows.shape[-1]) if init is None else init
    out = np.empty((len(rates), len(times), rows.shape[-1]))
    for k, rate in enumerate(rates):
        outer = rows[0] - rate * shrunk[0]
        left = tasks.query_y.ravel() - rate * shift - outer @ start
        u, s, v = np.linalg.svd(outer, full_matrices=False)
        out[k] = start + (filters(s, times, step) / s * (u.T @ left)) @ v
    return out


def distance_given_inputs(
    problem: MixedLinearRegression,
    support_x: np.ndarray,
    query_x: np.ndarray,
    rates: np.ndarray,
    times: np.ndarray,
    step: float = 1.0,
    init: np.ndarray | None = None,
) -> np.ndarray:
    """E[|omega_t - w_0|^2 | inputs] of r training sets with isotropic inputs and tasks: (r, k, t)."""
    assert problem.task_std is not None  # set in __post_init__
    r, m, n_v, p = query_x.shape
    rows, shrunk, cross = _blocks(support_x, query_x)
    gap = (np.zeros(p) if init is None else init) - problem.mean_weights
    out = np.empty((r, len(rates), len(times)))
    for k, rate in enumerate(rates):
        outer = rows - rate * shrunk
        blocks = outer.reshape(query_x.shape)
        u, s, v = np.linalg.svd(outer, full_matrices=False)
        share = filters(s, times, step)  # (r, t, i)
        ahead = np.einsum("rip,p->ri", v, gap)
        inside = ((1 - share) ** 2 * ahead[:, None] ** 2).sum(axis=-1)
        out[:, k] = inside + np.maximum(gap @ gap - (ahead**2).sum(axis=-1), 0.0)[:, None]
        # A task's rows of the left vectors, times its own rows and those of its support noise.
        own = u.reshape(r, m, n_v, -1).swapaxes(-1, -2)  # (r, m, i, n_v)
        scale = (share / s[:, None]) ** 2
        tasks = ((own @ blocks) ** 2).sum(axis=(1, 3))
        noise = 1 + rate**2 * ((own @ cross) ** 2).sum(axis=(1, 3))
        weight = problem.task_std**2 / p * tasks + problem.noise_std**2 * noise
        out[:, k] += np.einsum("rti,ri->rt", scale, weight)
    return out


def filters(values: np.ndarray, times: np.ndarray, step: float = 1.0) -> np.ndarray:
    """1 - (1 - q s^2/s_1^2)^t for singular values (..., i), descending: (..., t, i)."""
    left = 1 - step * (values / values[..., :1]) ** 2
    powers = np.asarray(times, dtype=np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.exp(powers * np.log(left)[..., None, :])
    return np.where(powers == 0, 0.0, np.where(np.isinf(powers), 1.0, 1 - kept))


def _blocks(support_x: np.ndarray, query_x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query rows (r, N, p), the same times S (r, N, p), and query rows times support rows / n_t, (r, m, n_v, n_t)."""
    r, m, n_v, p = query_x.shape
    cross = query_x @ support_x.swapaxes(-1, -2) / support_x.shape[2]
    return query_x.reshape(r, m * n_v, p), (cross @ support_x).reshape(r, m * n_v, p), cross
