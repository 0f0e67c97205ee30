r"""The probability of a class, from the number that least squares gives: a logistic curve fitted to held-out tasks.

A target of two values is predicted as a number f; held-out tasks say how often the larger value came at that number,

.. math:: P(y = \text{larger}) = 1 / (1 + e^{-(a + b f)}) ,

each task counting once, once for tasks without rows and once with ``n_support`` rows of the task (Platt, "Probabilistic
outputs for support vector machines", in Advances in Large Margin Classifiers, 2000). Between them a and b are
interpolated.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

# Where a number parts the classes without an error the slope would be infinite: it is held by so small a penalty.
_PENALTY = 1e-4


def two_valued(targets: np.ndarray) -> bool:
    """Whether each column of targets (R, q) has two values."""
    low, high = targets.min(axis=0), targets.max(axis=0)
    return bool((low < high).all() and ((targets == low) | (targets == high)).all())


def curve(values: np.ndarray, larger: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return a and b of greatest likelihood for numbers (n,), whether the larger value came (n,), and weights (n,)."""
    share = weights / weights.sum()
    sign = np.where(larger, 1.0, -1.0)

    def loss(both: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (both[0] + both[1] * values)
        slope = -share * sign * expit(-margin)
        penalty = 0.5 * _PENALTY * both[1] ** 2
        gradient = np.array([slope.sum(), slope @ values + _PENALTY * both[1]])
        return float(share @ np.logaddexp(0.0, -margin)) + penalty, gradient

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def probabilities(curves: np.ndarray, values: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return the probability (R, q) of the larger value at numbers (R, q).

    curves: (q, 2, 2) a and b without rows of the task and with ``n_support``. share: (R,) rows known of the task over
    ``n_support``; from 1 on it counts as 1.
    """
    part = np.minimum(np.asarray(share, dtype=np.float64), 1.0)[..., None, None]
    both = curves[:, 0] + part * (curves[:, 1] - curves[:, 0])
    return expit(both[..., 0] + both[..., 1] * values)
