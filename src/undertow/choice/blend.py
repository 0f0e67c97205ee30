r"""A blend of strategies: each task's adapted weights are a convex combination of those of several strategies.

The error of a combination with shares s is the combination of the errors, so that its loss on held-out tasks is

.. math:: L(s) = s^T E s, \qquad E_{ab} = \langle e_a e_b \rangle, \qquad s \ge 0, \quad \sum_a s_a = 1 ,

with the errors e of held-out query rows: stacking (Wolpert, Neural Networks 5, 1992; Breiman, Machine Learning 24,
1996). The minimum over s fits the noise of a few dozen tasks, and the single best strategy is a matter of chance too.
Both are steadied over random weights of the tasks (the Bayesian bootstrap of Rubin, Annals of Statistics 9, 1981): one
half of the shares is the mean of the minima, the other half is how often each strategy comes out best.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import nnls

from undertow.choice.plan import Found
from undertow.linear.rules import blend_of

# Draws of task weights, for the minima and for the winners, which cost less.
_MINIMA, _WINNERS = 20, 200


def shares(products: np.ndarray, weights: np.ndarray, seed: int, least_share: float) -> np.ndarray:
    """Return the share of each strategy, (n,), of sum 1: 0 or at least ``least_share``.

    products: (m, n, n) mean product of the errors of each two strategies on the query rows of each held-out
        task. weights: (m,) how much each task counts.
    """
    m, n = products.shape[:2]
    drawn = np.random.default_rng(seed).exponential(size=(_WINNERS, m)) * weights
    drawn /= drawn.sum(axis=1, keepdims=True)
    losses = np.ascontiguousarray(np.diagonal(products, axis1=1, axis2=2))
    winners = np.bincount((drawn @ losses).argmin(axis=1), minlength=n) / _WINNERS
    means = (drawn[:_MINIMA] @ products.reshape(m, n * n)).reshape(-1, n, n)
    total = 0.5 * winners + 0.5 * np.mean([least(one) for one in means], axis=0)
    total = np.where(total >= min(least_share, total.max()), total, 0.0)
    return total / total.sum()


def least(matrix: np.ndarray) -> np.ndarray:
    """Return the s (n,) with the least s^T E s, s >= 0 and sum 1, for a matrix E that is positive semidefinite."""
    n = len(matrix)
    single = np.eye(n)[int(matrix.diagonal().argmin())]
    unit = float(np.trace(matrix)) / n
    if not unit > 0 or matrix.diagonal().min() <= 0:
        return single
    # Strategies that agree make it singular: a hair of damping picks one combination of them.
    damped = matrix / unit + 1e-9 * np.eye(n)
    try:
        factor = np.linalg.cholesky(damped).T
    except np.linalg.LinAlgError:
        # Products in single precision are semidefinite to their own rounding only.
        values, vectors = np.linalg.eigh(damped)
        factor = np.sqrt(values.clip(0))[:, None] * vectors.T
    # A heavy row holds the sum at 1; scaling to exactly 1 takes off what is left.
    heavy = 1e4
    try:
        found, _ = nnls(np.vstack([factor, np.full(n, heavy)]), np.append(np.zeros(n), heavy))
    except RuntimeError:
        return single
    return found / found.sum() if found.sum() > 0 else single


def blended(products: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the loss of each task (m,) under the blend with these shares."""
    return np.einsum("a,mab,b->m", share, products, share, optimize=True)


def blend_found(parts: Mapping[str, Found], settings: dict[str, float]) -> Found:
    """Return the blend of trained strategies; settings: the share of each."""
    each, share = [parts[name] for name in settings], np.array(list(settings.values()))
    starts = np.stack([part.weights for part in each])  # (n, q, d)
    rules = tuple(blend_of([part.rules[j] for part in each], share, starts[:, j]) for j in range(starts.shape[1]))
    return Found(np.einsum("a,aqd->qd", share, starts), rules, settings)
