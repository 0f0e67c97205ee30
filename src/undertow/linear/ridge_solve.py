"""Penalised least squares of single tasks: z^T (z z^T + kappa I)^{-1} rest, by elimination or by eigenvalues."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import Ridges

# As large as a chunk of gradient blocks: it stays in the second-level cache.
CHUNK_NUMBERS = 1 << 18


def checked_ratios(ratios: Any, negative: bool = False) -> Ridges:
    """Return the ratios as a flat array, or raise InputError. negative: whether they may be, as of adaptation."""
    array = np.atleast_1d(_check.rates(ratios, "ratio", infinite=True))
    if (array < 0).any() and not negative:
        rule = "noise over task variance cannot be negative."
        raise InputError("ratio", float(array.min()), rule, "0 means no penalty.")
    return array


def covariance_root(covariance: Any, p: int) -> np.ndarray | None:
    """A (p, q) root of the covariance, or its deviations (p,) where it is diagonal; None for the identity."""
    if covariance is None:
        return None
    array = np.asarray(covariance, dtype=np.float64)
    if array.shape not in ((p,), (p, p)):
        raise InputError(None, rule=f"task_covariance has shape {array.shape}: it must be ({p},) or ({p}, {p}).")
    _check.finite(array, "task_covariance")
    if array.ndim == 1:
        if (array < 0).any():
            raise InputError(None, rule=f"task_covariance holds {array.min():g}: a variance cannot be negative.")
        return np.sqrt(array)
    values, vectors = np.linalg.eigh((array + array.T) / 2)
    if values[0] < -1e-10 * max(abs(values[-1]), 1e-300):
        rule = f"task_covariance has a negative eigenvalue, {values[0]:g}: a covariance cannot."
        raise InputError(None, rule=rule)
    kept = values > 1e-15 * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def scaled(x: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """Rows (m, n, p) times a root of the covariance, (m, n, q)."""
    if root is None:
        return x
    root = root.astype(x.dtype)
    return x * root if root.ndim == 1 else x @ root


def unscaled(step: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """Steps (m, q) in the directions of a root of the covariance as steps of the weights, (m, p)."""
    if root is None:
        return step
    root = root.astype(step.dtype)
    return step * root if root.ndim == 1 else step @ root.T


def weighed(tasks: TaskBatch, part: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Return some tasks' support rows and targets as a penalty is held against: times the root of their mean weight."""
    x, y = masked(tasks.support_x[part], tasks.support_y[part], tasks.support_mask, part)
    if tasks.support_weight is None:
        return x, y
    root = np.sqrt(tasks.support_weight[part]).astype(x.dtype)[:, None]
    return x * root[..., None], y * root


def masked(x: np.ndarray, y: np.ndarray, mask: np.ndarray | None, part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return some tasks' rows and targets as real numbers, zeros where the mask is False."""
    dtype = np.result_type(x, y, np.float32)
    x, y = np.asarray(x, dtype), np.asarray(y, dtype)
    return (x, y) if mask is None else (np.where(mask[part][..., None], x, 0), np.where(mask[part], y, 0))


def eigen(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues (c, q) of Z^T Z or Z Z^T, the smaller; then L, R with Z^T (Z Z^T + k)^{-1} = L / (e + k) R."""
    transposed = z.transpose(0, 2, 1)
    if z.shape[1] <= z.shape[2]:
        values, vectors = np.linalg.eigh(z @ transposed)
        left, right = transposed @ vectors, vectors.transpose(0, 2, 1)
    else:
        values, vectors = np.linalg.eigh(transposed @ z)
        left, right = vectors, vectors.transpose(0, 2, 1) @ transposed
    return values, left, right


def inverse(values: np.ndarray, kappa: float | np.ndarray, reach: float = math.inf) -> np.ndarray:
    """1 / (e + kappa); 0 in directions without a row, so that ratio 0 gives the solution nearest to omega.

    A negative kappa is one number: tasks with an eigenvalue from -kappa, or the reach, on are left where they are.
    """
    if np.ndim(kappa) == 0 and kappa < 0:
        inside = values[:, -1:] < min(reach, -float(kappa))
        return np.divide(1, values + np.asarray(kappa, values.dtype), out=np.zeros_like(values), where=inside)
    limit = 8 * values.shape[1] * np.finfo(values.dtype).eps * values[:, -1:]
    kept = values > limit
    return np.divide(1, values + np.asarray(kappa, values.dtype), out=np.zeros_like(values), where=kept)


def solve_small(z: np.ndarray, rest: np.ndarray, kappa: float | np.ndarray, reach: float = math.inf) -> np.ndarray:
    """Z^T (Z Z^T + kappa I)^{-1} rest for each task, (m, q); kappa: finite, a number or one for each task (m,).

    A negative kappa is one number, and tasks beyond the reach get 0: see ``inverse``.
    """
    out = np.empty((len(z), z.shape[2]), z.dtype)
    ratios = np.broadcast_to(kappa, len(z))
    size = max(1, CHUNK_NUMBERS // max(1, z.shape[1] * z.shape[2]))
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        own, right_side, ratio = z[part], rest[part, :, None].astype(z.dtype), ratios[part]
        transposed = own.transpose(0, 2, 1)
        wide = z.shape[1] <= z.shape[2]
        matrix = own @ transposed if wide else transposed @ own
        right = right_side if wide else transposed @ right_side
        # Elimination takes a tenth of the time of the eigenvalues that a small ratio needs.
        good = well_shifted(matrix, ratio)
        if good.all():
            step = eliminated(matrix, ratio, right)
            out[part] = (transposed @ step if wide else step)[..., 0]
            continue
        values, left, turn = eigen(own)
        inner = (turn @ right_side)[..., 0] * inverse(values, ratio[:, None] if np.ndim(kappa) else kappa, reach)
        out[part] = (left @ inner[..., None])[..., 0]
    return out


def eliminated(matrix: np.ndarray, kappa: float | np.ndarray, right: np.ndarray) -> np.ndarray:
    """(M + kappa I)^{-1} right for each of (c, k, k); float64 routines are the faster ones for small matrices."""
    shifted = matrix.astype(np.float64)
    shifted[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] += np.reshape(kappa, (-1, 1))
    return np.linalg.solve(shifted, right.astype(np.float64)).astype(matrix.dtype)


def well_shifted(matrix: np.ndarray, kappa: float | np.ndarray) -> np.ndarray:
    """Whether kappa leaves at least half of the digits of each of (c, k, k), whatever its rank."""
    return kappa > math.sqrt(np.finfo(matrix.dtype).eps) * np.trace(matrix, axis1=1, axis2=2)
