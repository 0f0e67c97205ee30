r"""Few distinct tasks, each drawn several times: the expected distance and loss, from those of as many distinct tasks.

m tasks, each drawn R times with rows and noise of its own, make M = m R data sets. omega* - w_0 is sum_d C_d u_{t(d)}
plus noise, with matrices C_d that depend on the inputs alone and whose sum is the identity (N > p) or the projector
on the N rows (N < p). So the mean of tr C_d'C_e is one number for d = e and one for all d != e, and the two are tied by
that sum: with T_M the task part of M distinct tasks,

    T = T_M + (R - 1)/(M - 1) (nu^2 min(N/p, 1) - T_M),

exact at every rate, size and number of inner steps. The noise part is that of M tasks, the part of omega_0 too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow.problem import Design, MixedLinearRegression
from undertow.theory import adapted_loss
from undertow.theory.expected_loss import expected_distance, n_adapt, sources, together


def repeated_distance(
    problem: MixedLinearRegression,
    design: Design,
    n_draws: int,
    train_rate: Any,
    init_distance: Any = 0.0,
    method: str = "auto",
    *,
    steps: Any = 1,
) -> float | np.ndarray:
    """Return Q = E|omega* - w_0|^2 where each of the design's tasks is drawn ``n_draws`` times.

    Parameters
    ----------
    problem, design, train_rate, init_distance, method, steps
        as in ``expected_distance``, for isotropic inputs. ``design.n_tasks`` counts distinct tasks; the outer problem
        has n_draws as many data sets.
    n_draws
        R, how often each task is drawn, with rows and noise of its own.

    Returns
    -------
    float or (k,) array

    Raises
    ------
    InputError
        for a general input covariance, and as ``expected_distance`` does.

    Notes
    -----
    With the task part T_M of M = m R distinct tasks, the task part is T = T_M + (R - 1)/(M - 1) (nu^2 min(N/p, 1) -
    T_M); the derivation is in docs/explanation/beyond.md.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> [round(float(ut.theory.repeated_distance(problem, design, n, train_rate=-1.0)), 3) for n in (1, 4)]
    [0.084, 0.489]
    """
    draws = _check.whole_number(n_draws, "n_draws")
    if problem.input_covariance is not None:
        raise InputError("input_covariance", rule="repeated tasks are known for isotropic inputs only.")
    many = replace(design, n_tasks=design.n_tasks * draws)
    total = expected_distance(problem, many, train_rate, init_distance, method, steps=steps)
    if draws == 1:
        return total
    still = replace(problem, task_std=0.0)
    with np.errstate(invalid="ignore"):
        tasks = np.asarray(total) - expected_distance(still, many, train_rate, init_distance, method, steps=steps)
        whole = sources(problem)[0] * min(many.n_query_rows / problem.n_features, 1.0)
        found = np.where(np.isfinite(total), total + (draws - 1) / (many.n_tasks - 1) * (whole - tasks), np.inf)
    return float(found) if found.ndim == 0 else found


def repeated_loss(
    problem: MixedLinearRegression,
    design: Design,
    n_draws: int,
    train_rate: Any,
    adapt_rate: Any,
    init_distance: Any = 0.0,
    method: str = "auto",
    *,
    steps: Any = 1,
) -> float | np.ndarray:
    """Return the expected test loss, half a mean squared error, where each of the tasks is drawn ``n_draws`` times.

    Parameters
    ----------
    problem, design, n_draws, train_rate, init_distance, method, steps
        as in ``repeated_distance``.
    adapt_rate
        of the step on a new task, which is none of the m; broadcasts with train_rate.

    Returns
    -------
    float or array

    Raises
    ------
    InputError
        as ``repeated_distance`` does.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> round(float(ut.theory.repeated_loss(problem, design, n_draws=4, train_rate=-1.0, adapt_rate=0.1)), 3)
    0.825
    """
    adapt = _check.rates(adapt_rate, "adapt_rate")
    together(_check.rates(train_rate, "train_rate", infinite=True), adapt)
    q = np.asarray(repeated_distance(problem, design, n_draws, train_rate, init_distance, method, steps=steps))
    loss = adapted_loss.loss(problem.n_features, n_adapt(design), adapt, q, *sources(problem))
    return float(loss) if np.ndim(loss) == 0 else loss
