"""LAPACK's routines as they are: for matrices of a few rows, NumPy's and SciPy's wrappers cost more than the work."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_blas_funcs, get_lapack_funcs

_syevd, _trtrs = get_lapack_funcs(("syevd", "trtrs"), dtype=np.float64)
(_trsm,) = get_blas_funcs(("trsm",), dtype=np.float64)


def eigh(matrix: Float[np.ndarray, "n n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Return eigenvalues, going up, and eigenvectors of a symmetric matrix. Raises LinAlgError where there are none."""
    values, vectors, info = _syevd(matrix)
    if info:
        raise np.linalg.LinAlgError("Eigenvalues did not converge.")
    return values, vectors


def lifted(matrix: Float[np.ndarray, "*b n n"]) -> Float[np.ndarray, "*b n n"]:
    """Return matrices with as much more on their diagonals as rounding takes where noise is lost beside spread."""
    n = matrix.shape[-1]
    more = 4 * n * np.finfo(matrix.dtype).eps * np.trace(matrix, axis1=-2, axis2=-1)
    return matrix + more[..., None, None] * np.eye(n)


def solve_lower(factor: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
    """Return F^{-1} right for a lower triangle F in C order."""
    # The transpose of C order is Fortran order: no copy is made.
    return _trtrs(factor.T, right, lower=0, trans=1)[0]


def put_solution(factor: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n w"]) -> None:
    """Put F^{-1} right in the place of ``right``, for a lower triangle F; both in C order."""
    # In Fortran order: right^T F^{-T}, without a copy of either.
    _trsm(1.0, factor.T, right.T, side=1, overwrite_b=1)


def solve_lower_transposed(
    factor: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, "n ..."]:
    """Return F^{-T} right for a lower triangle F in C order."""
    return _trtrs(factor.T, right, lower=0)[0]
