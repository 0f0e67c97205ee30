r"""The outer problem between rows, before a rate is chosen: no feature of the kernel is ever formed.

A model :math:`f(x; \omega) = f_0(x) + \phi(x)^T (\omega - \omega_0)` with kernel :math:`K = \phi \phi^T` takes k inner
steps at rate a on a task's support rows T, and its error on the query rows V is

.. math:: B (\omega - \omega_0) - \gamma, \qquad B = \sum_j c_j(a) L_j \phi, \qquad
          \gamma = \sum_j c_j(a) L_j (y - f_0),

where :math:`L_0` picks V, and :math:`L_j = K_{vt} K_{tt}^{j-1} / n_t^j` acts on T, task by task. So

.. math:: G(a) = B B^T = \sum_{i \le j} c_i(a) c_j(a) \, G_{ij} ;

for one step these are :math:`K_0 = K_{VV}`, :math:`K_1 = L K_{TV} + K_{VT} L^T` and :math:`K_2 = L K_{TT} L^T`, with
:math:`G = K_0 - a K_1 + a^2 K_2`. They have N rows for N query rows, whatever the number of support rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse.linalg import eigsh

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError

Kernel: TypeAlias = Callable[[np.ndarray, np.ndarray], Any]
"""A function of rows (n, p) and rows (l, p) that returns (n, l): symmetric, positive semidefinite."""

# One call of a kernel makes at most about this many entries: its temporaries stay small beside the blocks.
_CALL_ENTRIES = 1 << 22
_LOOKED_AT = 64  # query rows among which a kernel is checked
_OWN_ENTRIES = 1 << 14
# The spectral unit is a unit: beyond this many support rows, evenly spaced tasks are enough for it.
_UNIT_ROWS = 2048


@dataclass(frozen=True, eq=False)
class KernelBlocks:
    """The blocks of some tasks' inputs: they serve every rate, ridge, start f0 and set of targets.

    Examples
    --------
    >>> import undertow as ut
    >>> tasks = ut.QuadraticRegression(n_features=5).sample(ut.Design(n_tasks=4, n_support=8, n_query=3), seed=0)
    >>> blocks = ut.kernel.KernelBlocks.of(ut.kernel.relu_ntk, tasks)
    >>> [ut.kernel.kernel_path(blocks, tasks, [-0.1], ridge=ridge).meta_loss.shape for ridge in (0.0, 1e-3)]
    [(1,), (1,)]
    """

    kernel: Kernel
    support: np.ndarray
    """(m n_t, p) support rows; rows that are not real repeat a real one and count for nothing"""
    query: np.ndarray
    """(N, p) query rows, real ones only"""
    terms: np.ndarray
    """(q, N, N) symmetric G_ij for i <= j, q = (steps + 1)(steps + 2) / 2; for one step K_0, K_1, K_2"""
    maps: np.ndarray
    """(steps, m, n_v, n_t) L_1 .. L_k of each task"""
    keep: np.ndarray | slice
    """which of the m n_v query rows are real"""
    scale: float
    """spectral unit of the rate: 1 / lambda_max of K_tt / n_t, mean over tasks (in feature space)"""
    eps: float
    """unit roundoff of the kernel's values"""

    @classmethod
    def of(cls, kernel: Kernel, tasks: TaskBatch, steps: int = 1) -> KernelBlocks:
        """Return the blocks, made in one pass over the pairs of rows; targets are not used.

        Memory is about N^2 (steps + 1)^2 and N m n_t numbers; the kernel between all support rows is never held.

        Raises
        ------
        InputError
            when the kernel does not return a finite, symmetric and positive semi-definite matrix of the right shape.
        """
        steps = _check.whole_number(steps, "steps")
        batch = checked(tasks)
        x_t, x_v = real_rows(batch, "support"), real_rows(batch, "query")
        m, n_t, p = x_t.shape
        keep: np.ndarray | slice = slice(None) if batch.query_mask is None else np.asarray(batch.query_mask).ravel()
        flat_t, flat_v = x_t.reshape(-1, p), x_v.reshape(-1, p)[keep]
        cross, eps = values(kernel, flat_t, flat_v)
        maps = _maps(kernel, batch, x_t, cross, keep, steps)
        pairs = [(i, j) for i in range(steps + 1) for j in range(i, steps + 1)]
        terms = np.zeros((len(pairs), len(flat_v), len(flat_v)))
        for n, (i, j) in enumerate(pairs):
            if j == 0:
                terms[n] = values(kernel, flat_v, flat_v)[0]
                _check_kernel(terms[n][:_LOOKED_AT, :_LOOKED_AT])
            elif i == 0:
                terms[n] = _left(maps[j - 1], cross.reshape(m, n_t, -1), keep)
        unit = _UnitRows(batch)
        # Whole tasks, as many as one call of the kernel may hold.
        size = max(1, _CALL_ENTRIES // (n_t * len(flat_t)))
        done = 0
        for start in range(0, m, size):
            part = slice(start, start + size)
            rows, _ = values(kernel, x_t[part].reshape(-1, p), flat_t)
            grouped = rows.reshape(-1, n_t, m * n_t)
            unit.take(start, grouped)
            here = slice(None) if isinstance(keep, slice) else keep.reshape(m, -1)[part].ravel()
            lefts = [_left(maps[i, part], grouped, here) for i in range(steps)]
            lines = slice(done, done + len(lefts[0]))
            for n, (i, j) in enumerate(pairs):
                if i > 0:
                    terms[n, lines] = _right(lefts[i - 1], maps[j - 1], keep)
            done = lines.stop
        for n, (i, j) in enumerate(pairs):
            terms[n] += terms[n].T.copy()
            if i == j:
                terms[n] *= 0.5
        return cls(kernel, flat_t, flat_v, terms, maps, keep, unit.scale(), eps)

    @property
    def steps(self) -> int:
        """Number of inner steps, k."""
        return len(self.maps)

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return self.maps.shape[1]

    @property
    def n_rows(self) -> int:
        """N, number of query rows."""
        return len(self.query)

    def at(self, coefficients: np.ndarray) -> np.ndarray:
        """Return G, (k, N, N), for rows of coefficients (k, steps + 1)."""
        i, j = np.triu_indices(self.steps + 1)
        return np.tensordot(coefficients[:, i] * coefficients[:, j], self.terms, axes=1)

    def targets(self, support_y: np.ndarray, query_y: np.ndarray) -> np.ndarray:
        """Return L_j y, (steps + 1, N), of targets (m, n_t) and (m, n_v)."""
        mapped = np.einsum("jmvt,mt->jmv", self.maps, support_y).reshape(self.steps, -1)
        return np.concatenate([query_y.reshape(1, -1), mapped])[:, self.keep]

    def spread(self, coefficients: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """Return B^T c as weights of the kernel at the query rows and then the support rows, (k, r, N + m n_t).

        Parameters
        ----------
        coefficients
            (k, steps + 1).
        dual
            c, (k, r, N).
        """
        m, n_v = self.maps.shape[1:3]
        padded = np.zeros((*dual.shape[:2], m * n_v))
        padded[..., self.keep] = dual
        maps = np.tensordot(coefficients[:, 1:], self.maps, axes=1)
        of_support = np.einsum("krmv,kmvt->krmt", padded.reshape(*dual.shape[:2], m, n_v), maps, optimize=True)
        first = coefficients[:, 0, None, None] * dual
        return np.concatenate([first, of_support.reshape(*dual.shape[:2], -1)], axis=-1)

    def same_inputs(self, tasks: TaskBatch) -> bool:
        """Return whether these are the blocks of the given tasks' inputs."""
        x_t, x_v = real_rows(tasks, "support"), real_rows(tasks, "query")
        keep = slice(None) if tasks.query_mask is None else np.asarray(tasks.query_mask).ravel()
        flat_t, flat_v = x_t.reshape(-1, x_t.shape[-1]), x_v.reshape(-1, x_v.shape[-1])[keep]
        return np.array_equal(flat_t, self.support) and np.array_equal(flat_v, self.query)


def checked(tasks: TaskBatch) -> TaskBatch:
    """Return one valid batch of tasks, or raise InputError."""
    if not isinstance(tasks, TaskBatch):
        raise InputError(
            None,
            rule=f"tasks is of type {type(tasks).__name__}: it must be a TaskBatch.",
            way_out="Tasks of different lengths go into one, with masks.",
        )
    return tasks.validate()


def real_rows(batch: TaskBatch, kind: str) -> np.ndarray:
    """Inputs (m, n, p) in float64. A padded row repeats its task's first real one: a kernel may not know what 0 is."""
    x, mask = np.asarray(getattr(batch, f"{kind}_x"), np.float64), getattr(batch, f"{kind}_mask")
    if mask is None:
        return x
    mask = np.asarray(mask)
    first = x[np.arange(len(x)), mask.argmax(axis=1)]
    return np.where(mask[..., None], x, first[:, None])


def real_targets(batch: TaskBatch, kind: str) -> np.ndarray:
    """Targets (m, n) in float64, 0 where a row is not real."""
    y, mask = np.asarray(getattr(batch, f"{kind}_y"), np.float64), getattr(batch, f"{kind}_mask")
    return y if mask is None else np.where(mask, y, 0.0)


def values(kernel: Kernel, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """Kernel between rows a (n, p) and b (l, p) in float64, and the roundoff of what the kernel returned."""
    out = np.empty((len(a), len(b)))
    eps = float(np.finfo(np.float64).eps)
    step = max(1, _CALL_ENTRIES // max(len(b), 1))
    for start in range(0, len(a), step):
        part = np.asarray(kernel(a[start : start + step], b))
        if part.shape != out[start : start + step].shape:
            raise InputError(
                None,
                rule=f"the kernel returned shape {part.shape} for {len(a[start : start + step])} and {len(b)} rows: it "
                "must return one number for each pair of rows.",
            )
        if np.issubdtype(part.dtype, np.complexfloating):
            raise InputError("kernel", rule="it returned complex numbers: it must return real ones.")
        if np.issubdtype(part.dtype, np.floating):
            eps = max(eps, float(np.finfo(part.dtype).eps))
        out[start : start + step] = part
    _check.finite(out, "kernel")
    return out, eps


def _check_kernel(matrix: np.ndarray) -> None:
    """Raise InputError where the values between some rows and themselves (n, n) are those of no kernel."""
    tolerance = 1e-4 * float(np.abs(matrix).max(initial=0.0))
    difference = float(np.abs(matrix - matrix.T).max(initial=0.0))
    if difference > tolerance:
        raise InputError(
            "kernel", rule=f"it is not symmetric: k(a, b) and k(b, a) differ by {difference:.3g} among the query rows."
        )
    lowest = float(np.linalg.eigvalsh((matrix + matrix.T) / 2).min(initial=0.0))
    if lowest < -tolerance * len(matrix):
        raise InputError(
            "kernel", rule=f"it has an eigenvalue of {lowest:.3g} among the query rows: none may be negative."
        )


def own_values(kernel: Kernel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kernel within each task, (m, n, l), of rows a (m, n, p) and b (m, l, p)."""
    m, n, p = a.shape
    width = b.shape[1]
    out = np.empty((m, n, width))
    # A call on c small tasks makes c times more entries than are used: worth it only while the call itself is dear.
    size = max(1, isqrt(_OWN_ENTRIES // (n * width)))
    for start in range(0, m, size):
        part = slice(start, start + size)
        block, _ = values(kernel, a[part].reshape(-1, p), b[part].reshape(-1, p))
        c = len(out[part])
        out[part] = block.reshape(c, n, c, width)[np.arange(c), :, np.arange(c)]
    return out


def step_maps(first: np.ndarray, own: np.ndarray | None, batch: TaskBatch, steps: int) -> np.ndarray:
    """Return L_1 .. L_k, (steps, m, n_v, n_t), from K_vt (m, n_v, n_t) and, for two steps or more, K_tt."""
    share = 1.0 / np.asarray(batch.support_counts, np.float64)[:, None, None]
    if batch.support_mask is not None:
        share = share * np.asarray(batch.support_mask)[:, None, :]
    maps = [first * share]
    for _ in range(steps - 1):
        maps.append((maps[-1] @ own) * share)  # type: ignore[operator]
    return np.stack(maps)


def _maps(
    kernel: Kernel, batch: TaskBatch, x_t: np.ndarray, cross: np.ndarray, keep: np.ndarray | slice, steps: int
) -> np.ndarray:
    """L_j of the training tasks from K_TV (m n_t, N); rows of padded queries are 0."""
    m, n_t, _ = x_t.shape
    n_v = batch.query_x.shape[1]
    task = np.repeat(np.arange(m), n_v)[keep]
    first = np.zeros((m * n_v, n_t))
    first[keep] = cross.reshape(m, n_t, -1)[task, :, np.arange(len(task))]
    own = own_values(kernel, x_t, x_t) if steps > 1 else None
    return step_maps(first.reshape(m, n_v, n_t), own, batch, steps)


def _left(maps: np.ndarray, rows: np.ndarray, keep: np.ndarray | slice) -> np.ndarray:
    """L times rows (c, n_t, M) of the kernel at the support rows of the same c tasks: (real query rows, M)."""
    return (maps @ rows).reshape(-1, rows.shape[-1])[keep]


def _right(rows: np.ndarray, maps: np.ndarray, keep: np.ndarray | slice) -> np.ndarray:
    """Rows (R, m n_t) times L^T of all tasks: (R, N)."""
    m, _, n_t = maps.shape
    by_task = rows.reshape(len(rows), m, n_t).transpose(1, 0, 2) @ maps.transpose(0, 2, 1)
    return by_task.transpose(1, 0, 2).reshape(len(rows), -1)[:, keep]


class _UnitRows:
    """Collects the kernel between the support rows of evenly spaced tasks, for the spectral unit."""

    def __init__(self, batch: TaskBatch) -> None:
        m, n_t = batch.support_x.shape[:2]
        self.tasks = np.arange(0, m, -(-m * n_t // _UNIT_ROWS))
        weight = np.repeat(1.0 / (np.asarray(batch.support_counts)[self.tasks] * len(self.tasks)), n_t)
        if batch.support_mask is not None:
            weight = weight * np.asarray(batch.support_mask)[self.tasks].ravel()
        self.root = np.sqrt(weight)
        self.columns = (self.tasks[:, None] * n_t + np.arange(n_t)).ravel()
        self.parts: list[np.ndarray] = []

    def take(self, start: int, grouped: np.ndarray) -> None:
        here = self.tasks[(self.tasks >= start) & (self.tasks < start + len(grouped))] - start
        self.parts.append(grouped[here][..., self.columns].reshape(-1, len(self.columns)))

    def scale(self) -> float:
        matrix = np.concatenate(self.parts) * self.root[:, None] * self.root
        if len(matrix) <= 256:
            top = float(np.linalg.eigvalsh(matrix)[-1])
        else:
            start = np.random.default_rng(0).standard_normal(len(matrix))
            top = float(eigsh(matrix, 1, which="LA", v0=start, return_eigenvectors=False)[0])
        return 1 / top if top > 0 else 1.0
