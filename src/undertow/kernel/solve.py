r"""The outer problem between rows at given rates and ridges: :math:`(G(a) + \lambda) c = \gamma(a)`, with outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from undertow.kernel.blocks import KernelBlocks
from undertow.linear import circle
from undertow.linear.solvers import ILL_CONDITIONED, MINIMUM_NORM, RIDGE, positive_solve

LEAST_SQUARES = "least_squares"

REMEDY = {
    MINIMUM_NORM: "Every query row is fitted exactly: of all functions that do so this is the one nearest to f0.",
    LEAST_SQUARES: "The kernel has fewer independent features than there are query rows (or rows repeat): the squared "
    "error is least, and not zero. A kernel in float64 keeps more of them apart; a small ridge is smoother.",
    RIDGE: "The ridge makes the solution unique.",
    ILL_CONDITIONED: "More than half of the digits are lost. Use a ridge such as 1e-8, or a kernel in float64.",
}

_MATRIX_NUMBERS = 1 << 24


class KernelFit(NamedTuple):
    """Solutions at k rates and r ridges."""

    weights: np.ndarray
    """(k, r, N + m n_t) weights of the kernel at the query rows and then the support rows"""
    meta_loss: np.ndarray
    """(k, r) half the mean squared error on the query rows; infinite at the rate infinity unless there is none"""
    outcome: np.ndarray
    """(k, r) one of minimum_norm, least_squares, ridge, ill_conditioned"""
    condition: np.ndarray
    """(k, r) condition number of B, with the ridge where there is one"""
    rank: np.ndarray
    """(k,) numerical rank of G"""


@dataclass(frozen=True, eq=False)
class KernelProblem:
    """Blocks, and the targets that go with them."""

    blocks: KernelBlocks
    targets: np.ndarray
    """(steps + 1, N) L_j (y - f0)"""
    root: np.ndarray | None
    """(N,) square roots of the weights of the rows; None when all are 1"""
    total: float
    """sum of the weights"""

    def solve(self, rates: np.ndarray, ridges: np.ndarray) -> KernelFit:
        """Solve by Cholesky where one ridge and a good condition allow it, else by the eigenvalues above roundoff."""
        blocks = self.blocks
        coefficients, cos = circle.coefficients(rates, blocks.scale, blocks.steps)
        k, r, n = len(rates), len(ridges), blocks.n_rows
        dual, loss, condition = np.empty((k, r, n)), np.empty((k, r)), np.empty((k, r))
        rank = np.empty(k, dtype=np.int64)
        size = max(1, _MATRIX_NUMBERS // n**2)
        for start in range(0, k, size):
            part = slice(start, start + size)
            matrix, right = blocks.at(coefficients[part]), coefficients[part] @ self.targets
            if self.root is not None:
                matrix, right = matrix * self.root[:, None] * self.root, right * self.root
            shifts = np.trace(matrix, axis1=1, axis2=2)[:, None] * ridges / n
            found, condition[part], rank[part] = positive_solve(matrix, right, shifts, blocks.eps)
            loss[part] = ((found @ matrix - right[:, None]) ** 2).sum(-1) / (2 * self.total)
            dual[part] = found if self.root is None else found * self.root
        # The homogeneous form hides the size of B: at the rate infinity any residual is an infinite loss.
        factor = np.broadcast_to((cos ** (2 * blocks.steps))[:, None], loss.shape)
        at_infinity = np.where((rank == n)[:, None] & (ridges == 0), 0.0, np.inf)
        loss = np.divide(loss, factor, out=at_infinity, where=factor > 0)
        names = np.where(ridges > 0, RIDGE, np.where(rank == n, MINIMUM_NORM, LEAST_SQUARES)[:, None])
        names = np.where(condition**2 > blocks.eps**-0.5, ILL_CONDITIONED, names)
        return KernelFit(blocks.spread(coefficients, dual), loss, names, condition, rank)
