"""Adaptation by a generalised linear mixed model, as a value: the mode of a task's weights, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from undertow._batch import TaskBatch
from undertow.mixed.families import FAMILIES, average, count_quantiles
from undertow.mixed.laplace import LinkRows, modes


@dataclass(frozen=True, eq=False)
class LaplaceRule:
    """theta = the likeliest weights given a task's rows, for weights that are normal around omega.

    The last of the d columns is the constant one. A row of weight w comes times its root, the constant with it, as rows
    of weighted tables do everywhere: the square of the constant is the weight, and a padded row of zeros has none.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> x = np.array([[[0.2, 1.0], [1.5, 1.0], [-0.7, 1.0]]])
    >>> y = np.array([[1.0, 1.0, 0.0]])
    >>> rule = ut.mixed.LaplaceRule("binomial", np.array([0.0, 0.5]))
    >>> rule.adapt(np.array([1.0, 0.0]), ut.TaskBatch(x, y, x, y)).round(2).tolist()
    [[1.0, 0.12]]
    """

    family: str
    """a name of ``FAMILIES``"""
    variances: Float[np.ndarray, " d"]
    """(d,) variance of each weight between tasks"""
    low: float = 0.0
    """the smaller of two values; the larger is 1"""

    @property
    def varying(self) -> Int[np.ndarray, " r"]:
        """Numbers of the columns whose weights vary between tasks."""
        return np.flatnonzero(self.variances)

    def adapt(self, weights: Float[np.ndarray, " d"], tasks: TaskBatch) -> Float[np.ndarray, "m d"]:
        """Return theta (m, d) from omega (d,), by the support rows."""
        theta = np.repeat(weights[None].astype(np.float64), tasks.n_tasks, axis=0)
        varying = self.varying
        if len(varying):
            rows, scale = self._rows(tasks), np.sqrt(self.variances[varying])
            fixed = rows.x @ weights.astype(np.float64)
            found = modes(rows, FAMILIES[self.family], fixed, rows.x[:, varying], scale)
            theta[:, varying] += found.v * scale
        return theta.astype(weights.dtype)

    def spread(self, theta: Float[np.ndarray, "m d"], tasks: TaskBatch) -> Float[np.ndarray, "m r r"]:
        """Return the covariance (m, r, r) of tasks' varying weights given their rows, by curvature at theta (m, d)."""
        m, varying = len(theta), self.varying
        rows, scale = self._rows(tasks), np.sqrt(self.variances[varying])
        eta = (rows.x * rows.spread(theta.astype(np.float64))).sum(axis=1)
        root = rows.x[:, varying] * scale * np.sqrt(rows.weights * FAMILIES[self.family].variance(eta))[:, None]
        each = root.reshape(m, tasks.support_x.shape[1], len(varying))
        precision = np.eye(len(varying)) + each.transpose(0, 2, 1) @ each
        return scale[:, None] * np.linalg.inv(precision) * scale

    def variance(
        self, z: Float[np.ndarray, "*rows d"], spread: Float[np.ndarray, "*tasks r r"]
    ) -> Float[np.ndarray, "*rows"]:
        """Return the variance of what is linear at rows z, given the covariance of their varying weights."""
        own = z[..., self.varying].astype(np.float64)
        return np.einsum("...k,...kl,...l->...", own, spread, own).clip(0)

    def mean(self, eta: Float[np.ndarray, " R"], variance: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """Return the mean of a new target where what is linear is normal with mean eta and this variance."""
        return self.low + (1 - self.low) * average(self.family, eta, variance)

    def quantiles(
        self, eta: Float[np.ndarray, " R"], variance: Float[np.ndarray, " R"], share: float
    ) -> Float[np.ndarray, " R"]:
        """Return the least count that a new one is at or below with a probability of ``share``; of counts only."""
        return count_quantiles(eta, variance, share)

    def _rows(self, tasks: TaskBatch) -> LinkRows:
        """Support rows of all tasks, one after the other, without the roots of their weights."""
        m, n, d = tasks.support_x.shape
        x, y = tasks.support_x.reshape(m * n, d).astype(np.float64), tasks.support_y.reshape(m * n).astype(np.float64)
        root = x[:, -1]
        real = root > 0 if tasks.support_mask is None else (root > 0) & tasks.support_mask.reshape(-1)
        by = np.where(real, root, 1.0)
        x, y = np.where(real[:, None], x / by[:, None], 0.0), np.where(real, y / by, self.low)
        y = (y - self.low) / (1 - self.low)
        if self.family == "binomial":
            y = np.round(y)  # the root's rounding
        weights = np.where(real, root**2, 0.0)
        if tasks.support_weight is not None:
            weights *= np.repeat(tasks.support_weight, n)
        return LinkRows(x, y, np.arange(m + 1) * n, weights)
