r"""Additive sufficient statistics of the outer problem: one Gram matrix of the blocks holds every rate.

With Z = [U_0, u_0, U_1, u_1, ...] (see ``blocks``), Z^T Z gives for any rate

.. math:: [B, \gamma]^T [B, \gamma] = \sum_{ij} c_i(a) c_j(a) \, [U_i, u_i]^T [U_j, u_j] ,

so all rates cost one pass over the data. Moments of disjoint sets of tasks add up: cross-validation adds the moments
of folds (never subtracts, which would lose digits), and a bootstrap over tasks reweights them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow._types import (
    BlockSizes,
    Coefficients,
    Gram,
    PathWeights,
    Products,
    RateGrams,
    Rates,
    Square,
    Turn,
    Vector,
)
from undertow._workers import each
from undertow.linear.blocks import Tasks, as_batches, check_steps, chunks, stepped, trace_nonfinite

# The spectral unit is a unit: beyond this many support rows of a batch, evenly spaced tasks are enough for it.
_UNIT_ROWS = 1 << 16

# Parts that workers sum: large against a chunk, few against the memory of a Gram matrix each.
_PART_NUMBERS = 1 << 21
_MOST_PARTS = 16


@dataclass(frozen=True, eq=False)
class Moments:
    """Sufficient statistics of the outer problem for every rate; ``a + b`` are those of both sets of tasks.

    ``gram`` has shape (steps + 1, p + 1, steps + 1, p + 1) and holds [U_i, u_i]^T [U_j, u_j] summed over query rows.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=8)
    >>> tasks = problem.sample(ut.Design(n_tasks=20, n_support=12, n_query=5), seed=0)
    >>> first, second = (ut.Moments.from_tasks(tasks.select(part)) for part in (slice(0, 10), slice(10, 20)))
    >>> bool(np.allclose(ut.rate_path(first + second, [-0.3]).weights, ut.rate_path(tasks, [-0.3]).weights))
    True
    """

    gram: Gram
    support: Square
    """(p, p) sum of S over ``support_tasks`` tasks, for the spectral unit"""
    support_tasks: float
    weight: float
    """total weight of the query rows (their number, or the number of tasks when tasks weigh alike)"""
    n_rows: int
    n_tasks: int
    eps: float
    """unit roundoff of the precision in which the sums were made"""
    weighting: str = "rows"
    """how query rows were weighted: "rows" or "tasks" """

    @classmethod
    def from_tasks(cls, tasks: Tasks, steps: int = 1, weighting: str = "rows", *, n_jobs: int | None = None) -> Moments:
        """Return the moments, made in one pass over a TaskBatch, or over several.

        Parameters
        ----------
        steps
            number of inner steps, k >= 1.
        weighting
            "rows" (each query row counts once) or "tasks" (each task counts once). float32 input is multiplied in
            float32 and summed up in float64.
        n_jobs
            number of workers (None: one, -1: every core); the digits do not depend on it.

        Raises
        ------
        InputError
            when the tasks do not fit together or hold values that are not finite.
        """
        steps = check_steps(steps)
        return sum_moments([of_batch(batch, steps, weighting, n_jobs=n_jobs) for batch in as_batches(tasks)])

    @property
    def steps(self) -> int:
        """Number of inner steps, k."""
        return self.gram.shape[0] - 1

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return self.gram.shape[1] - 1

    @property
    def scale(self) -> float:
        """Spectral unit of the rate: 1 / lambda_max of the mean support second moment (1 when that is zero)."""
        return spectral_unit(self.support, self.support_tasks)

    def at(self, coefficients: Coefficients) -> RateGrams:
        """Return [B, gamma]^T [B, gamma], (k, p + 1, p + 1), for rows of coefficients (k, steps + 1)."""
        width = self.n_features + 1
        pairs = coefficients[:, :, None] * coefficients[:, None, :]
        blocks = self.gram.transpose(0, 2, 1, 3).reshape(-1, width * width)
        return (pairs.reshape(len(coefficients), -1) @ blocks).reshape(-1, width, width)

    @property
    def block_sizes(self) -> BlockSizes:
        """(steps + 1,) root of the sum of squares of each U_j."""
        p = self.n_features
        return np.sqrt(np.einsum("iaia->i", self.gram[:, :p, :, :p]))

    def centred(self, init: Vector) -> Moments:
        """Return the moments of the same problem for omega - init: targets u_j become u_j - U_j init."""
        shift = np.eye(self.n_features + 1)
        shift[:-1, -1] = -init
        return replace(self, gram=np.einsum("iajb,ax,by->ixjy", self.gram, shift, shift, optimize=True))

    def quadratic(self, weights: PathWeights) -> Products:
        """Return sums over rows of e_i e_j, (k, steps + 1, steps + 1); e_j = U_j omega - u_j for each omega (k, p)."""
        v = np.concatenate([weights, np.full((*weights.shape[:-1], 1), -1.0)], axis=-1, dtype=np.float64)
        flat = v.reshape(-1, v.shape[-1])
        half = np.tensordot(flat, self.gram, axes=(1, 1))  # (k, i, j, p + 1)
        return np.einsum("kijb,kb->kij", half, flat).reshape(*v.shape[:-1], self.steps + 1, self.steps + 1)

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        return sum_moments([self, other])


def spectral_unit(support: Square, support_tasks: float) -> float:
    """Return 1 / lambda_max of the mean of S, from its sum (p, p) over ``support_tasks``; 1 when that is zero."""
    top = float(np.linalg.eigvalsh(support)[-1]) / support_tasks
    return 1 / top if top > 0 else 1.0


def same_weighting(weighting: str | None, moments: Moments) -> None:
    """Raise InputError where moments were made with another weighting than is asked for; None asks for none."""
    if weighting not in (None, moments.weighting):
        raise InputError("weighting", weighting, f"the moments were made with {moments.weighting!r}.")


def cancellation(terms: Rates, total: Rates) -> Rates:
    """(sum of sizes)^2 / squared size of the sum, at least 1; 1 where there is nothing."""
    return np.maximum(np.divide(terms**2, total, out=np.ones_like(total), where=total > 0), 1.0)


def sum_moments(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all tasks of the parts together. Raises InputError when their shapes differ.

    Parameters
    ----------
    parts
        Moments of disjoint sets of tasks, of the same shape.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=8)
    >>> tasks = problem.sample(ut.Design(n_tasks=20, n_support=12, n_query=5), seed=0)
    >>> parts = [ut.Moments.from_tasks(tasks.select(slice(i, i + 5))) for i in range(0, 20, 5)]
    >>> ut.linear.sum_moments(parts).n_tasks
    20
    """
    parts = list(parts)
    shapes = {part.gram.shape for part in parts}
    if len(shapes) != 1:
        raise InputError(
            None,
            rule=f"moments of (steps + 1, p + 1) = {sorted(s[:2] for s in shapes)} cannot be added.",
            way_out="Use the same steps and the same features for all.",
        )
    if len({part.weighting for part in parts}) != 1:
        rule = "moments weighted by rows and by tasks cannot be added."
        raise InputError(None, rule=rule, way_out=("Use one ", Setting("weighting"), " for all."))
    if len(parts) == 1:
        return parts[0]
    added = ("gram", "support", "support_tasks", "weight", "n_rows", "n_tasks")
    sums: Any = {name: sum(getattr(part, name) for part in parts) for name in added}
    return replace(parts[0], **sums, eps=max(part.eps for part in parts))


def of_batch(
    batch: TaskBatch,
    steps: int,
    weighting: str,
    support: tuple[Square, float] | None = None,
    turn: Turn | None = None,
    n_jobs: int | None = None,
) -> Moments:
    """Moments of one batch whose shapes are known to fit; ``support`` where ``support_moment`` was called before.

    turn: (2,) the homogeneous coefficients of one step. The rows are then those at this one rate, and their Gram matrix
    is the only block, (1, p + 1, 1, p + 1): a quarter of the work.
    """
    width = batch.n_features + 1
    blocks = 1 if turn is not None else steps + 1
    dtype = np.result_type(batch.support_x, batch.query_x, np.float32)

    def summed(part: TaskBatch) -> np.ndarray:
        gram = np.zeros((blocks * width,) * 2)
        if turn is None:
            rows = (chunk.rows.reshape(len(chunk.rows), -1) for chunk in chunks(part, steps, weighting))
        else:
            rows = stepped(part, steps, float(turn[0]), float(turn[1]), weighting, dtype.type)
        for flat in rows:
            gram += flat.T @ flat
        return gram

    work: list[Any] = [partial(summed, part) for part in _parts(batch, blocks * width)]
    # The support moment is as much work as another part.
    done: list[Any] = each(lambda call: call(), work if support else [partial(support_moment, batch), *work], n_jobs)
    moment, support_tasks = support or done.pop(0)
    gram = np.sum(done, axis=0)
    trace_nonfinite(gram, batch)
    return Moments(
        gram=gram.reshape(blocks, width, blocks, width),
        support=moment,
        support_tasks=support_tasks,
        weight=float(batch.n_query_rows if weighting == "rows" else batch.n_tasks),
        n_rows=batch.n_query_rows,
        n_tasks=batch.n_tasks,
        eps=float(np.finfo(dtype).eps),
        weighting=weighting,
    )


def _parts(batch: TaskBatch, width: int) -> list[TaskBatch]:
    """A large batch in parts of its tasks, the same for any number of workers: so are the digits of their sum."""
    m = batch.n_tasks
    n_parts = int(min(_MOST_PARTS, m, batch.query_x.shape[1] * m * width // _PART_NUMBERS))
    if n_parts <= 1:
        return [batch]
    return [batch.select(slice(m * i // n_parts, m * (i + 1) // n_parts)) for i in range(n_parts)]


def support_moment(batch: TaskBatch, every: bool = False) -> tuple[Square, float]:
    """Sum of S = X_t^T X_t / n_t over tasks, (p, p), and the number of tasks in the sum.

    every: take each task; else evenly spaced ones of a large batch.
    """
    m, n_t, p = batch.support_x.shape
    stride = 1 if every else -(-m * n_t // _UNIT_ROWS)
    total = np.zeros((p, p))
    counts = batch.support_counts
    for start in range(0, m, 256 * stride):
        part = slice(start, start + 256 * stride, stride)
        x, share = batch.support_x[part], 1 / float(n_t)
        if batch.support_mask is not None:
            # Shorter tasks: rows count by their task's number of them, and padding not at all.
            root = 1 / np.sqrt(counts[part], dtype=x.dtype)
            x, share = np.where(batch.support_mask[part][..., None], x * root[:, None, None], 0), 1.0
        flat = x.reshape(-1, p)
        total += share * (flat.T @ flat)
    trace_nonfinite(total, batch)
    return total, float(-(-m // stride))
