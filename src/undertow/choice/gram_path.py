"""All rates and ridges of the outer problem from one Gram matrix with several targets, and products of its errors."""

from __future__ import annotations

import numpy as np
from scipy.linalg import get_lapack_funcs

from undertow.choice.tridiagonal import LEAST_COLUMNS, shifted_solutions
from undertow.linear.block_moments import at

(_posv,) = get_lapack_funcs(("posv",), dtype=np.float64)
_NUMBERS_AT_ONCE = 1 << 22
# From this ridge on the condition number leaves a direct solution its digits.
_LEAST_DIRECT_RIDGE = 1e-6
# Times columns and unit roundoff: share of the largest eigenvalue up to which one is lost in rounding.
_LOST = 8


def solve(gram: np.ndarray, q: int, coefficients: np.ndarray, ridges: np.ndarray, eps: float) -> np.ndarray:
    """Return weights (k, r, q, p) at rows of coefficients (k, steps + 1) and ridges (r,) relative to tr(B^T B) / p."""
    width = gram.shape[1]
    p = width - q
    if len(ridges) == 1 and ridges[0] >= max(_LEAST_DIRECT_RIDGE, 16 * p * eps):
        try:
            return _direct(gram, q, coefficients, float(ridges[0]))
        except np.linalg.LinAlgError:
            pass  # singular to rounding all the same: eigenvalues say in which directions
    size = max(1, _NUMBERS_AT_ONCE // width**2)
    starts = range(0, len(coefficients), size)
    return np.concatenate([solutions(at(gram, coefficients[i : i + size]), q, ridges, eps) for i in starts])


def solutions(grams: np.ndarray, q: int, ridges: np.ndarray, eps: float) -> np.ndarray:
    """Return weights (k, r, q, p) from matrices [B, gamma]^T [B, gamma] (k, p + q, p + q), as ``solve`` does."""
    p = grams.shape[1] - q
    matrix, right = grams[:, :p, :p], grams[:, p:, :p]
    if p < LEAST_COLUMNS:
        return _by_eigenvalues(matrix, right, ridges, eps)
    shifts = np.trace(matrix, axis1=1, axis2=2)[:, None] * ridges / p
    out, sure = shifted_solutions(matrix, right, shifts, _LOST * p * eps)
    if not sure.all():
        out[~sure] = _by_eigenvalues(matrix[~sure], right[~sure], ridges, eps)
    return out


def _by_eigenvalues(matrix: np.ndarray, right: np.ndarray, ridges: np.ndarray, eps: float) -> np.ndarray:
    """Solutions (k, r, q, p) of matrices (k, p, p), which may be singular, for right sides (k, q, p)."""
    p = matrix.shape[1]
    values, vectors = np.linalg.eigh(matrix)
    # Directions without any row stay at 0, where a ridge alone would put them too.
    kept = values > _LOST * p * eps * values[:, -1:]
    values = np.where(kept, values, 0)
    shifts = values.sum(axis=1)[:, None] * ridges / p
    total = values[:, None, :] + shifts[..., None]
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=kept[:, None, :] & (total > 0))
    scaled = (right @ vectors)[:, None] * inverse[:, :, None]
    return (scaled.reshape(len(matrix), -1, p) @ vectors.transpose(0, 2, 1)).reshape(*scaled.shape)


def _direct(gram: np.ndarray, q: int, coefficients: np.ndarray, ridge: float) -> np.ndarray:
    """The same at one ridge that makes the problem regular: by elimination, without eigenvalues."""
    p = gram.shape[1] - q
    out = np.empty((len(coefficients), 1, q, p))
    for i, one in enumerate(coefficients):
        full = at(gram, one[None])[0]
        matrix = full[:p, :p]
        matrix[np.diag_indices(p)] += ridge * np.trace(matrix) / p or 1.0
        _, solution, info = _posv(matrix, full[:p, p:], lower=1)
        if info:
            raise np.linalg.LinAlgError("the matrix is not positive definite to rounding.")
        out[i, 0] = solution.T
    return out


def products_of(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sums of e_i e_j over rows and targets, (..., s + 1, s + 1), for weights (..., q, p)."""
    q, p = weights.shape[-2:]
    s = gram.shape[0]
    flat = weights.reshape(-1, q, p)
    out = np.zeros((len(flat), s, s))
    i, j = np.tril_indices(s)
    for target in range(q):
        columns = [*range(p), p + target]
        # All pairs of blocks side by side: one product.
        parts = gram[:, columns][:, :, :, columns][i, :, j].transpose(1, 0, 2).reshape(p + 1, -1)
        v = np.concatenate([flat[:, target], np.full((len(flat), 1), -1.0)], axis=1)
        out[:, i, j] += np.matmul((v @ parts).reshape(len(v), -1, p + 1), v[..., None])[..., 0]
    out[:, j, i] = out[:, i, j]
    return out.reshape(*weights.shape[:-2], s, s)
