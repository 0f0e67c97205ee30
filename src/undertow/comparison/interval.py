r"""The difference between two rivals on held-out tasks, with a standard error that allows for shared training tasks.

Task i has a difference :math:`d_i` of losses under fits that have not seen it, a share :math:`h_i` of the weight (1/m
each by default), and :math:`\bar d = \sum h_i d_i`. If the :math:`d_i` were independent, the variance of
:math:`\bar d` would be :math:`V = \sum h_i^2 (d_i - \bar d)^2 / (1 - 2 h_i + H)` with :math:`H = \sum h_i^2` (see
``mean_over_tasks``). They are not: the fits of K folds share most of their training tasks, and the difference is wanted
for new training tasks too. Nadeau and Bengio ("Inference for the generalization error", Machine Learning 52, 2003)
replace :math:`1/J`, for J splits, by :math:`1/J + n_2/n_1` with
:math:`n_2` test and :math:`n_1` training units. Here J = K and :math:`n_2/n_1 = 1/(K-1)`, so :math:`V` becomes
:math:`V (1 + K/(K-1))`, with the spread of tasks in place of that of folds and :math:`1 / \sum h_i^2 - 1` degrees of
freedom, m - 1 for equal weights. With repeats :math:`d_i` is the task's mean over them; the factor stays (Bouckaert and
Frank, PAKDD 2004, do the same for folds), since repeats bring no new tasks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from undertow.tasks.losses import mean_over_tasks, t_quantile


class Difference(NamedTuple):
    """Mean loss of one rival minus that of another, in units of the target's variance.

    Examples
    --------
    >>> from undertow.comparison import Difference
    >>> Difference(estimate=-0.02, standard_error=0.008, low=-0.036, high=-0.004).significant
    True
    """

    estimate: float
    standard_error: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


def correction(n_folds: int) -> float:
    """What a variance over tasks is multiplied by, 1 + K / (K - 1)."""
    return 1 + n_folds / (n_folds - 1)


def corrected(values: np.ndarray, weights: np.ndarray, n_folds: int, level: float) -> Difference:
    """Return the mean of differences (m,) of tasks with their weights (m,), with its corrected interval."""
    mean, error = mean_over_tasks(values, weights)
    error *= math.sqrt(correction(n_folds))
    bound = t_quantile(weights, level)
    return Difference(mean, error, mean - bound * error, mean + bound * error)
