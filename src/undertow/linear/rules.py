r"""Rules of adaptation as values: from omega and a task's support rows to the task's own weights theta.

``GradientRule`` takes k steps of a signed rate; ``ProximalRule`` solves ridge regression towards omega, with one
penalty or with one for each direction (a mixed model's prediction); ``BlendRule`` combines several of these, each from
a starting point of its own. All are linear in omega.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from undertow._batch import TaskBatch
from undertow._types import Covariance, Shares, Starts, TaskWeights, Vector
from undertow.linear.gradient_step import adapt
from undertow.linear.proximal_step import ridge_adapt


@dataclass(frozen=True)
class GradientRule:
    """theta = omega - rate * gradient of half the mean squared support error, ``steps`` times.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> tasks = ut.MixedLinearRegression(n_features=2).sample(ut.Design(n_tasks=3, n_support=5, n_query=1), seed=0)
    >>> ut.GradientRule(rate=0.2, steps=3).adapt(np.zeros(2), tasks).shape
    (3, 2)
    """

    rate: float
    """raw rate, of either sign"""
    steps: int = 1

    def adapt(self, weights: Vector, tasks: TaskBatch) -> TaskWeights:
        """Return theta (m, d) from omega (d,)."""
        if self.rate == 0:
            return np.repeat(weights[None], tasks.n_tasks, axis=0)
        with warnings.catch_warnings():
            # A negative rate was warned of when the estimator was fitted.
            warnings.filterwarnings("ignore", message="adapt_rate=.* is negative", category=UserWarning)
            return adapt(weights, tasks, self.rate, self.steps)


@dataclass(frozen=True, eq=False)
class ProximalRule:
    """theta = argmin of half the squared support error + ratio/2 (theta - omega)^T C^-1 (theta - omega).

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> tasks = ut.MixedLinearRegression(n_features=2).sample(ut.Design(n_tasks=3, n_support=5, n_query=1), seed=0)
    >>> theta = ut.ProximalRule(ratio=2.0).adapt(np.zeros(2), tasks)
    >>> x, y = tasks.support_x[0], tasks.support_y[0]
    >>> bool(np.allclose(theta[0], np.linalg.solve(x.T @ x + 2.0 * np.eye(2), x.T @ y)))
    True
    """

    ratio: float
    """noise over task variance, or the noise variance where there is a ``covariance``; infinity: no adaptation; below 0
    the task variance is negative, and theta moves away from the rows: see ``ridge_adapt``"""
    covariance: Covariance | None = None
    """C, (d,) or (d, d); None for the identity"""
    train_ratio: float = math.inf
    """ratio of the same rule as an inner loop of training; infinity: none"""
    reach: float = math.inf
    """of a negative ratio: largest eigenvalue of X C X^T up to which a task is adapted"""

    def adapt(self, weights: Vector, tasks: TaskBatch) -> TaskWeights:
        """Return theta (m, d) from omega (d,)."""
        if math.isinf(self.ratio):
            return np.repeat(weights[None], tasks.n_tasks, axis=0)
        return ridge_adapt(weights, tasks, self.ratio, self.covariance, self.reach)


@dataclass(frozen=True, eq=False)
class BlendRule:
    """theta = omega + sum_a share_a (theta_a - omega_a), where part a adapts from omega_a by its own rule.

    ``blend_of`` makes it from the strategies' rules: with omega = sum_a share_a omega_a over all of them theta is the
    combination of their theta_a. Those that do not adapt are in omega only.
    """

    parts: tuple[GradientRule | ProximalRule, ...]
    shares: Shares
    """(n,) at least 0"""
    starts: Starts
    """(n, d) omega_a"""

    def adapt(self, weights: Vector, tasks: TaskBatch) -> TaskWeights:
        """Return theta (m, d) from omega (d,)."""
        theta = np.repeat(weights[None], tasks.n_tasks, axis=0)
        for rule, share, start in zip(self.parts, self.shares, self.starts, strict=True):
            start = start.astype(theta.dtype)
            theta += theta.dtype.type(share) * (rule.adapt(start, tasks) - start)
        return theta

    def after(self, task: TaskBatch) -> BlendRule:
        """Return the rule whose parts start where ``adapt`` to this one task has taken them, for further rows."""
        starts = [rule.adapt(start, task)[0] for rule, start in zip(self.parts, self.starts, strict=True)]
        return BlendRule(self.parts, self.shares, np.array(starts).reshape(self.starts.shape))


def blend_of(rules: Sequence[Rule], shares: Shares, starts: Starts) -> BlendRule:
    """Return the blend of rules with their shares (n,) and starting points (n, d), in as few parts as will do.

    All is linear in the starting point, so parts that move alike are one part from a mean of their starting points.
    """
    groups: dict[Any, list[int]] = {}
    for i, rule in enumerate(rules):
        if isinstance(rule, BlendRule):
            raise TypeError("a blend of blends: give the parts themselves.")
        if isinstance(rule, GradientRule):
            if rule.rate != 0:
                # A single step is linear in its rate too.
                groups.setdefault(("gradient", rule.steps, rule.rate > 0 if rule.steps == 1 else rule.rate), []).append(
                    i
                )
        elif math.isfinite(rule.ratio):
            groups.setdefault(("proximal", rule.ratio, id(rule.covariance), rule.reach), []).append(i)
    parts: list[GradientRule | ProximalRule] = []
    sums, points = [], []
    for members in groups.values():
        first, own = rules[members[0]], shares[members]
        total, weight = float(own.sum()), own
        if isinstance(first, GradientRule) and first.steps == 1:
            weight = own * [rules[i].rate for i in members]  # type: ignore[union-attr]
            first = GradientRule(float(weight.sum()) / total)
        parts.append(first)  # type: ignore[arg-type]
        sums.append(total)
        points.append(weight @ starts[members] / weight.sum())
    return BlendRule(tuple(parts), np.array(sums), np.array(points).reshape(len(parts), starts.shape[1]))


Rule: TypeAlias = GradientRule | ProximalRule | BlendRule
