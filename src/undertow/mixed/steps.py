"""Steps of the search: to the maximum of a quadratic model of the likelihood over all covariances that are allowed."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from undertow.mixed import semidefinite
from undertow.mixed.derivatives import (
    by_components,
    by_matrix,
    gradients,
    packed,
    packing,
    slope_by_components,
    unpacked,
)
from undertow.mixed.lapack import eigh, solve_lower, solve_lower_transposed
from undertow.mixed.likelihood import Evaluation

# Of the mean square of the target: below it, noise is rounding.
NOISE_FLOOR = 1e-10

# Curvature takes a p x p product per task and step; wider problems use multiplicative steps.
_WIDE = 160

# The observed curvature is used where it is nowhere below this share of the expected one.
_LEAST = 0.02
# Log-likelihood: with less left to gain, the likelihood is nearly quadratic.
_NEAR = 1.0
# With more promised, the observed curvature says little of what lies so far away.
_FAR = 10.0
# Share of the expected curvature that is taken in each direction at the least, over all covariances. On 60 made tables,
# most with a singular covariance, a search from a near fit takes half of the evaluations that the average one takes.
_SHARE = 0.2
# Numbers of a covariance beyond which its eigenvalues would take longer than the steps that they save.
_MANY = 300
# Of the mean curvature: what the data cannot tell apart has none, and is left where it is.
_DAMPING = 1e-9
# A step takes the noise to this share of itself at the lowest: nearly none of it bends the likelihood beyond any model.
_LEAST_NOISE = 0.1


class ComponentStep:
    """A step in the variances v >= 0 of components, Sigma_w = diag(components @ v), and sigma^2.

    Far from the maximum the model is that of the expected information (Fisher scoring), which knows how a variance
    bends the likelihood whatever its size; where little is left to gain, it is that of the observed curvature.

    v: the point. change: a (n, n) matrix and a shift (n,) where v are other coordinates, all at least 0: those above
    are matrix @ v + shift.
    promise: what the slope promises in log-likelihood for the whole step.
    """

    def __init__(
        self,
        here: Evaluation,
        components: Float[np.ndarray, "p c"],
        v: Float[np.ndarray, " n"],
        change: tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"]] | None = None,
    ) -> None:
        p, c = components.shape
        self._v, self._safe = v, None
        if p > _WIDE and 2 * c > p and change is None:
            slope = slope_by_components(here, components, v[:c])
            self._go(multiplicative_target(here, components, v, slope), slope)
            return
        own = v if change is None else change[0] @ v + change[1]
        slope, expected, average = by_components(here, components, own[:c])
        if change is not None:
            turn = change[0]
            slope, expected, average = turn.T @ slope, turn.T @ expected @ turn, turn.T @ average @ turn
        target = _best_components(expected, v, slope)
        if target is None:
            target = multiplicative_target(here, components, v, slope) if change is None else v
        self._go(target, slope)
        if self.promise < _NEAR:
            free = target > 0
            observed = expected + np.where(np.outer(free, free), 2 * (average - expected), 0.0)
            bold = _best_components(observed if _is_above(observed, expected) else average, v, slope)
            if bold is not None:
                self._safe = self._way, self.promise
                self._go(bold, slope)

    def _go(self, target: np.ndarray, slope: np.ndarray) -> None:
        self._way = target - self._v
        self.promise = float(slope @ self._way)

    def point(self, length: float) -> Float[np.ndarray, " n"]:
        """Return the point where a share of the step ends, or a multiple that stays within bounds."""
        end = self._v + length * self._way
        if length > 1:
            end = np.maximum(end, np.append(np.zeros(len(end) - 1), NOISE_FLOOR))
        return end

    @property
    def may_stretch(self) -> bool:
        """Whether a multiple of the step makes sense."""
        return True

    def retreat(self) -> bool:
        """Become the step of Fisher scoring, where this one is not; return whether it changed."""
        if self._safe is None:
            return False
        (self._way, self.promise), self._safe = self._safe, None
        return True


def _best_components(matrix: np.ndarray, v: np.ndarray, slope: np.ndarray) -> np.ndarray | None:
    """The maximum of the quadratic model over v >= 0."""
    scale = np.sqrt(np.diagonal(matrix).clip(0))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = matrix / np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += _DAMPING
    floor = np.append(np.zeros(len(v) - 1), _least_noise(v[-1]))
    try:
        factor = np.linalg.cholesky(scaled)
        right = factor.T @ ((v - floor) * scale) + solve_lower(factor, slope / scale)
        solution = solve_lower_transposed(factor, right)
        if solution.min() < 0:
            solution, _ = nnls(factor.T, right)
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    return floor + solution / scale


def _least_noise(noise: float) -> float:
    return max(NOISE_FLOOR, _LEAST_NOISE * noise)


def multiplicative_target(
    here: Evaluation,
    components: Float[np.ndarray, "p c"],
    v: Float[np.ndarray, " n"],
    slope: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Return v sqrt(pull / push), the minorisation of Zhou, Hu, Qiao & Lange, Statistica Sinica 25 (2015).

    pull and push are the two signs of the slope; the step never lowers the likelihood.
    """
    pull = sum(part.block.weights @ gradients(part.a, part.e) ** 2 for part in here.parts)
    # |e|^2 = (y - X mu)^T H^{-1} H H^{-1} (y - X mu) has the pull of sigma^2 and that of Sigma_w.
    noise = max(here.squares - float(pull @ (components @ v[:-1])), 0.0) / here.noise
    pulls = 0.5 * np.append(components.T @ pull, noise)
    pushes = pulls - slope
    ratio = np.divide(pulls, pushes, out=np.ones_like(v), where=pushes > 0)
    return np.append(v[:-1] * np.sqrt(ratio[:-1]), max(v[-1] * np.sqrt(ratio[-1]), NOISE_FLOOR))


class Spread(NamedTuple):
    """A point of the search for a full covariance: Sigma_w = axes S axes^T with S = root root^T."""

    root: Float[np.ndarray, "r q"]
    noise: float


class MatrixStep:
    """A step in S (Sigma_w = axes S axes^T) and sigma^2.

    Where S has its final rank, it is Newton's step among covariances of that rank; elsewhere it goes to the maximum of
    a coarser model over all covariances, which finds the rank. Its own coordinates are those in which S is diagonal,
    the mean of G over rows is sigma^2, and one unit of noise has as much information as one of S: the curvature is then
    of like size all over.

    promise: what the slope promises in log-likelihood for the whole step.
    """

    def __init__(
        self,
        here: Evaluation,
        axes: Float[np.ndarray, "p r"],
        back: Float[np.ndarray, "r p"],
        at: Spread,
        tolerance: float,
    ) -> None:
        gram = axes.T @ here.gram @ axes / here.rows
        factor = np.linalg.cholesky(gram + 1e-10 * np.trace(gram) * np.eye(len(gram)))
        inward = factor.T / np.sqrt(here.noise)
        r, q = at.root.shape
        turn, sizes = np.eye(r), np.zeros(r)
        if q:
            turn, sizes[: min(r, q)], _ = np.linalg.svd(inward @ at.root, full_matrices=True)
        self._values = np.where(sizes > 1e-13 * sizes.max(initial=0.0), sizes, 0.0) ** 2
        inward = turn.T @ inward
        self._outward = np.linalg.inv(inward)
        slope, expected, average = by_matrix(here, axes @ self._outward, inward @ back, np.diag(self._values))
        n = len(slope)
        each = float(np.trace(expected[:-1, :-1])) / (n - 1) if n > 1 else 0.0
        self._unit = math.sqrt(each / expected[-1, -1]) if min(each, expected[-1, -1]) > 0 else here.noise
        scale = np.append(np.ones(n - 1), self._unit)
        self._slope, outer = slope * scale, np.outer(scale, scale)
        self._expected, self._average = expected * outer, average * outer
        self._curvature = float(np.trace(self._expected)) / n
        self._noise, self._tolerance = here.noise / self._unit, tolerance
        self._floor = _least_noise(here.noise) / self._unit
        self._end: tuple[np.ndarray, float] | None = None
        self._way = self._newton_way()
        if self._way is None:
            self._go_within_the_cone()
        else:
            self.promise = float(self._slope @ self._way)

    def _go_within_the_cone(self) -> None:
        """To the maximum over all covariances by the raised observed curvature or, far from it, by the expected one."""
        start = np.append(packed(np.diag(self._values)), self._noise - self._floor)
        for information in (_raised(self._average, self._expected), self._expected):
            root, noise, left = semidefinite.maximise(information, self._slope, start, self._tolerance)
            self._end = root, noise + self._floor
            self.promise = float(self._slope @ (np.append(packed(root @ root.T), noise) - start)) + left
            if self.promise < _FAR:
                break

    def _newton_way(self) -> np.ndarray | None:
        """Newton's step among covariances of the same rank; None where that has no maximum, or another rank is better.

        Near diag(values), these are [[s, b], [b^T, b^T s^{-1} b]] with s for the directions that vary.
        """
        varies = self._values > 0
        places, slope = packing(len(varies)), unpacked(self._slope[:-1])
        rest = slope[np.ix_(~varies, ~varies)]
        if not varies.all() and max(np.linalg.eigvalsh(rest)[-1], 0.0) ** 2 > self._tolerance * self._curvature:
            return None
        kept = np.append(varies[places.rows] | varies[places.columns], True)
        observed = (2 * self._average - self._expected)[np.ix_(kept, kept)]
        # The curvature of b^T s^{-1} b, along which the likelihood falls by the slope where nothing varies.
        rows, columns = places.rows[kept[:-1]], places.columns[kept[:-1]]
        mixed = np.flatnonzero(varies[rows] != varies[columns])
        low = np.where(varies[rows], columns, rows)[mixed]
        high = np.where(varies[rows], rows, columns)[mixed]
        same = high[:, None] == high
        observed[np.ix_(mixed, mixed)] -= np.where(same, slope[np.ix_(low, low)] / self._values[high], 0.0)
        if not _is_above(observed, self._expected[np.ix_(kept, kept)]):
            return None
        way = np.zeros(len(kept))
        damped = observed + _DAMPING * self._curvature * np.eye(len(observed))
        way[kept] = np.linalg.solve(damped, self._slope[kept])
        inside = (np.diag(self._values) + unpacked(way[:-1]))[np.ix_(varies, varies)]
        if self._noise + way[-1] < self._floor or not _is_positive(inside):
            return None
        return way

    def point(self, length: float) -> Spread:
        """Return the point where a share of the step ends, or a multiple within the cone where it may be stretched."""
        varies = self._values > 0
        if self._end is not None and length > 1:
            root, noise = self._end
            values, vectors = np.linalg.eigh(length * root @ root.T - (length - 1) * np.diag(self._values))
            kept = values > 1e-13 * values[-1]
            root = vectors[:, kept] * np.sqrt(values[kept])
            noise = length * noise - (length - 1) * self._noise
        elif self._end is not None:
            # A mean of two covariances: their roots, next to each other.
            old = np.diag(np.sqrt(self._values))[:, varies]
            root = np.hstack([math.sqrt(1 - length) * old, math.sqrt(length) * self._end[0]][length == 1 :])
            noise = (1 - length) * self._noise + length * self._end[1]
        else:
            assert self._way is not None
            end = (np.diag(self._values) + length * unpacked(self._way[:-1]))[:, varies]
            values, vectors = np.linalg.eigh(end[varies])
            root, noise = end @ (vectors / np.sqrt(values)), self._noise + length * self._way[-1]
        return Spread(self._outward @ root, max(noise * self._unit, NOISE_FLOOR))

    @property
    def may_stretch(self) -> bool:
        """Whether a multiple of the step makes sense: not of Newton's."""
        return self._end is not None

    def retreat(self) -> bool:
        """Become the step within the whole cone, where this one is Newton's; return whether it changed."""
        if self._end is not None:
            return False
        self._go_within_the_cone()
        return True


Step: TypeAlias = ComponentStep | MatrixStep


def _raised(average: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The observed curvature, 2 A - E, with a share of the expected one in each direction; of many numbers A itself."""
    if len(expected) > _MANY:
        return average
    scale = np.sqrt(np.diagonal(expected).clip(1e-300))
    try:
        factor = np.linalg.cholesky(expected / np.outer(scale, scale) + 10 * _DAMPING * np.eye(len(scale)))
    except np.linalg.LinAlgError:
        return average
    half = solve_lower(factor, average / np.outer(scale, scale))
    values, vectors = eigh(solve_lower(factor, half.T))
    root = (factor @ vectors) * scale[:, None]
    return (root * np.maximum(2 * values - 1, _SHARE)) @ root.T


def _is_above(matrix: np.ndarray, expected: np.ndarray) -> bool:
    """Whether a curvature is positive definite, measured by the one that is expected."""
    scale = 1.0 / np.sqrt(np.diagonal(expected).clip(1e-300))
    scaled = (matrix - _LEAST * expected) * np.outer(scale, scale)
    # What the data cannot tell apart has no curvature of either kind.
    return _is_positive(scaled + 10 * _DAMPING * np.eye(len(scaled)))


def _is_positive(matrix: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True
