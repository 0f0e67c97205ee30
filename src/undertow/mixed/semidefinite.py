r"""The maximum of a quadratic over positive semidefinite matrices and one number that is not negative.

.. math:: \max_z b^T (z - z_0) - \tfrac12 (z - z_0)^T M (z - z_0) , \qquad z = (\text{packed } S, t), \quad S \succeq 0,
          \quad t \ge 0 ,

by the alternating direction method of multipliers (ADMM): a linear solve and a projection, which sets eigenvalues to
exactly 0, in turn. It stops at a duality gap, so that the rank of S is right when it returns.

Source: Boyd, Parikh, Chu, Peleato & Eckstein, Foundations and Trends in Machine Learning 3 (2011), sections 3.4 and 5.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from undertow.mixed.derivatives import packed, unpacked
from undertow.mixed.lapack import eigh, solve_lower

_MOST_STEPS = 100
_CHECK_EVERY = 4
# Of the penalty, in mean eigenvalues of the matrix, whose small ones matter most.
_WEIGHT = 0.4
_OVER_RELAXATION = 1.6
# More than a hair: without curvature, a direction takes long to meet the cone.
_DAMPING = (1e-6, 1e-4, 1e-2, 1.0)
# Share of the gain, or of the tolerance, that may be left.
_GAP = 0.1


def maximise(
    matrix: Float[np.ndarray, "n n"],
    slope: Float[np.ndarray, " n"],
    start: Float[np.ndarray, " n"],
    tolerance: float,
) -> tuple[Float[np.ndarray, "r q"], float, float]:
    """Return a root (r, q) of the best S, the best t, and how much higher than there the maximum might be at most.

    matrix, slope, start: M, b and z_0, a point of the cone. M is positive semidefinite, best with a like scale all
        over; it is damped, by a millionth or by as much as it takes.

    What is left is at most a tenth of what was gained from the start, or of ``tolerance``, unless a hundred steps do
    not get there.
    """
    n, left = len(slope), math.inf
    matrix, factor = _damped(matrix)
    linear = slope + matrix @ start

    def value(z: np.ndarray) -> float:
        return float(z @ (0.5 * (matrix @ z) - linear))

    weight = _WEIGHT * float(np.trace(matrix)) / n
    step = np.linalg.inv(matrix + weight * np.eye(n))
    first = value(start)
    z, dual, root = start, -_projected(-slope / weight)[0], np.zeros((0, 0))
    for count in range(1, _MOST_STEPS + 1):
        free = step @ (linear + weight * (z - dual))
        moved = _OVER_RELAXATION * free + (1 - _OVER_RELAXATION) * z + dual
        z, root = _projected(moved)
        dual = moved - z
        if count % _CHECK_EVERY == 0:
            held = solve_lower(factor, linear - weight * dual)
            here = value(z)
            left = here + 0.5 * float(held @ held)
            if left <= _GAP * max(first - here, tolerance):
                break
    return root, float(z[-1]), max(left, 0.0)


def _damped(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix with a little added to its diagonal, and its Cholesky factor."""
    mean = float(np.trace(matrix)) / len(matrix)
    for share in _DAMPING:
        damped = matrix + share * mean * np.eye(len(matrix))
        try:
            return damped, np.linalg.cholesky(damped)
        except np.linalg.LinAlgError:
            continue
    # Rows whose weights add up to less than the features need can make an expected information indefinite.
    values = np.linalg.eigvalsh(matrix)
    shift = (1 + _DAMPING[0]) * abs(float(values[0])) + max(_DAMPING[0] * float(np.abs(values).max()), 1e-300)
    damped = matrix + shift * np.eye(len(matrix))
    return damped, np.linalg.cholesky(damped)


def _projected(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of the cone, and a root of its S."""
    values, vectors = eigh(unpacked(z[:-1]))
    first = int(np.searchsorted(values, 0.0, side="right"))
    root = vectors[:, first:] * np.sqrt(values[first:])
    out = np.empty_like(z)
    out[:-1], out[-1] = packed(root @ root.T), max(z[-1], 0.0)
    return out, root
