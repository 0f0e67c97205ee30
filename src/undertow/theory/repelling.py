r"""Where rates, ridges and variances are negative on the test side: rows that repel each other, and spiked inputs.

Rows of a group with equal variances and correlation rho predict another row of it by n rho / (1 + (n - 1) rho) times
the mean of n of them: the best adapt rate of an intercept that starts at the mean, negative where rho is. It is
n / (n + ratio) for the ratio (1 - rho)/rho of the variance within to that of a random intercept, which is rho times
that of a row: three names of one number. Groups of N rows that sum to zero have rho = -1/(N - 1) and the rate
-n/(N - n).

Ridge regression towards w_0 on n rows, theta = argmin |y - X theta|^2 + ratio |theta - w_0|^2, has for large p and n

    L = [sigma^2 + kappa^2 sum_i psi_i h_i/(h_i + kappa)^2] / 2 / (1 - df_2/n),     df_k = sum_i (h_i/(h_i + kappa))^k,
    ratio/n = kappa (1 - df_1/n),

h_i the eigenvalues of Sigma_x and psi_i the variances of the weights along its eigenvectors; also for the negative
ratios above the one at which df_2 = n. Sources: Hastie et al., Ann. Statist. 50 (2022); Kobak, Lomond and Sanchez, "The
optimal ridge penalty for real-world high-dimensional data can be zero or negative", JMLR 2020 (arXiv:1805.10939).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

from undertow import _check
from undertow._check import InputError
from undertow.problem import Design, MixedLinearRegression
from undertow.theory.expected_loss import n_adapt as n_rows
from undertow.theory.expected_loss import sources
from undertow.theory.matrix_rate import covariances


def group_rate(correlation: Any, n_adapt: int) -> float | np.ndarray:
    """Return the best adapt rate of an intercept on n_r rows whose ``correlation`` within a group is of either sign.

    Parameters
    ----------
    correlation
        () or (k,), from -1/n_r (rows of a group that has one more and sums to zero) to 1.
    n_adapt
        n_r, rows of the new group.

    Raises
    ------
    InputError
        for a correlation that n_r + 1 rows cannot have.

    Examples
    --------
    >>> import undertow as ut
    >>> [round(float(ut.theory.group_rate(correlation, n_adapt=4)), 3) for correlation in (-0.1, 0.0, 0.5)]
    [-0.571, 0.0, 0.8]
    """
    n, rho = _check.whole_number(n_adapt, "n_adapt"), _check.numbers(correlation, "correlation")
    if (rho < -1 / n - 1e-12).any() or (rho > 1).any():
        raise InputError("correlation", correlation, f"{n + 1} rows can have correlations from -1/{n} to 1.")
    rate = n * rho / (1 + (n - 1) * rho)
    return float(rate) if rate.ndim == 0 else rate


def proximal_loss(problem: MixedLinearRegression, design: Design, ratio: Any) -> float | np.ndarray:
    """Return the expected loss on a new task by ridge regression towards w_0 on its n_r rows, for large p and n_r.

    Parameters
    ----------
    problem
        the inputs' and the tasks' covariances, and the noise.
    design
        its ``n_adapt`` rows of a new task count.
    ratio
        () or (k,), of either sign: the penalty beside the sum of squares, as in ProximalRule.

    Raises
    ------
    InputError
        below the edge of the spectrum, where some of these regressions have no minimum; with no more directions than
        rows, for every negative ratio.

    Notes
    -----
    With ratio/n = kappa (1 - df_1/n) and df_k = sum_i (h_i/(h_i + kappa))^k it is
    [sigma^2 + kappa^2 sum_i psi_i h_i/(h_i + kappa)^2] / 2 / (1 - df_2/n), n = n_r, h_i the eigenvalues of Sigma_x and
    psi_i the variances of the weights along its eigenvectors. The error is of order 1/n_r.

    References
    ----------
    Hastie et al., Ann. Statist. 50 (2022); Kobak, Lomond and Sanchez, JMLR 2020 (arXiv:1805.10939).

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> ut.theory.proximal_loss(problem, design, [10.0, 100.0]).round(3).tolist()
    [0.727, 0.623]
    """
    h, psi = covariances(problem)
    values, vectors = np.linalg.eigh(h)
    seen = values > 1e-12 * values.max()  # the others never come up
    spread, n = np.einsum("pi,pq,qi->i", vectors, psi, vectors)[seen], n_rows(design)
    values = values[seen]
    ridges, edge = _check.numbers(ratio, "ratio") / n, _edge(values, n)
    lowest = edge * (1 - (values / (values + edge)).sum() / n) if edge else 0.0
    if (ridges <= lowest if edge else ridges < 0).any():
        least = f"above {n * lowest:.4g}" if edge else "at least 0"
        raise InputError("ratio", ratio, f"with {n} rows of these inputs it must be {least}.")
    kappas = np.array([_kappa(values, n, float(one), edge) for one in ridges.ravel()]).reshape(ridges.shape)
    shrunk = values / (values + kappas[..., None])
    bias = (spread * values * (1 - shrunk) ** 2).sum(axis=-1)
    loss = (sources(problem)[1] + bias) / 2 / (1 - (shrunk**2).sum(axis=-1) / n)
    return float(loss) if loss.ndim == 0 else loss


def _edge(values: np.ndarray, n: int) -> float:
    """kappa at which df_2 = n, where the ridge is least; 0 with fewer directions than rows."""
    if len(values) <= n:
        return 0.0
    top = values.max() * len(values)
    return _root(lambda k: ((values / (values + k)) ** 2).sum() - n, 1e-12 * top, top)


def _kappa(values: np.ndarray, n: int, ridge: float, edge: float) -> float:
    """The larger solution of ridge = kappa (1 - df_1/n)."""
    top = max(ridge, 0.0) + values.sum() / n + edge
    return _root(lambda k: k * (1 - (values / (values + k)).sum() / n) - ridge, edge, top * 1.000001)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of a function that changes its sign between two numbers."""
    return float(brentq(function, low, high, xtol=1e-14))  # type: ignore[arg-type]
