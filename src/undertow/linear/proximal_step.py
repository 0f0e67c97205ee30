r"""The proximal rule of adaptation: ridge regression of a task's support rows towards the common weights.

.. math:: \theta = \arg\min_\theta \tfrac12 |y_t - X_t \theta|^2 + \tfrac{\kappa}{2} |\theta - \omega|^2
          = \omega + X_t^T (X_t X_t^T + \kappa I)^{-1} (y_t - X_t \omega) .

In half the *mean* squared error the penalty is :math:`\kappa / n_t`: it falls with the number of support rows. The
number that all tasks share is :math:`\kappa = \sigma^2 / \tau^2`, noise variance over the variance of a weight over
tasks; with it the rule is the mixed model's prediction (BLUP) for weights that vary by :math:`\tau^2 I` around
:math:`\omega`. With a ``task_covariance`` C the penalty is :math:`(\theta - \omega)^T C^{-1} (\theta - \omega)`, for
instance one per feature.

:math:`\theta` is linear in :math:`\omega`, so as an inner rule at training it leaves the outer problem linear,
:math:`B \omega \approx \gamma`: one eigendecomposition of each task's support Gram matrix, on its smaller side,
serves all ratios. :math:`\kappa = \infty` is no inner step. Source: iMAML's proximal inner problem (Rajeswaran et
al., NeurIPS 2019), here in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import RatioGrams, RatioLosses, Ridges, TaskWeights
from undertow.linear.blocks import Tasks, as_batches, row_weights, trace_nonfinite
from undertow.linear.ridge_solve import (
    CHUNK_NUMBERS,
    checked_ratios,
    covariance_root,
    eigen,
    eliminated,
    inverse,
    masked,
    scaled,
    solve_small,
    unscaled,
    weighed,
    well_shifted,
)
from undertow.linear.solvers import Fit, outcomes, positive_solve

RATIOS = (*(float(r) for r in np.geomspace(1e-2, 1e4, 13)), float("inf"))
"""Noise over task variance, from next to none to no adaptation: half a decade apart, for standardised features."""


def ridge_adapt(
    weights: Any, tasks: TaskBatch, ratio: float, task_covariance: Any = None, reach: float = math.inf
) -> TaskWeights:
    """Return the adapted weights theta of each task, (m, p).

    Parameters
    ----------
    weights
        omega, (p,), or (m, p) for a starting point per task.
    ratio
        kappa, noise variance over task variance (with a ``task_covariance`` that is the covariance itself: the
        noise variance). 0 fits the support rows exactly where it can, staying as near to omega as possible;
        math.inf returns omega. Below 0 the task variance is negative, rows of a task repel each other, and theta
        moves away from them.
    task_covariance
        (p,) or (p, p); None means the identity.
    reach
        of a negative ratio: a task is adapted where the largest eigenvalue of X C X^T is below both this and
        -kappa, beyond which no such task can be; any other keeps its starting point.

    Raises
    ------
    InputError
        for shapes that do not fit and for a ratio that is no number.
    """
    tasks.validate()
    m, p = tasks.n_tasks, tasks.n_features
    start = np.asarray(weights)
    if start.shape not in ((p,), (m, p)):
        rule = f"weights have shape {start.shape}: with these tasks they must be ({p},) or ({m}, {p})."
        raise InputError(None, rule=rule)
    kappa = float(checked_ratios(ratio, negative=True)[0])
    root = covariance_root(task_covariance, p)
    x, y = weighed(tasks)
    theta = np.broadcast_to(start, (m, p)).astype(np.result_type(x, start), copy=True)
    if np.isinf(kappa):
        return theta
    rest = y - (x @ theta[..., None])[..., 0]
    theta += unscaled(solve_small(scaled(x, root), rest, kappa, reach), root)
    return theta


@dataclass(frozen=True)
class RidgeMoments:
    """Sufficient statistics of the outer problem under the proximal rule, for a grid of ratios; ``a + b`` adds tasks.

    They serve twice: ``solve`` trains omega with the rule as inner rule, and ``loss`` gives the query loss of any omega
    after adaptation by the rule, since both are quadratic forms of the same matrix.
    """

    ratios: Ridges
    """(r,) kappa, noise over task variance"""
    gram: RatioGrams
    """(r, p + 1, p + 1) [B, gamma]^T [B, gamma] summed over query rows"""
    weight: float
    """total weight of the query rows (their number, or the number of tasks when tasks weigh alike)"""
    n_rows: int
    n_tasks: int
    eps: float
    """unit roundoff of the precision in which the sums were made"""

    @classmethod
    def from_tasks(
        cls,
        tasks: Tasks,
        ratios: Sequence[float] | Ridges = RATIOS,
        task_covariance: Any = None,
        weighting: str = "rows",
        reach: float = math.inf,
    ) -> RidgeMoments:
        """Make them in one pass over a TaskBatch, or over several.

        ratios: kappa, math.inf included; below 0 with ``reach`` as in ``ridge_adapt``. task_covariance: (p,) or (p, p)
        shape of the penalty; None means the identity. weighting: "rows" or "tasks", what counts once. To weigh rows of
        a task, multiply support and query rows, target included, by the square root of their weight.

        Raises InputError when the tasks do not fit together or hold values that are not finite.
        """
        grid = checked_ratios(ratios, negative=True)
        batches = as_batches(tasks)
        root = covariance_root(task_covariance, batches[0].n_features)
        return sum_ridge_moments([_of_batch(batch, grid, root, weighting, reach) for batch in batches])

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return self.gram.shape[1] - 1

    def at_ratio(self, position: int) -> RidgeMoments:
        """Return the moments at one ratio of the grid alone."""
        part = slice(position, position + 1)
        return replace(self, ratios=self.ratios[part], gram=self.gram[part])

    def solve(self, ridge: float | Sequence[float] = 0.0, init: Any = None) -> Fit:
        """Return the trained omega (r, s, p) for each ratio and each of s ridges, with outcomes.

        ridge: times tr(B^T B) / p is the penalty on |omega - init|^2; at 0 the solution nearest to ``init`` (p,) is
        returned, which is zero for None. Raises InputError for a negative ridge or a shape that does not fit.
        """
        p = self.n_features
        ridges = np.atleast_1d(np.asarray(ridge, dtype=np.float64))
        if ridges.ndim > 1 or not np.isfinite(ridges).all() or (ridges < 0).any():
            raise InputError("ridge", ridge, "it must be finite and at least 0.")
        start = np.zeros(p) if init is None else np.asarray(init, dtype=np.float64)
        if start.shape != (p,):
            raise InputError(None, rule=f"init has shape {start.shape}: with these moments it must be ({p},).")
        shift = np.eye(p + 1)
        shift[:p, p] = -start
        gram = shift.T @ self.gram @ shift
        matrix, right = gram[:, :p, :p], gram[:, :p, p]
        shifts = np.trace(matrix, axis1=1, axis2=2)[:, None] * ridges / p
        step, condition, rank = positive_solve(matrix, right, shifts, self.eps)
        weights = start + step
        residual = 2 * self.weight * self._forms(weights)
        return Fit(weights, residual, outcomes(rank, p, condition**2, ridges, self.eps), condition, rank)

    def loss(self, weights: Any) -> RatioLosses:
        """Return half the mean squared query error after adaptation, at each ratio.

        weights: omega, (p,) or (s, p) tried at every ratio, or (r, s, p) with those of each ratio. Returns (r,) or
        (r, s). Raises InputError for another shape.
        """
        p = self.n_features
        array = np.asarray(weights, dtype=np.float64)
        if array.shape[-1:] != (p,) or array.ndim > 3 or (array.ndim == 3 and len(array) != len(self.ratios)):
            rule = f"weights have shape {array.shape}: they must be ({p},), (s, {p}) or ({len(self.ratios)}, s, {p})."
            raise InputError(None, rule=rule)
        losses = self._forms(array if array.ndim == 3 else np.atleast_2d(array))
        return losses[:, 0] if array.ndim == 1 else losses

    def _forms(self, weights: np.ndarray) -> np.ndarray:
        v = np.concatenate([weights, np.full((*weights.shape[:-1], 1), -1.0)], axis=-1)
        return 0.5 * ((v @ self.gram) * v).sum(axis=-1).clip(0) / self.weight

    def __add__(self, other: RidgeMoments) -> RidgeMoments:
        if not isinstance(other, RidgeMoments):
            return NotImplemented
        return sum_ridge_moments([self, other])


def sum_ridge_moments(parts: Iterable[RidgeMoments]) -> RidgeMoments:
    """Return the moments of all tasks of the parts together. Raises InputError when ratios or shapes differ."""
    parts = list(parts)
    first = parts[0]
    if any(part.gram.shape != first.gram.shape or (part.ratios != first.ratios).any() for part in parts):
        rule = "moments of different ratios or features cannot be added."
        raise InputError(None, rule=rule, way_out="Use the same for all.")
    if len(parts) == 1:
        return first
    sums: Any = {name: sum(getattr(part, name) for part in parts) for name in ("gram", "weight", "n_rows", "n_tasks")}
    return replace(first, **sums, eps=max(part.eps for part in parts))


def _chunk_rows(batch: TaskBatch, root: np.ndarray | None) -> Iterator[tuple[slice, np.ndarray, Any]]:
    """Yield tasks, their query rows [X_v, y_v], and (eigenvalues, P, Q): rows at a ratio are [X_v, y_v] - P/(e+k) Q."""
    p = batch.n_features
    n_t, n_v = batch.support_x.shape[1], batch.query_x.shape[1]
    size = max(1, CHUNK_NUMBERS // ((n_t + n_v) * (p + 1)))
    for start in range(0, batch.n_tasks, size):
        part = slice(start, start + size)
        x, y = weighed(batch, part)
        x_v, y_v = masked(batch.query_x[part], batch.query_y[part], batch.query_mask, part)
        rows = np.concatenate([x_v, y_v[..., None]], axis=2)
        support = np.concatenate([x, y[..., None]], axis=2)
        try:
            values, left, right = eigen(scaled(x, root))
        except np.linalg.LinAlgError:
            trace_nonfinite(np.array([np.nan]), batch)
            raise
        yield part, rows, (values, scaled(x_v, root) @ left, right @ support)


def _one_ratio(batch: TaskBatch, kappa: float) -> tuple[np.ndarray, np.dtype] | None:
    """The Gram matrix at one ratio, by elimination; None where that would lose too many digits."""
    width = batch.n_features + 1
    gram = np.zeros((width, width))
    dtype = np.dtype(np.float64)
    size = max(1, CHUNK_NUMBERS // ((batch.support_x.shape[1] + batch.query_x.shape[1]) * width))
    for start in range(0, batch.n_tasks, size):
        part = slice(start, start + size)
        x_v, y_v = masked(batch.query_x[part], batch.query_y[part], batch.query_mask, part)
        rows = np.concatenate([x_v, y_v[..., None]], axis=2)
        dtype = rows.dtype
        if kappa < math.inf:
            x, y = weighed(batch, part)
            matrix = x @ x.transpose(0, 2, 1)
            if x.shape[1] > x.shape[2] or not well_shifted(matrix, kappa).all():
                return None
            # K = X_v X_t^T (X_t X_t^T + kappa)^{-1} on the side with fewer columns.
            kernel = eliminated(matrix, kappa, x @ x_v.transpose(0, 2, 1)).transpose(0, 2, 1)
            rows -= kernel @ np.concatenate([x, y[..., None]], axis=2)
        flat = rows.reshape(-1, width)
        gram += flat.T @ flat
    return gram, dtype


def _of_batch(
    batch: TaskBatch, ratios: np.ndarray, root: np.ndarray | None, weighting: str, reach: float
) -> RidgeMoments:
    width = batch.n_features + 1
    gram = np.zeros((len(ratios), width, width))
    weights = row_weights(batch, weighting)
    dtype = np.dtype(np.float64)
    if len(ratios) == 1 and ratios[0] >= 0 and (root is None or np.isinf(ratios[0])) and weights is None:
        found = _one_ratio(batch, float(ratios[0]))
        if found is not None:
            gram[0], dtype = found
            trace_nonfinite(gram, batch)
            rows = batch.n_query_rows
            return RidgeMoments(ratios, gram, float(rows), rows, batch.n_tasks, float(np.finfo(dtype).eps))
    for part, rows, (values, left, right) in _chunk_rows(batch, root):
        dtype = rows.dtype
        if weights is not None:
            scale = np.sqrt(weights[part]).astype(dtype)[:, None, None]
            rows, left = rows * scale, left * scale
        at = np.empty_like(rows)
        for i, kappa in enumerate(ratios):
            if np.isinf(kappa):
                at[...] = rows
            else:
                np.matmul(left * inverse(values, kappa, reach)[:, None, :], right, out=at)
                np.subtract(rows, at, out=at)
            flat = at.reshape(-1, width)
            gram[i] += flat.T @ flat
    trace_nonfinite(gram, batch)
    total = float(batch.n_query_rows) if weights is None else float(batch.n_tasks)
    return RidgeMoments(ratios, gram, total, batch.n_query_rows, batch.n_tasks, float(np.finfo(dtype).eps))
