"""One symmetric system with many shifts: reduced to three diagonals once, then solved in as many steps as columns.

An eigendecomposition would do the same at three times the cost. Source: Golub and Van Loan, "Matrix Computations",
sections 4.3.6 and 8.3.1.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import get_lapack_funcs

_sytrd, _ormqr = get_lapack_funcs(("sytrd", "ormqr"), dtype=np.float64)
# Columns from which this is faster than eigenvalues: below, the calls cost more than the work.
LEAST_COLUMNS = 24
_BLOCK = 64
# Columns that are reduced together: at 24 to 400 columns four fifths of the time of LAPACK's own choice.
_TOGETHER = 16


def shifted_solutions(
    matrix: np.ndarray, right: np.ndarray, shifts: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return solutions (k, r, q, p) of M + shift I for M (k, p, p), right sides (k, q, p), and shifts (k, r) from 0 on.

    Second: for which M (k,) every eigenvalue is surely above ``least`` times the largest; the solutions of the others
    are of no use.
    """
    k, p = matrix.shape[:2]
    q, r = right.shape[1], shifts.shape[1]
    # Matrices last: the loops over them are long, those over shifts and right sides short.
    main, beside, turned = np.empty((p, 1, k)), np.empty((p - 1, 1, k)), np.empty((p, 1, q, k))
    turns = []
    for i in range(k):
        # A symmetric matrix transposed is in the order of LAPACK.
        reduced, main[:, 0, i], beside[:, 0, i], tau, _ = _sytrd(matrix[i].T, lower=1, lwork=_TOGETHER * p)
        # The first column stays: the rotation is one of the others. Columns from their second number on are had without
        # a copy; LAPACK does not read the last row, the start of the next column.
        turns.append((reduced.reshape(-1, order="F")[1 : 1 + p * (p - 1)].reshape((p, p - 1), order="F"), tau))
        turned[0, 0, :, i] = right[i, :, 0]
        turned[1:, 0, :, i] = _ormqr("L", "T", *turns[i], right[i, :, 1:].T, _BLOCK * q)[0]
    sums = np.abs(main)
    sums[1:] += np.abs(beside)
    sums[:-1] += np.abs(beside)
    # One more shift, down: its pivots are above 0 where all eigenvalues are above ``least`` (Sylvester's law).
    pivots = main + np.concatenate([shifts.T, -least * sums.max(axis=0)])
    y = np.repeat(turned, r, axis=1)
    with np.errstate(all="ignore"):
        for i in range(1, p):
            ratio = beside[i - 1] / pivots[i - 1]
            pivots[i] -= ratio * beside[i - 1]
            y[i] -= ratio[:-1, None] * y[i - 1]
        y[-1] /= pivots[-1, :-1, None]
        for i in range(p - 2, -1, -1):
            y[i] = (y[i] - beside[i, :, None] * y[i + 1]) / pivots[i, :-1, None]
    out = np.empty((k, r, q, p))
    for i in range(k):
        flat = y[..., i].reshape(p, r * q)
        out[i, ..., 0] = flat[0].reshape(r, q)
        out[i, ..., 1:] = _ormqr("L", "N", *turns[i], flat[1:], _BLOCK * r * q)[0].T.reshape(r, q, p - 1)
    return out, np.logical_and.reduce(pivots[:, -1] > 0)
