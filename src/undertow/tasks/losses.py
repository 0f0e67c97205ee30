"""Losses of held-out tasks under each strategy: what strategies are compared by, in pairs, task by task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from undertow import _check
from undertow._types import Counts, Ids, Losses, PerTask

WEIGHTINGS = ("tasks", "rows")
"""What counts once in a mean over tasks: each task, or each of their query rows."""
# Per cent of the held-out loss. With many tasks a smaller difference can be told from chance, but not put to use.
NEGLIGIBLE = 0.5


@dataclass(frozen=True, eq=False)
class TaskLosses:
    """Mean squared error, in standardised units, of each task that neither fit nor choice has seen.

    Examples
    --------
    >>> import numpy as np
    >>> from undertow.choice import TaskLosses
    >>> mse = np.array([[1.0, 0.8], [0.9, 1.0]])
    >>> losses = TaskLosses(("joint", "step"), np.array(["a", "b"]), mse, weights=np.ones(2), rows=np.array([7, 4]))
    >>> losses.gains("step", base="joint").round(1).tolist()
    [0.2, -0.1]
    """

    names: tuple[str, ...]
    """(n,) strategies, such as "joint" (common weights, nothing adapted), "signed", "ridge", "mixed_full"; a search
    adds "no_rows", the prediction of tasks without rows"""
    task_ids: Ids
    """(m,) tasks"""
    mse: Losses
    """(m, n) error of each task under each strategy, mean over its query rows, draws and targets"""
    weights: PerTask
    """(m,) how much each task counts: 1, or with weighting "rows" its query rows, or the sum of their weights"""
    rows: Counts
    """(m,) number of query rows of each task"""

    def of(self, name: str) -> PerTask:
        """Return errors (m,) under one strategy. Raises InputError for a name that was not tried."""
        return self.mse[:, self.names.index(_check.one_of(name, "name", self.names))]

    def gains(self, name: str, base: str = "no_rows") -> PerTask:
        """Return error under ``base`` minus that under ``name``, (m,): what each task gains, negative if it loses."""
        return self.of(base) - self.of(name)


def weights_of(rows: PerTask, weighting: str) -> PerTask:
    """Return how much each task with these query rows counts: 1, or with weighting "rows" as many as they are."""
    return np.asarray(rows, dtype=np.float64) if weighting == "rows" else np.ones(len(rows))


def mean_over_tasks(values: PerTask, weights: PerTask) -> tuple[float, float]:
    """Weighted mean of the tasks' values, and its standard error with tasks as the independent units.

    Where tasks vary alike, with variance s^2, the squared deviation of a task of share h from the mean is on average
    s^2 (1 - 2 h + H), H the sum of all h^2, for it pulls the mean towards itself. Divided by that factor, the variance
    of the mean is unbiased whatever the weights; for equal ones it is that of a plain mean.
    """
    share = weights / weights.sum()
    mean = float(share @ values)
    left = 1.0 - 2.0 * share + share @ share
    # A single task leaves 0, and has nothing to say of how tasks vary.
    squares = np.divide((share * (values - mean)) ** 2, left, out=np.zeros_like(left), where=left > 1e-12)
    return mean, float(np.sqrt(squares.sum()))


def effective_number(weights: PerTask) -> float:
    """Number of equal weights that say as much as these: (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def t_quantile(weights: PerTask, level: float) -> float:
    """Quantile of Student's t for an interval at ``level`` of a weighted mean, by the effective number of tasks.

    Infinity below two tasks in effect, where nothing is known of how tasks vary.
    """
    freedom = effective_number(weights) - 1.0
    return float(stdtrit(freedom, 0.5 + level / 2)) if freedom > 0.999 else math.inf
