"""The search for the variance components with the highest likelihood: Newton steps inside the cone of covariances.

Each step goes to the maximum of a quadratic model of the likelihood over all covariances that are allowed, so that
variances, and directions of a full covariance, that are zero are found exactly and in few steps. Where the observed
curvature has a maximum among the variances that are not zero, it is the model there; elsewhere the average information
is, which always has one. Every accepted step raises the likelihood.

Source: Gilmour, Thompson & Cullis, Biometrics 51 (1995).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from undertow.mixed.likelihood import Evaluation, Model, evaluate
from undertow.mixed.statistics import TaskStatistics
from undertow.mixed.steps import NOISE_FLOOR, ComponentStep, MatrixStep, Spread, Step

# Shares of a step that are tried until one raises the likelihood.
_LENGTHS = 0.35 ** np.arange(7)
# Of what the slope promises for a step: a quadratic keeps half of it at its maximum.
_STRAIGHT = 0.8


class Search(NamedTuple):
    """Where a search ended."""

    covariance: Float[np.ndarray, "p p"] | Float[np.ndarray, " p"]
    """(p, p), or (p,) where it is diagonal; in units of the statistics"""
    noise: float
    end: Evaluation
    """the likelihood there"""
    converged: bool
    history: list[float]
    """log-likelihood at the start and after each step"""
    evaluations: int
    """how often the likelihood was evaluated"""

    @property
    def value(self) -> float:
        """Log-likelihood, in units of the statistics."""
        return self.end.value

    @property
    def iterations(self) -> int:
        """Number of steps."""
        return len(self.history) - 1


def root_of(
    covariance: Float[np.ndarray, "p p"] | Float[np.ndarray, " p"],
) -> Float[np.ndarray, "p q"] | Float[np.ndarray, " p"]:
    """Return a (p, q) root of a covariance (p, p) without its null space, or (p,) deviations of a diagonal one.

    The deviation of a negative variance has its sign.
    """
    if covariance.ndim == 1:
        return np.sign(covariance) * np.sqrt(np.abs(covariance))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * values.max(initial=0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


def search_components(
    stats: TaskStatistics,
    components: Float[np.ndarray, "p c"],
    model: Model,
    iterations: int,
    tolerance: float,
    near: tuple[Float[np.ndarray, " p"], float] | None = None,
) -> Search:
    """Maximise over Sigma_w = sum_c v_c diag(components[:, c]), v >= 0, and sigma^2.

    Stops when the next step promises less than ``tolerance`` of log-likelihood. near: a diagonal covariance (p,) and a
    noise variance to start from; None for a start from the pooled residuals.
    """
    c = components.shape[1]

    def at(v: np.ndarray) -> Evaluation:
        return evaluate(stats, root_of(components @ v[:c]), float(v[c]), model)

    if near is None:
        start = np.full(c + 1, _mean_square(at(np.append(np.zeros(c), 1.0)), stats))
        # Half of what the pooled fit leaves goes to the noise, the other half is shared by the components.
        start[:c] *= 0.5 / np.maximum(components.sum(axis=0) * c, 1e-300)
        start[c] = max(0.5 * start[c], 2 * NOISE_FLOOR)
    else:
        start = np.append((near[0][:, None] * components).sum(axis=0) / (components**2).sum(axis=0), near[1])
    found = _ascend(at, lambda here, v: ComponentStep(here, components, v), start, iterations, tolerance)
    v = found.point
    used = found.evaluations + (near is None)
    return Search(components @ v[:c], float(v[c]), found.end, found.converged, found.history, used)


# Where rows repel each other most, the sum of those of the largest task still varies by this share of what independent
# rows would give: with none left, the likelihood would have no bound.
LEAST_SUM = 1e-3
# With few tasks, by this number over theirs: the sums of ten tasks of independent rows may all be small by chance.
_CHANCE = 2.0


def search_repelling(
    stats: TaskStatistics,
    component: Float[np.ndarray, "p 1"],
    most_rows: float,
    model: Model,
    iterations: int,
    tolerance: float,
    start: tuple[float, float],
) -> Search:
    r"""Maximise over the variance v of a constant feature, of either sign, and sigma^2.

    The sum of the n rows of a task has variance :math:`n (\sigma^2 + n v)`. In the largest task, of N rows, it is at
    least N f for a small f, so that :math:`u = v + (\sigma^2 - f) / N \ge 0`: u and sigma^2 have the cone that the
    other searches have. The floor f is a number of its own, since a share of sigma^2 would count the sums, which say
    nothing of it, as rows; it is one of these tasks, and not of the start. most_rows: N. start: v and sigma^2.
    """
    least = min(max(LEAST_SUM, _CHANCE / stats.total_tasks), 0.5)
    floor = least * _mean_square(evaluate(stats, np.zeros(stats.n_features), 1.0, model), stats)
    turn, shift = np.array([[1.0, -1 / most_rows], [0.0, 1.0]]), np.array([floor / most_rows, 0.0])

    def at(u: np.ndarray) -> Evaluation:
        v, noise = turn @ u + shift
        return evaluate(stats, root_of(component[:, 0] * v), float(noise), model)

    first = np.linalg.solve(turn, np.array(start) - shift).clip(0)
    found = _ascend(at, lambda here, u: ComponentStep(here, component, u, (turn, shift)), first, iterations, tolerance)
    v, noise = turn @ found.point + shift
    covariance = np.where(component[:, 0] > 0, v, 0.0)
    return Search(covariance, float(noise), found.end, found.converged, found.history, found.evaluations + 1)


def _mean_square(pooled: Evaluation, stats: TaskStatistics) -> float:
    total = sum(float(part.block.weights @ ((part.e**2).sum(axis=1) + part.block.residual)) for part in pooled.parts)
    return max(total / stats.total_rows, 4 * NOISE_FLOOR)


def search_full(
    stats: TaskStatistics,
    near: tuple[Float[np.ndarray, "p p"] | Float[np.ndarray, " p"], float],
    model: Model,
    iterations: int,
    tolerance: float,
    varies: Bool[np.ndarray, " p"] | None = None,
) -> Search:
    """Maximise over all covariances Sigma_w and sigma^2.

    near: covariance, (p, p) or (p,) diagonal, and noise variance to start from. Stops as ``search_components``.
    varies: which weights differ between tasks; None for all.
    """
    axes, back = _axes(stats, ~stats.zero if varies is None else varies & ~stats.zero)
    root = root_of(near[0])
    start = Spread(back @ (np.diag(root) if root.ndim == 1 else root), max(near[1], 2 * NOISE_FLOOR))

    def at(point: Spread) -> Evaluation:
        return evaluate(stats, axes @ point.root, point.noise, model)

    found = _ascend(
        at, lambda here, point: MatrixStep(here, axes, back, point, tolerance), start, iterations, tolerance
    )
    root, noise = axes @ found.point.root, found.point.noise
    return Search(root @ root.T, noise, found.end, found.converged, found.history, found.evaluations)


def _axes(stats: TaskStatistics, varies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes (p, r) of all directions that the features that vary reach, and their inverse there (r, p)."""
    p = stats.n_features
    own = np.flatnonzero(varies)
    gram = np.zeros((p, p))
    for block in stats.blocks:
        x = block.x.reshape(-1, p)
        gram += (x * np.repeat(block.weights, block.x.shape[1])[:, None]).T @ x
    unit = np.sqrt(np.diagonal(gram)[own])
    values, vectors = np.linalg.eigh(gram[np.ix_(own, own)] / np.outer(unit, unit))
    kept = values > 1e-13 * len(own) * values.max(initial=0.0)
    root = np.sqrt(values[kept])
    axes, back = np.zeros((p, len(root))), np.zeros((len(root), p))
    axes[own] = vectors[:, kept] / unit[:, None] / root
    back[:, own] = root[:, None] * vectors[:, kept].T * unit
    return axes, back


class _Found(NamedTuple):
    point: Any
    end: Evaluation
    converged: bool
    history: list[float]
    evaluations: int


def _tried(at: Callable[[Any], Evaluation], point: Any) -> Evaluation | None:
    """The likelihood at a point; None where the rows have no density there, as with variances too far below 0."""
    try:
        return at(point)
    except np.linalg.LinAlgError:
        return None


def _ascend(
    at: Callable[[Any], Evaluation],
    step_of: Callable[[Evaluation, Any], Step],
    point: Any,
    iterations: int,
    tolerance: float,
) -> _Found:
    here, evaluations = at(point), 1
    history = [here.value]
    step = step_of(here, point)
    while len(history) <= iterations:
        last, raised = step.promise < tolerance, False
        before = here.value
        # The last step is taken too, where it can be had for one evaluation: it is worth more than it costs.
        for length in _LENGTHS[: 1 if last else None]:
            trial = step.point(float(length))
            there = _tried(at, trial)
            evaluations += 1
            if there is not None and there.value > here.value:
                point, here, raised = trial, there, True
                break
        length = 1.0
        while raised and not last and step.may_stretch and here.value - before > _STRAIGHT * length * step.promise:
            # The model bends too early: go on where the likelihood rises as if it did not bend at all.
            length *= 2
            trial = step.point(length)
            there = _tried(at, trial)
            evaluations += 1
            if there is None or there.value <= here.value:
                break
            point, here = trial, there
        if raised:
            history.append(here.value)
        if last:
            return _Found(point, here, True, history, evaluations)
        if raised:
            step = step_of(here, point)
        elif not step.retreat():
            # Rounding is all that is left, unless much was promised.
            return _Found(point, here, step.promise < 1e-4, history, evaluations)
    return _Found(point, here, False, history, evaluations)
