r"""One step from w_0 on a new task with a rate for each pair of weights: the best matrix, diagonal and number, exact.

With H = Sigma_x, Psi = Sigma_w, n = n_r and S = X'X/n, the step theta = w_0 - Gamma grad L leaves
theta - w = (I - Gamma S)(w_0 - w) + Gamma X'z/n. E S = H and E[S Psi S] = (1 + 1/n) H Psi H + tr(H Psi)/n H give

    L(Gamma) = sigma^2/2 + 1/2 { tr H Psi - 2 tr(H Gamma H Psi) + tr(H Gamma M Gamma') },
    M = [(1 + 1/n) H Psi + c I] H,    c = (tr(H Psi) + sigma^2)/n,

a convex quadratic in Gamma. Its least values: Gamma* = Psi [(1 + 1/n) H Psi + c I]^{-1} over all matrices, which is
symmetric and has no negative eigenvalue; g* with (H o M) g* = diag(H Psi H) over diagonal ones (o: entry by entry), of
either sign; a* = tr(H H Psi)/tr(H M) over numbers. Zhang, Frei, Bartlett, "Trained transformers learn linear models
in-context", JMLR 2024 (arXiv:2306.09927) and Ahn et al., NeurIPS 2023 (arXiv:2306.00297) give Gamma* for equal Psi.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow.problem import Design, MixedLinearRegression
from undertow.theory.expected_loss import n_adapt, sources

STRUCTURES = ("full", "diagonal", "scalar")


def optimal_matrix_rate(problem: MixedLinearRegression, design: Design, structure: str = "full") -> np.ndarray:
    """Return the rate of the best step from w_0 on a new task with n_r rows: closed-form Meta-SGD.

    Parameters
    ----------
    problem, design
        p, sigma, and the covariances; n_r.
    structure
        "full", a matrix Gamma (p, p) that multiplies the gradient of the support loss; "diagonal", one rate for
        each weight (p,), which is not the diagonal of that matrix and may hold negative rates where inputs are
        correlated; "scalar", one number (), the best adapt rate of a start at w_0.

    Raises
    ------
    InputError
        for another structure.

    Notes
    -----
    The matrix is Psi [(1 + 1/n) H Psi + c I]^{-1}, where H = Sigma_x, Psi = Sigma_w, n = n_r and c = (tr(H Psi) +
    sigma^2)/n; docs/explanation/beyond.md has the others and the derivation. To start elsewhere, add the second moment
    of (start - w_0) to the problem's task_covariance.

    References
    ----------
    For equal variances of the weights: Zhang, Frei, Bartlett, JMLR 2024 (arXiv:2306.09927); Ahn et al., NeurIPS 2023
    (arXiv:2306.00297).

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=2, task_covariance=np.array([1.0, 0.0]))
    >>> design = ut.Design(n_tasks=10, n_support=5, n_query=5)
    >>> ut.theory.optimal_matrix_rate(problem, design, "diagonal").round(3).tolist()
    [0.625, 0.0]
    """
    _check.one_of(structure, "structure", STRUCTURES)
    h, psi, m, c = _moments(problem, design)
    if c == 0:  # all tasks are w_0 and there is no noise: no step changes anything
        return np.zeros({"full": psi.shape, "diagonal": psi.shape[:1], "scalar": ()}[structure])
    if structure == "full":
        n = n_adapt(design)
        found = np.linalg.solve(((1 + 1 / n) * h @ psi + c * np.eye(len(h))).T, psi).T
        return (found + found.T) / 2
    if structure == "diagonal":
        # Directions without input change nothing: the least of many solutions.
        return np.linalg.lstsq(h * m, np.diag(h @ psi @ h), rcond=None)[0]
    return np.asarray(np.trace(h @ psi @ h) / np.trace(h @ m))


def step_loss(problem: MixedLinearRegression, design: Design, rate: Any) -> float:
    """Return the expected test loss, half a mean squared error, after one step from w_0 on n_r rows of a new task.

    Parameters
    ----------
    problem, design
        p, sigma, and the covariances; n_r.
    rate
        any number, one for each weight (p,), or a matrix (p, p) that multiplies the gradient; exact at all sizes.

    Raises
    ------
    InputError
        for another shape.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> [round(float(ut.theory.step_loss(problem, design, rate)), 3) for rate in (0.0, 0.05)]
    [0.625, 0.618]
    """
    h, psi, m, _ = _moments(problem, design)
    p = len(h)
    gamma = _check.numbers(rate, "rate")
    if gamma.shape not in ((), (p,), (p, p)):
        raise InputError(None, rule=f"rate has shape {gamma.shape}: it must be a number, ({p},) or ({p}, {p}).")
    gamma = gamma if gamma.ndim == 2 else np.diag(np.broadcast_to(gamma, p))
    _, noise2 = sources(problem)
    change = np.trace(h @ gamma @ m @ gamma.T) - 2 * np.trace(h @ gamma @ h @ psi)
    return float(noise2 + np.trace(h @ psi) + change) / 2


def covariances(problem: MixedLinearRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return Sigma_x and Sigma_w as (p, p) matrices."""
    p, task2 = problem.n_features, sources(problem)[0]
    given = (problem.input_covariance, problem.task_covariance)
    h, psi = (
        scale * np.eye(p) if one is None else np.diag(one) if one.ndim == 1 else np.asarray(one)
        for one, scale in zip(given, (1.0, task2 / p), strict=True)
    )
    return h, psi


def _moments(problem: MixedLinearRegression, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """H, Psi, M and c of the head of this file."""
    h, psi = covariances(problem)
    n = n_adapt(design)
    c = float(np.trace(h @ psi) + sources(problem)[1]) / n
    return h, psi, (1 + 1 / n) * h @ psi @ h + c * h, c
