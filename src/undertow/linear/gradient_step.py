r"""Exact adaptation: k gradient steps of a linear model on a task's support rows, from the meta-learned weights."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import PerTask, TaskWeights
from undertow.linear.blocks import one_batch, trace_nonfinite


def adapt(weights: Any, tasks: TaskBatch, adapt_rate: float, steps: int = 1) -> TaskWeights:
    """Return the adapted weights theta of each task, (m, p).

    theta = omega - adapt_rate * gradient of half the mean squared error on the support rows, ``steps`` times.

    Parameters
    ----------
    weights
        omega, (p,), or (m, p) for a starting point per task.
    tasks
        the steps are on their support rows.
    adapt_rate
        raw rate. A negative rate is taken but warns: it moves up the loss of the new task, and the optimum is never
        negative.
    steps
        number of steps.

    Raises
    ------
    InputError
        for shapes that do not fit and for a rate that is not finite.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> tasks = ut.MixedLinearRegression(n_features=2).sample(ut.Design(n_tasks=3, n_support=5, n_query=1), seed=0)
    >>> ut.linear.adapt(np.zeros(2), tasks, adapt_rate=0.1).shape
    (3, 2)
    """
    rate = _check.real(adapt_rate, "adapt_rate", hint="A rate may have either sign.")
    steps = _check.whole_number(steps, "steps")
    tasks = one_batch(tasks)
    m, p = tasks.n_tasks, tasks.n_features
    start = _check.numbers(weights, "weights") if not isinstance(weights, np.ndarray) else weights
    if start.shape not in ((p,), (m, p)):
        rule = f"weights have shape {start.shape}: with these tasks they must be ({p},) or ({m}, {p})."
        raise InputError(None, rule=rule)
    if rate < 0:
        warnings.warn(
            f"adapt_rate={rate:g} is negative: the step moves away from the new task's data. The best adapt rate "
            "is never negative on average; a negative rate is for meta-training (train_rate).",
            stacklevel=2,
        )
    x, y = tasks.support_x, tasks.support_y
    if tasks.support_mask is not None:
        x, y = np.where(tasks.support_mask[..., None], x, 0), np.where(tasks.support_mask, y, 0)
    theta = np.broadcast_to(start, (m, p)).astype(np.result_type(x, start, np.float32), copy=True)
    step = (rate / tasks.support_counts)[:, None].astype(theta.dtype)
    for _ in range(steps):
        error = (x @ theta[..., None])[..., 0] - y
        theta -= step * (x.transpose(0, 2, 1) @ error[..., None])[..., 0]
    if not np.isfinite(theta).all():
        trace_nonfinite(theta, tasks)
    return theta


def stability_limit(tasks: TaskBatch) -> PerTask:
    """Return 2 / lambda_max of each task's S = X_t^T X_t / n_t, (m,): positive rates below it shrink the error.

    At a larger rate an inner step overshoots and repeated steps diverge. Infinite for a task whose inputs are all zero.

    Parameters
    ----------
    tasks
        a TaskBatch; support rows count.

    Examples
    --------
    >>> import undertow as ut
    >>> tasks = ut.MixedLinearRegression(n_features=2).sample(ut.Design(n_tasks=3, n_support=50, n_query=1), seed=0)
    >>> ut.linear.stability_limit(tasks).round(1).tolist()
    [1.7, 1.8, 1.3]
    """
    tasks = one_batch(tasks)
    x = tasks.support_x
    if tasks.support_mask is not None:
        x = np.where(tasks.support_mask[..., None], x, 0)
    # The largest singular value from the smaller side's Gram: n_t is small, and p need not be.
    gram = x @ x.transpose(0, 2, 1) if x.shape[1] <= x.shape[2] else x.transpose(0, 2, 1) @ x
    top = np.linalg.eigvalsh(gram)[:, -1] / tasks.support_counts
    return np.divide(2.0, top, out=np.full(len(top), np.inf), where=top > 0)
