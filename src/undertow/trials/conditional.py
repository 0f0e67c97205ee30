r"""The expected test loss given the inputs alone: weights and noise are averaged in closed form.

Given every training input X, the minimum-norm outer solution is linear in the labels, so its second moments over the
tasks' weights w and the noise z follow without sampling them. By the Rao-Blackwell theorem the mean over X is the
same as that of the sampled loss, and its variance is much smaller: what test tasks and labels add is gone.

With B_i = X_v (I - a S_i), d = omega_0 - w_0 and P the projector on the rows of B (N < p; P = I for N > p),

    E[|omega* - w_0|_H^2 | X] = |(I - P) d|_H^2 + sum_i tr[C_i D_i H D_i'],
    C_i = B_i Sigma_w B_i' + sigma^2 (I + a^2 X_v X_t' X_t X_v' / n_t^2),       D = (B^+)', D_i its rows of task i,

and the loss after one adaptation step is exact given that matrix (docs/explanation/theory.md, "The test side"):

    L = sigma^2/2 (1 + r^2 tr(Sigma_x^2)/n_r) + 1/2 tr[H Sigma_w] + 1/2 E|omega* - w_0|_H^2,
    H = Sx - 2 r Sx^2 + r^2 [(1 + 1/n_r) Sx^3 + tr(Sx^2)/n_r Sx]     with Sx = Sigma_x and r the adapt rate.
"""

from __future__ import annotations

import numpy as np

from undertow.problem import MixedLinearRegression, trace


def adaptation_metric(problem: MixedLinearRegression, n_adapt: int, adapt_rate: float) -> np.ndarray:
    """H, with which a distance from the task's weights becomes loss: () where inputs are white, else (p,) or (p, p)."""
    r, p = adapt_rate, problem.n_features
    if problem.input_covariance is None:
        return np.asarray((1 - r) ** 2 + r**2 * (p + 1) / n_adapt)
    sx = problem.input_covariance
    square = _times(sx, sx)
    return sx - 2 * r * square + r**2 * ((1 + 1 / n_adapt) * _times(square, sx) + trace(square) / n_adapt * sx)


def loss_given_inputs(
    problem: MixedLinearRegression,
    n_adapt: int,
    support_x: np.ndarray,
    query_x: np.ndarray,
    train_rates: np.ndarray,
    adapt_rates: np.ndarray,
    init: np.ndarray | None = None,
) -> np.ndarray:
    """Expected test loss given the training inputs, for r independent training sets: (r, k, q).

    support_x: (r, m, n_t, p); query_x: (r, m, n_v, p). train_rates: (k,), one inner step each; adapt_rates: (q,).
    init: omega_0, (p,); None means zeros. One inner step, no ridge. Next to N = p the values have no finite mean.
    """
    metrics = [adaptation_metric(problem, n_adapt, float(rate)) for rate in adapt_rates]
    start = np.zeros(problem.n_features) if init is None else np.asarray(init, dtype=np.float64)
    # White inputs: every H is a multiple of the identity, so one distance serves all adapt rates.
    white = problem.input_covariance is None
    distances = _distances(
        problem, support_x, query_x, train_rates, [np.ones(())] if white else metrics, start - problem.mean_weights
    )
    losses = np.empty((*distances.shape[:2], len(metrics)))
    for j, (rate, metric) in enumerate(zip(adapt_rates, metrics, strict=True)):
        distance = metric * distances[:, :, 0] if white else distances[:, :, j]
        losses[:, :, j] = unavoidable_loss(problem, n_adapt, float(rate)) + distance / 2
    return losses


def loss_at(problem: MixedLinearRegression, n_adapt: int, adapt_rate: float, distance: np.ndarray) -> np.ndarray:
    """The expected loss on a new task at these values of |omega* - w_0|^2; white inputs."""
    metric = adaptation_metric(problem, n_adapt, adapt_rate)
    return unavoidable_loss(problem, n_adapt, adapt_rate) + metric * distance / 2


def unavoidable_loss(problem: MixedLinearRegression, n_adapt: int, adapt_rate: float) -> float:
    """The loss of a start at w_0 itself: noise, and what one step cannot learn about the new task."""
    metric = adaptation_metric(problem, n_adapt, adapt_rate)
    p, sx = problem.n_features, problem.input_covariance
    spread = p if sx is None else trace(_times(sx, sx))
    noise = problem.noise_std**2 * (1 + adapt_rate**2 * spread / n_adapt)
    task_std = problem.task_std
    assert task_std is not None  # set in __post_init__
    if problem.task_covariance is None:
        tasks = task_std**2 * (float(metric) if metric.ndim == 0 else trace(metric) / p)
    elif metric.ndim == 0:
        tasks = task_std**2 * float(metric)
    else:
        tasks = trace(_times(metric, problem.task_covariance))
    return (noise + tasks) / 2


def _distances(
    problem: MixedLinearRegression,
    support_x: np.ndarray,
    query_x: np.ndarray,
    train_rates: np.ndarray,
    metrics: list[np.ndarray],
    offset: np.ndarray,
) -> np.ndarray:
    """E[|omega* - w_0|_H^2 | X] for each rate and metric: (r, k, number of metrics)."""
    r, m, n_v, p = query_x.shape
    n_t, n_rows = support_x.shape[2], m * n_v
    cross = query_x @ support_x.swapaxes(-1, -2)  # (r, m, n_v, n_t)
    shrunk = (cross @ support_x / n_t).reshape(r, n_rows, p)
    rows = query_x.reshape(r, n_rows, p)
    inner_noise = cross @ cross.swapaxes(-1, -2) / n_t**2
    identity = np.eye(n_v)
    out = np.empty((r, len(train_rates), len(metrics)))
    for k, rate in enumerate(train_rates):
        outer = rows - rate * shrunk
        dual = transposed_pseudoinverse(outer)
        blocks, dual_blocks = outer.reshape(query_x.shape), dual.reshape(query_x.shape)
        noise = problem.noise_std**2 * (identity + rate**2 * inner_noise)
        covariance = _task_term(problem, blocks) + noise
        left = offset - np.einsum("rnp,rn->rp", dual, outer @ offset) if n_rows < p and offset.any() else None
        for j, metric in enumerate(metrics):
            measured = _times(dual_blocks, metric) @ dual_blocks.swapaxes(-1, -2)
            out[:, k, j] = np.einsum("rmab,rmab->r", covariance, measured)
            if left is not None:
                out[:, k, j] += np.einsum("rp,rp->r", _times(left, metric), left)
    return out


def transposed_pseudoinverse(outer: np.ndarray) -> np.ndarray:
    """(B^+)' of each B in (r, N, p), of full rank, through the smaller Gram matrix."""
    n_rows, p = outer.shape[1:]
    transposed = outer.swapaxes(-1, -2)
    if n_rows <= p:
        return np.linalg.solve(outer @ transposed, outer)
    return np.linalg.solve(transposed @ outer, transposed).swapaxes(-1, -2)


def _task_term(problem: MixedLinearRegression, blocks: np.ndarray) -> np.ndarray:
    if problem.task_covariance is None:
        assert problem.task_std is not None
        return problem.task_std**2 / problem.n_features * (blocks @ blocks.swapaxes(-1, -2))
    return _times(blocks, problem.task_covariance) @ blocks.swapaxes(-1, -2)


def _times(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product with a matrix that may be full (p, p), diagonal (p,) or a multiple of the identity ()."""
    return left @ right if right.ndim == 2 else left * right
