r"""How much each block of tasks moves the cross-validated loss, and each pair of blocks beyond what each one does.

A block's own losses say how the curve depends on the tasks that are tested. They do not say that the fits of two folds
share training tasks: a standard error from them alone is too small. Leaving block b out of a fold's training moves its
weights exactly by

.. math:: d_b = \omega_{-b} - \omega = (G - G_b + \lambda)^{-1} (G_b\,\omega - g_b),

and with it the losses of all blocks c of that fold, R_{cb}. The jackknife of Quenouille and Tukey sums own loss and all
R_{cb} into one influence per block. Where the fits of all rates would agree with more data, the loss differences
are a degenerate U-statistic: single blocks do nothing in the limit, and pairs of blocks are all there is. Then the
jackknife counts each pair twice, and its excess, the sum of squares over pairs, is taken off (Efron and Stein, "The
jackknife estimate of variance", Annals of Statistics 9, 1981). What a pair does is the second derivative of the loss by
the blocks' weights: one in training and one in test, the other way round, and both in training. With gradient s and
second derivative H of a fold's loss at its fit, this is

.. math:: R_{cb} + R_{bc} + d_b^T H\, d_c + s^T (G + \lambda)^{-1} (G_b\, d_c + G_c\, d_b),

the last two terms summed over the folds that train on both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_lapack_funcs

from undertow._workers import each
from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments, at

_potrf, _potrs = get_lapack_funcs(("potrf", "potrs"), dtype=np.float64)
# Points at a time: what is made of so few is still in the cache when it is used, and its memory is used again.
_FEWEST_POINTS, _NUMBERS = 32, 3 << 16
# Multiplications beyond which leaving out a block is linearised: (G + lambda)^-1 in place of (G - G_b + lambda)^-1.
_EXACT = 2e9


class Influences(NamedTuple):
    """Letters: B blocks, k points (a train rate with its adapt rate)."""

    own: np.ndarray
    """(B, k) loss of each block's rows under the fit without its fold, summed over rows and targets"""
    cross: np.ndarray
    """(B, B, k) by how much block b, as training data, moves the loss of block c: [c, b]; 0 within a fold"""
    weight: np.ndarray
    """(B,) weight of the rows of each block"""
    joint: np.ndarray
    """(B, B, k) what two blocks together do as training data beyond what each does alone; symmetric"""

    def losses(self) -> BlockLosses:
        """Return what means and variances of the losses, and of their differences, depend on."""
        i, j = np.tril_indices(len(self.weight), -1)
        pairs = self.cross[i, j]
        pairs += self.cross[j, i]
        pairs += self.joint[i, j]
        return BlockLosses(self.own, self.cross.sum(axis=0), self.weight, pairs)


class BlockLosses(NamedTuple):
    """Losses at k points, and what B blocks do to them; differences of two have the same form."""

    own: np.ndarray
    """(B, k) as in ``Influences``"""
    moved: np.ndarray
    """(B, k) by how much each block, as training data, moves the losses of all"""
    weight: np.ndarray
    """(B,)"""
    pairs: np.ndarray
    """(B (B - 1) / 2, k) what each two blocks do together, as training and test data, beyond what each does alone"""

    def __sub__(self, other: object) -> BlockLosses:
        if not isinstance(other, BlockLosses):
            return NotImplemented
        return BlockLosses(self.own - other.own, self.moved - other.moved, self.weight, self.pairs - other.pairs)

    def take(self, points: np.ndarray) -> BlockLosses:
        """Return the same at some points; one alone can be subtracted from all."""
        return BlockLosses(self.own[:, points], self.moved[:, points], self.weight, self.pairs[:, points])

    @property
    def mean(self) -> np.ndarray:
        """(k,) mean loss."""
        return self.own.sum(axis=0) / self.weight.sum()

    @property
    def of_block(self) -> np.ndarray:
        """(B, k) influence of each block on the mean loss; they sum to about 0."""
        total = self.own - self.weight[:, None] * self.mean + self.moved
        total -= total.mean(axis=0)
        return total / self.weight.sum()

    def variance(self) -> tuple[np.ndarray, np.ndarray]:
        """(k,) variance of the mean loss, and its share in the jackknife's, between 0 and 1."""
        n_blocks, total = len(self.weight), self.weight.sum()
        few = n_blocks / max(n_blocks - 1, 1)
        jackknife = few * (self.of_block**2).sum(axis=0)
        own = few * ((self.own - self.weight[:, None] * self.mean) ** 2).sum(axis=0) / total**2
        excess = np.einsum("tk,tk->k", self.pairs, self.pairs) / total**2
        # With pairs alone no more than half could go. Triples, which the jackknife counts three times, count where
        # there are few blocks; then the own losses, the fits being given, are the floor.
        floor = np.minimum(own, 0.5 * jackknife)
        found = np.minimum(np.maximum(jackknife - excess, floor), jackknife)
        return found, np.divide(found, jackknife, out=np.ones_like(found), where=jackknife > 0)


def influences(
    moments: BlockMoments,
    train_rates: np.ndarray,
    adapt_rates: np.ndarray,
    ridges: np.ndarray,
    *,
    exact: bool | None = None,
    n_jobs: int | None = None,
) -> Influences:
    """Return the influences at k points, each a raw train rate, a raw adapt rate and a ridge.

    exact: leave blocks out exactly (p^3 each); None: where that is cheap. n_jobs: number of workers.
    """
    train, _ = circle.coefficients(train_rates, moments.scale, moments.steps)
    test = circle.powers(adapt_rates, moments.steps)
    if exact is None:
        work = len(moments.weight) * (int(moments.folds.max()) + 1) * len(train) * moments.n_features**3
        exact = work <= _EXACT
    grams = _symmetric(moments.gram)

    def at_points(part: np.ndarray) -> Influences:
        return _at_points(moments, grams, train[part], test[part], ridges[part], exact)

    size = max(_FEWEST_POINTS, _NUMBERS // (len(moments.weight) * moments.gram.shape[2]))
    parts = each(at_points, np.array_split(np.arange(len(train)), -(-len(train) // size)), n_jobs)
    own, cross, joint = (np.concatenate([getattr(x, n) for x in parts], axis=-1) for n in ("own", "cross", "joint"))
    return Influences(own, cross, moments.weight, joint)


def _at_points(
    moments: BlockMoments, grams: np.ndarray, train: np.ndarray, test: np.ndarray, ridges: np.ndarray, exact: bool
) -> Influences:
    """The influences at rows of coefficients ``train`` and ``test`` (k, s); grams: ``_symmetric`` ones of blocks."""
    n_blocks, k, q, p = len(moments.weight), len(train), moments.n_targets, moments.n_features
    train_pairs, test_pairs = _pairs(train), _pairs(test)
    own = np.zeros((n_blocks, k))
    cross, joint = np.zeros((2, n_blocks, n_blocks, k))
    for fold in range(int(moments.folds.max()) + 1):
        shifted, right = _equations(moments.without((fold,)), train, ridges, p)
        solve = _solver(shifted)
        weights = solve(right)  # (k, p, q)
        v = np.concatenate([weights, np.broadcast_to(-np.eye(q), (k, q, q))], axis=1)  # (k, p + q, q)
        outside, inside = np.flatnonzero(moments.folds != fold), np.flatnonzero(moments.folds == fold)
        half = _apply(grams[inside], test_pairs, v)
        own[inside] = 0.5 * (half * v).sum(axis=(2, 3))
        slopes = half[:, :, :p]
        adjoint = solve(slopes.sum(axis=0))
        adjoint = np.concatenate([adjoint, np.zeros((k, q, q))], axis=1)
        moves = _apply(grams[outside], train_pairs, np.concatenate([v, adjoint], axis=2))[:, :, :p]
        moved, back = moves[..., :q], moves[..., q:]
        if exact:
            of_each = [at(moments.gram[b], train)[:, :p, :p] for b in outside]
            moved = np.stack([_solved(shifted - one, moves) for one, moves in zip(of_each, moved, strict=True)])
        else:
            moved = _of_blocks(solve, moved)
        # Leaving b out moves the weights by ``moved``; having it moves them the other way.
        cross[np.ix_(inside, outside)] = -_products(slopes, moved)
        bend = at(moments.of_folds((fold,)), test)[:, :p, :p]
        bent = _of_blocks(partial(np.matmul, bend), moved)
        turned = _products(back, moved)
        joint[np.ix_(outside, outside)] += _products(moved, bent) + turned + turned.transpose(1, 0, 2)
    return Influences(own, cross, moments.weight, joint)


def _equations(gram: np.ndarray, train: np.ndarray, ridges: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the weights at k points: matrices (k, p, p) with the ridge, and right sides (k, p, q)."""
    full = at(gram, train)
    matrix, right = full[:, :p, :p], full[:, :p, p:]
    trace = np.trace(matrix, axis1=1, axis2=2)
    # A little always, so that a direction without rows has a solution: it stays at 0.
    shift = np.maximum(trace * ridges / p, 1e-14 * trace)
    return matrix + shift[:, None, None] * np.eye(p), right


def _of_blocks(function: Callable[[np.ndarray], np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """A function of (k, p, n) of vectors (b, k, p, q), all blocks of a point side by side."""
    b, k, p, q = vectors.shape
    every = vectors.transpose(1, 2, 0, 3).reshape(k, p, b * q)
    return function(every).reshape(k, p, b, q).transpose(2, 0, 1, 3)


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Inner products (b, c, k) of vectors (b, k, p, q) and (c, k, p, q)."""
    k = left.shape[1]
    one, other = (a.transpose(1, 0, 2, 3).reshape(k, len(a), -1) for a in (left, right))
    return (one @ other.transpose(0, 2, 1)).transpose(1, 2, 0)


def _symmetric(grams: np.ndarray) -> np.ndarray:
    """Sums of parts i, j and j, i of Gram matrices (B, s, w, s, w), one below the other: (B, s (s + 1) / 2 w, w)."""
    s, width = grams.shape[1:3]
    parts = [grams[:, i, :, j] + (grams[:, j, :, i] if i != j else 0) for i in range(s) for j in range(i + 1)]
    return np.stack(parts, axis=1).reshape(len(grams), -1, width)


def _pairs(coefficients: np.ndarray) -> np.ndarray:
    """Products (k, s (s + 1) / 2) of rows of coefficients (k, s), by which the parts of ``_symmetric`` are added up."""
    i, j = np.tril_indices(coefficients.shape[1])
    return coefficients[:, i] * coefficients[:, j]


def _apply(grams: np.ndarray, pairs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return [B, gamma]^T [B, gamma] v, (b, k, p + q, q), of some blocks at rows of ``pairs``, for v (k, p + q, q)."""
    k, width, q = v.shape
    scaled = (pairs[:, None, :, None] * v.transpose(0, 2, 1)[:, :, None]).reshape(k * q, -1)
    return (scaled @ grams).reshape(len(grams), k, q, width).swapaxes(2, 3)


def _solver(matrices: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What solves (k, p, p) for (k, p, q): by one factor of each matrix, where all are positive."""
    factors = [_potrf(one, lower=1, clean=0) for one in matrices]
    if any(info for _, info in factors):
        return lambda right: _solved(matrices, right)
    return lambda right: np.stack([_potrs(f, one, lower=1)[0] for (f, _), one in zip(factors, right, strict=True)])


def _solved(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve (k, p, p) for (k, p, q); where one is singular to rounding, by least squares with the least norm."""
    try:
        return np.linalg.solve(matrices, right)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrices, hermitian=True) @ right
