"""The least possible loss on a new task: that of whoever knows the problem itself (the Bayes risk)."""

from __future__ import annotations

import numpy as np

from undertow import _check
from undertow.problem import Design, MixedLinearRegression
from undertow.theory.expected_loss import n_adapt
from undertow.theory.matrix_rate import covariances


def least_loss(problem: MixedLinearRegression, design: Design, draws: int = 400) -> float:
    """Return the least expected loss, half a mean squared error, on a new task with n_r rows, by any method.

    Given w_0, Sigma_w, Sigma_x and sigma, the best prediction is the posterior mean of the task's weights (the BLUP):
    L = [sigma^2 + E tr(Sigma_x C)] / 2 with C = Sigma_w - Sigma_w X' (X Sigma_w X' + sigma^2 I)^{-1} X Sigma_w the
    posterior covariance. The mean over X is one over ``draws`` draws of a fixed seed; docs/explanation/beyond.md says
    how far it scatters. For weights and noise that are not normal it is the least loss of any prediction that is linear
    in the labels.

    Parameters
    ----------
    problem, design
        p, sigma, and the covariances; n_r.
    draws
        number of draws of the rows X.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> round(ut.theory.least_loss(problem, design), 2)
    0.62
    """
    draws = _check.whole_number(draws, "draws")
    n, (h, psi) = n_adapt(design), covariances(problem)
    values, vectors = np.linalg.eigh(h)
    x = np.random.default_rng(0).standard_normal((draws, n, len(h))) * np.sqrt(values.clip(0)) @ vectors.T
    seen = x @ psi
    gram = seen @ x.swapaxes(-1, -2) + problem.noise_std**2 * np.eye(n)
    # Without noise, rows beyond the number of features repeat what is known: the pseudoinverse leaves them out.
    known = seen.swapaxes(-1, -2) @ np.linalg.pinv(gram, hermitian=True) @ seen
    return float((problem.noise_std**2 + np.trace((psi - known.mean(axis=0)) @ h)) / 2)
