r"""The gradient rule by task-wise cross-validation: all rates, all ridges, every fold, from the moments of blocks.

For each fold the path is solved on the other folds' moments, by one eigendecomposition per rate that serves all ridges
and targets; the fold's own moments then give its loss at every adaptation rate (see ``surface``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve as solve_positive

from undertow.choice.rate_picks import pick
from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments, at
from undertow.linear.surface import LossSurface

_NUMBERS_AT_ONCE = 1 << 22
# From this ridge on the condition number leaves a direct solution its digits.
_LEAST_DIRECT_RIDGE = 1e-6


class RatePick(NamedTuple):
    """One point of the search."""

    train_rate: float
    adapt_rate: float
    ridge: float
    steps: int
    loss: float
    """cross-validated loss there"""
    position: tuple[int, int]
    """positions of its train rate and ridge"""


@dataclass(frozen=True, eq=False)
class RateSearch:
    """Cross-validated products of errors for k rates and r ridges. Letters: F folds, s adaptation steps."""

    train_rates: np.ndarray
    """(k,) raw rates"""
    ridges: np.ndarray
    """(r,)"""
    products: np.ndarray
    """(F, k, r, s + 1, s + 1) sums of e_i e_j over the query rows of each fold and all targets"""
    weight: np.ndarray
    """(F,) weight of the query rows of each fold"""
    scale: float

    def surface(self, leave_out: int | None = None) -> LossSurface:
        """Return the mean loss over folds as a function of both rates; ``leave_out``: without one fold."""
        kept = np.ones(len(self.weight), dtype=bool)
        if leave_out is not None:
            kept[leave_out] = False
        products = self.products[kept].sum(axis=0) / self.weight[kept].sum()
        return LossSurface(self.train_rates, products, self.scale, self.ridges)

    def pick(self, strategy: str = "signed", leave_out: int | None = None) -> RatePick:
        """Return the best point that ``strategy`` allows; see ``undertow.choice.rate_picks.STRATEGIES``."""
        best = pick(self.surface(leave_out), strategy)
        column = int(np.flatnonzero(self.ridges == best.ridge)[0])
        return RatePick(
            best.train_rate,
            best.adapt_rate,
            best.ridge,
            self.products.shape[-1] - 1,
            best.loss,
            (best.position, column),
        )

    def fold_loss(self, fold: int, chosen: RatePick) -> float:
        """Summed loss of one fold's rows at a point."""
        products = self.products[(fold, *chosen.position)]
        c = circle.powers(np.array(chosen.adapt_rate), products.shape[-1] - 1)
        return float(0.5 * c @ products @ c)


def search_rates(moments: BlockMoments, train_rates: np.ndarray, ridges: np.ndarray) -> RateSearch:
    """Solve every fold's path and take the losses on the fold. train_rates: raw (k,), with 0 among them."""
    scale, n_folds = moments.scale, int(moments.folds.max()) + 1
    coefficients, _ = circle.coefficients(train_rates, scale, moments.steps)
    products = np.stack(
        [
            held_out(
                moments.of_fold(fold),
                solve(moments.without(fold), moments.n_targets, coefficients, ridges, moments.eps),
            )
            for fold in range(n_folds)
        ]
    )
    weight = np.bincount(moments.folds, moments.weight)
    return RateSearch(np.asarray(train_rates, dtype=np.float64), ridges, products, weight, scale)


def solve(gram: np.ndarray, q: int, coefficients: np.ndarray, ridges: np.ndarray, eps: float) -> np.ndarray:
    """Return weights (k, r, q, p) at rows of coefficients (k, steps + 1) and ridges (r,) relative to tr(B^T B) / p."""
    width = gram.shape[1]
    p = width - q
    if len(ridges) == 1 and ridges[0] >= max(_LEAST_DIRECT_RIDGE, 16 * p * eps):
        return _direct(gram, q, coefficients, float(ridges[0]))
    out = np.empty((len(coefficients), len(ridges), q, p))
    size = max(1, _NUMBERS_AT_ONCE // width**2)
    for start in range(0, len(coefficients), size):
        part = slice(start, start + size)
        full = at(gram, coefficients[part])
        values, vectors = np.linalg.eigh(full[:, :p, :p])
        # Directions without any row stay at 0, where a ridge alone would put them too.
        kept = values > 8 * p * eps * values[:, -1:]
        values = np.where(kept, values, 0)
        shifts = values.sum(axis=1)[:, None] * ridges / p
        total = values[:, None, :] + shifts[..., None]
        inverse = np.divide(1.0, total, out=np.zeros_like(total), where=kept[:, None, :] & (total > 0))
        projected = full[:, p:, :p] @ vectors  # (k, q, p)
        scaled = projected[:, None] * inverse[:, :, None]
        out[part] = (scaled.reshape(len(full), -1, p) @ vectors.transpose(0, 2, 1)).reshape(out[part].shape)
    return out


def _direct(gram: np.ndarray, q: int, coefficients: np.ndarray, ridge: float) -> np.ndarray:
    """The same at one ridge that makes the problem regular: by elimination, without eigenvalues."""
    p = gram.shape[1] - q
    out = np.empty((len(coefficients), 1, q, p))
    for i, one in enumerate(coefficients):
        full = at(gram, one[None])[0]
        matrix = full[:p, :p]
        matrix[np.diag_indices(p)] += ridge * np.trace(matrix) / p or 1.0
        out[i, 0] = solve_positive(matrix, full[:p, p:], assume_a="pos").T
    return out


def held_out(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sums of e_i e_j over rows and targets, (..., s + 1, s + 1), for weights (..., q, p)."""
    q, p = weights.shape[-2:]
    s = gram.shape[0]
    flat = weights.reshape(-1, q, p)
    out = np.zeros((len(flat), s, s))
    for j in range(q):
        columns = [*range(p), p + j]
        part = gram[:, columns][:, :, :, columns]
        v = np.concatenate([flat[:, j], np.full((len(flat), 1), -1.0)], axis=1)
        for a in range(s):
            for b in range(a + 1):
                value = ((v @ part[a, :, b]) * v).sum(axis=1)
                out[:, a, b] += value
                if a != b:
                    out[:, b, a] += value
    return out.reshape(*weights.shape[:-2], s, s)
