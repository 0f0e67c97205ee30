r"""One outer problem at given rates and ridges: three solvers, one record, named outcomes.

All solve :math:`\min_\omega |B(\omega - \omega_0) - \gamma_0|^2 + \lambda |\omega - \omega_0|^2` with
:math:`\lambda = \mathrm{ridge} \cdot \mathrm{tr}(B^T B) / p`, and at ridge 0 return the solution nearest to the
starting point. ``GramSolver`` works on additive moments (tall problems of any length), ``DualSolver`` on the kernel
between rows (wide problems), ``RowSolver`` on the rows themselves by singular values: the slowest, and the one that
does not square the condition number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.linalg import get_lapack_funcs

from undertow._batch import TaskBatch
from undertow._types import (
    Coefficients,
    PathNames,
    PathValues,
    PathWeights,
    Ranks,
    RateGrams,
    RateRows,
    Rates,
    RateVectors,
    Real,
    Ridges,
    RowKernel,
    StepRows,
    Turns,
    Vector,
)
from undertow.linear.blocks import chunks, stepped, trace_nonfinite
from undertow.linear.moments import Moments, cancellation

_potrf, _pocon, _potrs, _pstrf = get_lapack_funcs(("potrf", "pocon", "potrs", "pstrf"), dtype=np.float64)

FULL_RANK = "full_rank"
MINIMUM_NORM = "minimum_norm"
RIDGE = "ridge"
ILL_CONDITIONED = "ill_conditioned"

REMEDY = {
    FULL_RANK: "The outer problem has one solution and it was found.",
    MINIMUM_NORM: "Fewer independent query rows than features: of all solutions this is the one nearest to init. "
    "A small ridge makes it stable.",
    RIDGE: "The ridge makes the solution unique.",
    ILL_CONDITIONED: "More than half of the digits are lost. Standardise the features, drop collinear ones, or use a "
    "ridge such as 1e-6.",
}


class Fit(NamedTuple):
    """Solutions at k rates and r ridges."""

    weights: PathWeights
    """(k, r, p) omega - omega_0"""
    residual: PathValues
    """(k, r) sum over rows of (B (omega - omega_0) - gamma_0)^2, in the homogeneous form of the rate"""
    outcome: PathNames
    """(k, r) one of full_rank, minimum_norm, ridge, ill_conditioned"""
    condition: PathValues
    """(k, r) condition number of B, with the ridge where there is one"""
    rank: Ranks
    """(k,) numerical rank of B"""


@dataclass(frozen=True)
class GramSolver:
    """Normal equations from moments: p x p per rate, whatever the number of rows."""

    moments: Moments

    def solve(self, coefficients: Coefficients, ridges: Ridges) -> Fit:
        """Solve by Cholesky where there is one well-conditioned ridge, else by one eigendecomposition per rate."""
        p = self.moments.n_features
        full = self.moments.at(coefficients)
        matrix, right = full[:, :p, :p], full[:, :p, p]
        size = np.trace(matrix, axis1=1, axis2=2)
        shifts = size[:, None] * ridges / p
        weights, condition, rank = positive_solve(matrix, right, shifts, self.moments.eps)
        lost = cancellation(np.abs(coefficients) @ self.moments.block_sizes, size)[:, None]
        v = np.concatenate([weights, np.full((*weights.shape[:2], 1), -1.0)], axis=-1)
        residual = np.einsum("kra,kab,krb->kr", v, full, v, optimize=True).clip(0)
        return Fit(weights, residual, outcomes(rank, p, lost * condition**2, ridges, self.moments.eps), condition, rank)


@dataclass(frozen=True)
class DualSolver:
    """Kernel between rows: N x N per rate, whatever the number of features."""

    rows: StepRows
    """(N, steps + 1, p + 1)"""
    kernel: RowKernel
    """(N, steps + 1, N, steps + 1) inner products of the rows of U_i and U_j"""
    eps: float

    @classmethod
    def from_batches(cls, batches: Sequence[TaskBatch], steps: int, weighting: str, init: Vector) -> DualSolver:
        """Make the kernel between all rows, once for all rates."""
        parts = []
        for batch in batches:
            for chunk in chunks(batch, steps, weighting):
                trace_nonfinite(chunk.rows, batch)
                parts.append(centre(chunk.rows, init).copy())
        rows = np.concatenate(parts)
        features = rows[..., :-1].reshape(-1, len(init))
        kernel = (features @ features.T).reshape(len(rows), steps + 1, len(rows), steps + 1)
        return cls(rows, kernel, float(np.finfo(rows.dtype).eps))

    def solve(self, coefficients: Coefficients, ridges: Ridges) -> Fit:
        """Solve (B B^T + lambda) c = gamma and return B^T c."""
        p = self.rows.shape[2] - 1
        matrix = np.einsum("ki,kj,nimj->knm", coefficients, coefficients, self.kernel, optimize=True)
        right = np.einsum("kj,nj->kn", coefficients, self.rows[..., -1])
        size = np.trace(matrix, axis1=1, axis2=2)
        shifts = size[:, None] * ridges / p
        dual, condition, rank = positive_solve(matrix, right, shifts, self.eps)
        block_sizes = np.sqrt(np.einsum("nini->i", self.kernel))
        lost = cancellation(np.abs(coefficients) @ block_sizes, size)[:, None]
        weights = np.einsum("krn,kj,njp->krp", dual, coefficients, self.rows[..., :-1], optimize=True)
        residual = ((np.einsum("knm,krm->krn", matrix, dual) - right[:, None]) ** 2).sum(-1)
        return Fit(weights, residual, outcomes(rank, p, lost * condition**2, ridges, self.eps), condition, rank)


@dataclass(frozen=True)
class RowSolver:
    """Singular values of the rows of B, or of as few rows with the same Gram matrix as suffice."""

    rows: StepRows
    """(n, steps + 1, p + 1), n at most (steps + 1)(p + 1)"""
    n_rows: int

    @classmethod
    def from_batches(cls, batches: Sequence[TaskBatch], steps: int, weighting: str, init: Vector) -> RowSolver:
        """Read the tasks in float64 and compress them by an orthogonal factorisation, chunk by chunk."""
        width = (steps + 1) * (batches[0].n_features + 1)
        parts, n_rows, pending = [np.empty((0, width))], 0, 0
        for batch in batches:
            wide = batch._replace(
                support_x=np.asarray(batch.support_x, np.float64),
                query_x=np.asarray(batch.query_x, np.float64),
            )
            for chunk in chunks(wide, steps, weighting):
                trace_nonfinite(chunk.rows, batch)
                rows = centre(chunk.rows, init)
                parts.append(rows.reshape(len(rows), width).copy())
                n_rows += len(rows)
                pending += len(rows)
                if pending > 4 * width:
                    parts, pending = [_triangle(np.concatenate(parts))], 0
        stacked = np.concatenate(parts)
        if len(stacked) > width:
            stacked = _triangle(stacked)
        return cls(stacked.reshape(-1, steps + 1, width // (steps + 1)), n_rows)

    def solve(self, coefficients: Coefficients, ridges: Ridges) -> Fit:
        """Solve at each rate by one singular value decomposition, which serves all ridges."""
        full = np.tensordot(coefficients, self.rows, axes=(1, 1))
        size = np.sqrt((self.rows[..., :-1] ** 2).sum(axis=(0, 2)))
        lost = np.sqrt(cancellation(np.abs(coefficients) @ size, (full[..., :-1] ** 2).sum(axis=(1, 2))))
        return solve_rows(full, ridges, self.n_rows, lost)


@dataclass(frozen=True)
class StepSolver:
    """Rows of B made anew for each rate, by taking its steps one after the other: little cancels."""

    batches: Sequence[TaskBatch]
    steps: int
    weighting: str
    init: Vector

    def solve(self, coefficients: Turns, ridges: Ridges) -> Fit:
        """Solve at each rate. ``coefficients`` are (k, 2), of one step."""
        fits = []
        for stay, move in coefficients:
            sizes = np.zeros((self.steps, 2))
            rows, n_rows = self._rows(float(stay), float(move), sizes)
            # At a rate that leaves nothing of B but rounding, a step loses all digits.
            lost = np.sqrt(_ratio(*sizes.T).max(initial=1.0, keepdims=True))
            fits.append(solve_rows(rows[None], ridges, n_rows, lost.clip(max=1 / np.finfo(np.float64).eps)))
        return Fit(*(np.concatenate(field) for field in zip(*fits, strict=True)))

    def _rows(self, stay: float, move: float, sizes: np.ndarray) -> tuple[np.ndarray, int]:
        """[B, gamma] at one rate, compressed. sizes: see ``stepped``."""
        width = len(self.init) + 1
        parts, n_rows = [np.empty((0, width))], 0
        for batch in self.batches:
            for chunk in stepped(batch, self.steps, stay, move, self.weighting, sizes=sizes):
                trace_nonfinite(chunk, batch)
                parts.append(centre(chunk, self.init).copy())
                n_rows += len(chunk)
                if sum(map(len, parts)) > 4 * width:
                    parts = [_triangle(np.concatenate(parts))]
        return np.concatenate(parts), n_rows


def solve_rows(full: RateRows, ridges: Ridges, n_rows: int, lost: Rates) -> Fit:
    """Solutions of least squares on rows [B, gamma], (k, n, p + 1), that stand for ``n_rows`` rows.

    lost: (k,) by how much the terms that B was added up from exceed it; its digits are fewer by as much.
    """
    matrix, right = full[..., :-1], full[..., -1]
    p = matrix.shape[2]
    eps = float(np.finfo(np.float64).eps)
    left, s, right_t = np.linalg.svd(matrix, full_matrices=False)
    top = s[:, :1]
    kept = s > eps * max(n_rows, p) * lost[:, None] * top
    rank = kept.sum(axis=1)
    shifts = (s**2).sum(axis=1)[:, None] * ridges / p
    inverse = _filtered(np.where(kept, s, 0)[:, None, :], shifts[..., None])
    projected = np.einsum("knq,kn->kq", left, right)
    weights = np.einsum("krq,kqp->krp", inverse * projected[:, None, :], right_t, optimize=True)
    residual = ((np.einsum("knp,krp->krn", matrix, weights, optimize=True) - right[:, None]) ** 2).sum(-1)
    low = np.where(kept, s, np.inf).min(axis=1)[:, None]
    condition = np.sqrt(_ratio(top**2 + shifts, np.where(np.isfinite(low), low, top) ** 2 + shifts))
    return Fit(weights, residual, outcomes(rank, p, lost[:, None] * condition, ridges, eps), condition, rank)


Solver: TypeAlias = GramSolver | DualSolver | RowSolver | StepSolver


def _triangle(rows: np.ndarray) -> np.ndarray:
    """As many rows as columns, with the same Gram matrix."""
    return np.asarray(np.linalg.qr(rows, mode="r"))


def centre(rows: Real, init: Vector) -> Real:
    """Return rows of the same problem for omega - init, in place of the given ones."""
    if init.any():
        rows[..., -1] -= rows[..., :-1] @ init.astype(rows.dtype)
    return rows


def _filtered(s: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """s / (s^2 + shift), and 0 where s is 0."""
    return np.divide(s, s**2 + shift, out=np.zeros(np.broadcast_shapes(s.shape, shift.shape)), where=s > 0)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom; infinite where bottom is 0, and 1 where both are: nothing was asked, nothing was lost."""
    return np.divide(top, bottom, out=np.where((top > 0) | (bottom > 0), np.inf, 1.0), where=bottom > 0)


def outcomes(rank: Ranks, p: int, solved: PathValues, ridges: Ridges, eps: float) -> PathNames:
    """Names (k, r). ``solved``: condition number of the factorised matrix; half the digits must hold."""
    names = np.where(rank[:, None] < p, MINIMUM_NORM, FULL_RANK)
    names = np.where(ridges > 0, RIDGE, names)
    return np.where(solved > eps**-0.5, ILL_CONDITIONED, names)


def positive_solve(
    matrix: RateGrams, right: RateVectors, shifts: PathValues, eps: float
) -> tuple[PathWeights, PathValues, Ranks]:
    """Solve (matrix + shift) x = right, symmetric (k, n, n): x (k, r, n), root of the condition number (k, r), rank."""
    k, n = right.shape
    x = np.empty((k, shifts.shape[1], n))
    condition = np.empty(shifts.shape)
    rank = np.full(k, n)
    limit = 8 * n * eps
    for i in range(k):
        if shifts.shape[1] == 1:
            shifted = matrix[i] + shifts[i, 0] * np.eye(n)
            factor, info = _potrf(shifted, lower=1)
            if info == 0:
                reciprocal, _ = _pocon(factor, np.abs(shifted).sum(axis=0).max(), uplo="L")
                if reciprocal > limit:
                    if shifts[i, 0] > 0:
                        # The shift hides the rank: pivots of the matrix itself show it.
                        rank[i] = _pstrf(matrix[i], tol=limit * matrix[i].diagonal().max(), lower=1)[2]
                    x[i, 0], condition[i, 0] = _potrs(factor, right[i], lower=1)[0], reciprocal**-0.5
                    continue
        values, vectors = np.linalg.eigh(matrix[i])
        kept = values > limit * values[-1]
        rank[i] = kept.sum()
        values = np.where(kept, values, 0)
        # A shift also acts on directions without any row, where the solution stays at the starting point.
        inverse = np.divide(1.0, values + shifts[i, :, None], out=np.zeros((shifts.shape[1], n)), where=kept)
        x[i] = (inverse * (vectors.T @ right[i])) @ vectors.T
        low = values[kept][0] if kept.any() else 0.0
        condition[i] = np.sqrt(_ratio(values[-1] + shifts[i], low + shifts[i]))
    return x, condition, rank
