r"""The minimum of a quadratic over positive semidefinite matrices and one number above a floor.

.. math:: \min_z \tfrac12 z^T M z - b^T z , \qquad z = (\text{packed } S, t), \quad S \succeq 0, \quad t \ge 0 ,

by the alternating direction method of multipliers (ADMM): a linear solve and a projection, which sets eigenvalues to
exactly 0, in turn. It stops at a duality gap, so that the rank of S is right when it returns.

Source: Boyd, Parikh, Chu, Peleato & Eckstein, Foundations and Trends in Machine Learning 3 (2011), sections 3.4 and 5.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from undertow.mixed.derivatives import packed, unpacked

_MOST_STEPS = 100
_CHECK_EVERY = 4
# Of the penalty, in mean eigenvalues of the matrix, whose small ones matter most.
_WEIGHT = 0.4
_OVER_RELAXATION = 1.6
# Share of the gain, or of the tolerance, that may be left.
_GAP = 0.1


def minimise(
    matrix: Float[np.ndarray, "n n"],
    linear: Float[np.ndarray, " n"],
    start: Float[np.ndarray, " n"],
    tolerance: float,
) -> tuple[Float[np.ndarray, " n"], float]:
    """Return the minimum, and how much lower it might be at most.

    start: a point near it. The matrix is positive definite, best with a like scale all over. What is left is at most a
    tenth of what was gained from the start, or of ``tolerance``, unless a hundred steps do not get there.
    """
    n, left = len(linear), math.inf

    def value(z: np.ndarray) -> float:
        return float(z @ (0.5 * (matrix @ z) - linear))

    weight = _WEIGHT * float(np.trace(matrix)) / n
    step = np.linalg.inv(matrix + weight * np.eye(n))
    factor = np.linalg.cholesky(matrix)
    first = value(start)
    z, dual = start, _projected((linear - matrix @ start) / weight, -1.0)
    for count in range(1, _MOST_STEPS + 1):
        free = step @ (linear + weight * (z - dual))
        moved = _OVER_RELAXATION * free + (1 - _OVER_RELAXATION) * z + dual
        z = _projected(moved)
        dual = moved - z
        if count % _CHECK_EVERY == 0:
            held = solve_triangular(factor, linear - weight * dual, lower=True, check_finite=False)
            here = value(z)
            left = here + 0.5 * float(held @ held)
            if left <= _GAP * max(first - here, tolerance):
                break
    return z, max(left, 0.0)


def _projected(z: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """The nearest point with S and t (or with -S and -t) not negative."""
    values, vectors = np.linalg.eigh(unpacked(z[:-1]))
    kept = sign * values > 0
    inside = (vectors[:, kept] * values[kept]) @ vectors[:, kept].T
    return np.append(packed(inside), z[-1] if sign * z[-1] > 0 else 0.0)
