"""The search for the variance components with the highest likelihood: two searches, one record.

A few components (one per feature at most): Fisher scoring whose steps are least-squares problems with v >= 0, so that
zero variances are found exactly and in few steps. A full covariance: damped scoring in its Cholesky factor, which may
become singular. Every accepted step raises the likelihood.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from undertow.mixed.likelihood import Evaluation, Model, evaluate, factor_information, information, score
from undertow.mixed.statistics import TaskStatistics

# Of the mean square of the target: below it, noise is rounding.
NOISE_FLOOR = 1e-10

# Information takes a p x p product per task and step; wider problems use multiplicative steps.
_WIDE = 160


class Search(NamedTuple):
    """Where a search ended."""

    covariance: np.ndarray
    """(p, p), or (p,) where it is diagonal; in units of the statistics"""
    noise: float
    value: float
    """log-likelihood"""
    converged: bool
    iterations: int
    history: list[float]
    """log-likelihood after each step"""


def root_of(covariance: np.ndarray) -> np.ndarray:
    """Return a (p, q) root of a covariance (p, p) without its null space, or (p,) deviations of a diagonal one."""
    if covariance.ndim == 1:
        return np.sqrt(covariance)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


def search_components(
    stats: TaskStatistics,
    components: np.ndarray,
    model: Model,
    iterations: int,
    tolerance: float,
    near: tuple[np.ndarray, float] | None = None,
) -> Search:
    """Maximise over Sigma_w = sum_c v_c diag(components[:, c]), v >= 0, and sigma^2.

    Stops when the next step promises less than ``tolerance`` of log-likelihood. near: a diagonal covariance (p,) and a
    noise variance to start from; None for a start from the pooled residuals.
    """
    p, c = components.shape

    def at(v: np.ndarray) -> Evaluation:
        return evaluate(stats, root_of(components @ v[:c]), float(v[c]), model)

    if near is None:
        start = np.full(c + 1, _mean_square(at(np.append(np.zeros(c), 1.0)), stats))
        # Half of what the pooled fit leaves goes to the noise, the other half is shared by the components.
        start[:c] *= 0.5 / np.maximum(components.sum(axis=0) * c, 1e-300)
        start[c] = max(0.5 * start[c], 2 * NOISE_FLOOR)
    else:
        start = np.append((near[0][:, None] * components).sum(axis=0) / (components**2).sum(axis=0), near[1])
    v, here = start, at(start)
    history = [here.value]
    for step in range(1, iterations + 1):
        s = score(here, full=False)
        gradient = np.append(components.T @ s.covariance, s.noise)
        target = _scoring_step(here, components, v, gradient) if p <= _WIDE or 2 * c <= p else None
        if target is None:
            target = _multiplicative_step(here, components, v, gradient)
        promise = float(gradient @ (target - v))
        if promise < tolerance:
            return Search(components @ v[:c], float(v[c]), here.value, True, step - 1, history)
        length = 1.0
        while length > 1e-3:
            trial = v + length * (target - v)
            there = at(trial)
            if there.value > here.value:
                break
            length *= 0.35
        else:
            # Rounding is all that is left, unless much was promised.
            return Search(components @ v[:c], float(v[c]), here.value, promise < 1e-4, step, history)
        v, here = trial, there
        history.append(here.value)
    return Search(components @ v[:c], float(v[c]), here.value, False, iterations, history)


def _mean_square(pooled: Evaluation, stats: TaskStatistics) -> float:
    total = sum(float(part.block.weights @ ((part.e**2).sum(axis=1) + part.block.residual)) for part in pooled.parts)
    return max(total / stats.total_rows, 4 * NOISE_FLOOR)


def _scoring_step(here: Evaluation, components: np.ndarray, v: np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
    """The maximum over v >= 0 of the quadratic model with the expected information."""
    matrix = information(here, components)
    scale = np.sqrt(np.diagonal(matrix))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = matrix / np.outer(scale, scale)
    # Components that the data cannot tell apart make it singular: a hair of damping picks one step.
    scaled[np.diag_indices_from(scaled)] += 1e-9
    floor = np.append(np.zeros(len(v) - 1), NOISE_FLOOR)
    try:
        factor = np.linalg.cholesky(scaled)
        right = factor.T @ ((v - floor) * scale) + np.linalg.solve(factor, gradient / scale)
        solution, _ = nnls(factor.T, right)
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    return floor + solution / scale


def _multiplicative_step(here: Evaluation, components: np.ndarray, v: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """v <- v sqrt(pull / push), the minorisation of Zhou, Hu, Qiao & Lange, Statistica Sinica 25 (2015).

    pull and push are the two signs of the gradient; the step never lowers the likelihood.
    """
    pull = np.zeros(components.shape[0])
    pull_noise = 0.0
    for block, inverse, a, e in here.parts:
        g = (a.transpose(0, 2, 1) @ e[..., None])[..., 0]
        pull += block.weights @ g**2
        bend = (inverse.transpose(0, 2, 1) @ e[..., None])[..., 0]
        pull_noise += float(block.weights @ ((bend**2).sum(axis=1) + block.residual / here.noise**2))
    pulls = 0.5 * np.append(components.T @ pull, pull_noise)
    pushes = pulls - gradient
    ratio = np.divide(pulls, pushes, out=np.ones_like(v), where=pushes > 0)
    return np.append(v[:-1] * np.sqrt(ratio[:-1]), max(v[-1] * np.sqrt(ratio[-1]), NOISE_FLOOR))


def search_full(
    stats: TaskStatistics,
    near: tuple[np.ndarray, float],
    model: Model,
    iterations: int,
    tolerance: float,
) -> Search:
    """Maximise over a full Sigma_w = L L^T and sigma^2.

    near: covariance, (p, p) or (p,) diagonal, and noise variance to start from. Where it is singular it is raised: a
    zero would never be left, since the gradient by L vanishes there.
    """
    p = stats.n_features
    square = np.diag(near[0]) if near[0].ndim == 1 else near[0]
    noise = max(near[1], 2 * NOISE_FLOOR)
    variances = np.diagonal(square)
    least = 1e-3 * max(float(variances.max()), noise / max(stats.total_rows / stats.total_tasks, 1.0))
    unit = np.where(stats.zero, 0.0, np.sqrt(np.maximum(variances, least)))
    safe = np.where(stats.zero, 1.0, unit)
    raised = square / np.outer(safe, safe) + np.diag(1.0 - variances / safe**2 + 1e-3)
    factor = unit[:, None] * np.linalg.cholesky(raised)
    history: list[float] = []
    used, converged = 0, False
    for _ in range(4):
        factor, noise, converged, steps = _factor_steps(
            stats, factor, noise, model, iterations - used, tolerance, history
        )
        used += steps
        here = evaluate(stats, factor, noise, model)
        top, directions = np.linalg.eigh(unit[:, None] * score(here, full=True).covariance * unit)
        # A direction of zero variance in which the likelihood still rises: step into it and go on.
        if not converged or top[-1] * 1e-2 < max(tolerance, 1e-4):
            break
        escape = directions[:, -1] * np.where(stats.zero, 0.0, 1.0)
        raised = factor @ factor.T / np.outer(safe, safe) + 1e-2 * np.outer(escape, escape) + 1e-10 * np.eye(p)
        factor = unit[:, None] * np.linalg.cholesky(raised)
    return Search(factor @ factor.T, noise, history[-1], converged, used, history)


def _factor_steps(
    stats: TaskStatistics,
    factor: np.ndarray,
    noise: float,
    model: Model,
    iterations: int,
    tolerance: float,
    history: list[float],
) -> tuple[np.ndarray, float, bool, int]:
    """Damped scoring in L (lower triangle) and log sigma^2 (Levenberg and Marquardt), until no step promises more."""
    p = len(factor)
    rows, columns = np.tril_indices(p)
    used = ~stats.zero[rows] & ~stats.zero[columns]
    rows, columns = rows[used], columns[used]
    here = evaluate(stats, factor, noise, model)
    history.append(here.value)
    damping = 1e-2
    for step in range(iterations):
        slope = score(here, full=True)
        gradient = np.append(2 * (slope.covariance @ factor)[rows, columns], slope.noise * noise)
        total, cross, own = factor_information(here, factor)
        # The curvature of L L^T itself, where it helps: it keeps directions of zero variance well determined.
        values, vectors = np.linalg.eigh(slope.covariance)
        bowl = (vectors * (2 * (-values).clip(0))) @ vectors.T
        matrix = np.empty((len(rows) + 1,) * 2)
        matrix[:-1, :-1] = total[rows[:, None], columns[:, None], rows, columns]
        matrix[:-1, :-1] += bowl[rows[:, None], rows] * (columns[:, None] == columns)
        matrix[-1, :-1] = matrix[:-1, -1] = cross[rows, columns] * noise
        matrix[-1, -1] = own * noise**2
        diagonal = np.diagonal(matrix).copy()
        diagonal = np.where(diagonal > 0, diagonal, 1.0)
        while True:
            move = np.linalg.solve(matrix + np.diag((damping + 1e-12) * diagonal), gradient)
            promise = float(gradient @ move)
            if promise < tolerance:
                return factor, noise, True, step
            if damping > 1e8:
                return factor, noise, promise < 1e-4, step
            trial = factor.copy()
            trial[rows, columns] += move[:-1]
            # No step changes the noise by more than a factor of e.
            trial_noise = max(noise * float(np.exp(np.clip(move[-1], -1.0, 1.0))), NOISE_FLOOR)
            there = evaluate(stats, trial, trial_noise, model)
            if there.value > here.value:
                break
            damping *= 8
        damping = max(damping / 8, 1e-9)
        factor, noise, here = trial, trial_noise, there
        history.append(here.value)
    return factor, noise, False, iterations
