r"""Curves fitted beside a linear mixed model, and whether one promises anything on held-out tasks.

Task i has targets :math:`y_i`, standardised columns :math:`Z_i` and, by the mixed model of the straight fit, covariance
:math:`V_i = Z_i \Psi Z_i^T + \sigma^2 I`. The spline part :math:`B_i \beta` minimises, with the common weights
:math:`\omega` left free,

.. math:: \sum_i r_i^T V_i^{-1} r_i + \rho\, \beta^T P \beta, \qquad r_i = y_i - Z_i \omega - B_i \beta ,

with P the squared second differences of neighbouring coefficients (Eilers and Marx, "Flexible smoothing with B-splines
and penalties", Statistical Science 11, 1996) and :math:`\rho` chosen by that sum on held-out tasks. Each column of B is
what a straight line leaves of a B-spline. Trees are boosted on what the tasks' own straight models leave, as in a
mixed-effects random forest (Hajjem, Bellavance and Larocque, JSCS 84, 2014).

A column that a task's fold has no part in is made fold by fold; what is promised is the difference of
:math:`r_i^T V_i^{-1} r_i` on held-out tasks with that column and without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy.interpolate import BSpline

from undertow._workers import n_workers
from undertow.choice.uncertainty import Uncertainty
from undertow.tasks.curve import DEGREE, Splines, Trees
from undertow.tasks.losses import mean_over_tasks, weights_of
from undertow.tasks.rows import TaskRows

# Pieces of a spline, between quantiles of its column: the penalty says how much it bends, not their number.
_PIECES = 6
# Values that a column must have to bend at all.
_LEAST_VALUES = 6
MOST_SPLINES = 40
"""columns that bend beyond which no splines are tried: each has nine coefficients"""
_PENALTIES = np.geomspace(1e-4, 1e3, 8)
_TREES, _QUICK_TREES, _LEAVES = 100, 30, 8


@dataclass(frozen=True, eq=False)
class Around:
    """Rows of all tasks and the mixed model around whose straight line they bend. Letters as in ``TaskRows``."""

    x: np.ndarray
    """(R, p) raw features, sorted by task"""
    z: np.ndarray
    """(R, d) standardised columns, times the roots of the rows' weights"""
    y: np.ndarray
    """(R, q) standardised targets, likewise"""
    roots: np.ndarray
    """(R, 1) of the weights"""
    offsets: np.ndarray
    folds: np.ndarray
    """(m,) fold of each task"""
    factors: np.ndarray
    """(q, d, d) L with L L^T = Psi / sigma^2"""

    @classmethod
    def of(cls, rows: TaskRows, folds: np.ndarray, uncertainty: Uncertainty) -> Around:
        """Return the rows of tasks in these folds (m,) around the mixed model behind ``uncertainty``."""
        numbers = rows.rows if rows.places is None else rows.places
        roots = np.ones((len(rows.y), 1)) if rows.weights is None else np.sqrt(rows.weights)[:, None]
        d, q = rows.n_columns, rows.y.shape[1]
        factors = np.zeros((q, d, d))
        if uncertainty.structure:
            for j in range(q):
                values, vectors = np.linalg.eigh(uncertainty.task_covariance[j] / uncertainty.noise[j])
                factors[j] = vectors * np.sqrt(values.clip(0))
        z = rows.inputs().astype(np.float64) * roots
        y = rows.y.astype(np.float64) * roots
        return cls(np.asarray(rows.x[numbers], dtype=np.float64), z, y, roots, rows.offsets, folds, factors)

    @property
    def row_folds(self) -> np.ndarray:
        """(R,) fold of each row."""
        return np.repeat(self.folds, np.diff(self.offsets))

    @cached_property
    def straight(self) -> list[np.ndarray]:
        """``whitened`` columns of the straight model and, last, of each target."""
        return [self.whitened(np.c_[self.z, self.y[:, [j]]], j) for j in range(self.y.shape[1])]

    def whitened(self, columns: np.ndarray, j: int) -> np.ndarray:
        """Return sigma V_i^{-1/2} C_i of each task, one below the other, for columns C (R, c) and target j.

        With :math:`E_i = Z_i L` and :math:`E_i^T E_i = Q \\Lambda Q^T` it is
        :math:`C - E Q \\Lambda^{-1} [I - (I + \\Lambda)^{-1/2}] Q^T E^T C`, which no weights of rows make singular.
        """
        effects, shrink = self._effects[j]
        out = np.array(columns, dtype=np.float64)
        for start, stop, one in zip(self.offsets[:-1], self.offsets[1:], shrink, strict=True):
            e = effects[start:stop]
            out[start:stop] -= e @ (one @ (e.T @ columns[start:stop]))
        return out

    @cached_property
    def _effects(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """E of all rows, and Q Lambda^{-1} [I - (I + Lambda)^{-1/2}] Q^T of each task, by target."""
        out = []
        for factor in self.factors:
            effects = self.z @ factor
            grams = [effects[i:j].T @ effects[i:j] for i, j in zip(self.offsets[:-1], self.offsets[1:], strict=True)]
            values, vectors = np.linalg.eigh(np.stack(grams))
            roots = np.sqrt(1 + values.clip(0))[:, None]
            out.append((effects, (vectors / (roots * (roots + 1))) @ vectors.transpose(0, 2, 1)))
        return out

    def of_folds(self, whitened: np.ndarray) -> np.ndarray:
        """Return products of whitened columns (R, c), summed over the rows of each fold, (K, c, c)."""
        own = [whitened[self.row_folds == fold] for fold in range(int(self.folds.max()) + 1)]
        return np.stack([one.T @ one for one in own])


def promise(
    around: Around, column: np.ndarray, weighting: str, folds: Sequence[int] | None = None
) -> tuple[float, float]:
    """Return by what share of it a column (R, q) of the folds changes held-out tasks' misfit, and the standard error.

    folds: those that the column is made for, added as it stands; None for all, with a weight by the other folds.
    """
    gaps, base = np.zeros((2, len(around.folds)))
    for j, line in enumerate(around.straight):
        every = np.c_[around.whitened(column[:, [j]] * around.roots, j), line]
        sums = around.of_folds(every)
        bent, straight = np.zeros((2, len(every)))
        for k in range(len(sums)) if folds is None else folds:
            own, total = around.row_folds == k, sums[np.arange(len(sums)) != k].sum(axis=0)
            straight[own] = every[own, 1:] @ np.append(_least_squares(total[1:, 1:], 0.0), -1.0)
            added = every[own, 0] + straight[own]
            bent[own] = added if folds is not None else every[own] @ np.append(_least_squares(total, 0.0), -1.0)
        base += np.add.reduceat(straight**2, around.offsets[:-1])
        gaps += np.add.reduceat(bent**2, around.offsets[:-1])
    seen = base > 0
    if not seen.any():  # the straight model is without error, and a column gains nothing
        return 0.0, 0.0
    counts = np.diff(around.offsets)[seen].astype(np.float64)
    weights = weights_of(counts, weighting)
    gap, error = mean_over_tasks((gaps - base)[seen] / counts, weights)
    unit = float(np.average(base[seen] / counts, weights=weights))
    return gap / unit, error / unit


def splines(around: Around) -> tuple[Splines, np.ndarray] | None:
    """Return splines of all tasks, and the column (R, q) of splines that have not seen a row's fold; None for none."""
    some = around.x[np.linspace(0, len(around.x) - 1, min(len(around.x), 2000)).astype(int)]
    features = [j for j in range(some.shape[1]) if len(np.unique(some[:, j])) >= _LEAST_VALUES]
    if not features or len(features) > MOST_SPLINES:
        return None
    knots = np.stack([_knots(around.x[:, j]) for j in features])
    parts, lines = zip(*(_bent(around.x[:, j], t) for j, t in zip(features, knots, strict=True)), strict=True)
    b, n = np.concatenate(parts, axis=1), parts[0].shape[1]
    second = np.diff(np.eye(n), 2, axis=0)
    # A little of the identity, for what bends nothing: a straight line.
    penalty = np.kron(np.eye(len(features)), second.T @ second + 1e-3 * np.eye(n))
    q = around.y.shape[1]
    coef, column = np.empty((len(features), n, q)), np.empty((len(b), q))
    for j in range(q):
        sums = around.of_folds(np.c_[around.whitened(b * around.roots, j), around.straight[j]])
        of_all, of_folds = _chosen(sums, penalty)
        for fold, beta in enumerate(of_folds):
            own = around.row_folds == fold
            column[own, j] = b[own] @ beta
        for i, (own, (constant, slope)) in enumerate(zip(of_all.reshape(len(features), n), lines, strict=True)):
            # A straight line is the spline whose coefficients are the means of three neighbouring knots.
            means = np.array([knots[i][k + 1 : k + 1 + DEGREE].mean() for k in range(n)])
            coef[i, :, j] = own - own @ constant - (own @ slope) * means
    return Splines(np.array(features), knots, coef), column


def _knots(x: np.ndarray) -> np.ndarray:
    inner = np.unique(np.quantile(x, np.linspace(0, 1, _PIECES + 1)))
    if len(inner) < _PIECES + 1:
        inner = np.linspace(x.min(), x.max(), _PIECES + 1)
    return np.concatenate([[inner[0]] * DEGREE, inner, [inner[-1]] * DEGREE])


def _bent(x: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """What straight lines leave of the B-splines, (R, n), and the constants and slopes of these lines, each (n,)."""
    basis = BSpline.design_matrix(x, knots, DEGREE).toarray()
    centre = x.mean()
    slope = (x - centre) @ basis / ((x - centre) ** 2).sum()
    constant = basis.mean(axis=0) - slope * centre
    return basis - constant - x[:, None] * slope, (constant, slope)


def _chosen(sums: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Coefficients by all folds, and without each fold: penalties are chosen by fits without the fold they are for."""
    n, total, folds = len(penalty), sums.sum(axis=0), range(len(sums))
    unit = np.trace(total[:n, :n]) / np.trace(penalty)

    @cache
    def fit(without: tuple[int, ...], rho: float) -> np.ndarray:
        left = total - sums[list(without)].sum(axis=0)
        padded = np.zeros((len(left) - 1, len(left) - 1))
        padded[:n, :n] = rho * unit * penalty
        return _least_squares(left, padded)

    def loss(fold: int, without: tuple[int, ...], rho: float) -> float:
        v = np.append(fit(without, rho), -1.0)
        return float(v @ sums[fold] @ v)

    def best(outer: int | None) -> float:
        others = [fold for fold in folds if fold != outer]
        seen = set() if outer is None else {outer}
        return min(_PENALTIES, key=lambda rho: sum(loss(fold, tuple(sorted({fold} | seen)), rho) for fold in others))

    return fit((), best(None))[:n], [fit((fold,), best(fold))[:n] for fold in folds]


def _least_squares(sums: np.ndarray, penalty: np.ndarray | float) -> np.ndarray:
    """Solve for the columns but the last, the target."""
    matrix = sums[:-1, :-1] + penalty
    matrix[np.diag_indices(len(matrix))] += 1e-9 * np.trace(matrix) / len(matrix) + 1e-300
    return np.linalg.solve(matrix, sums[:-1, -1])


def trees(around: Around, n_jobs: int | None) -> Trees:
    """Return trees of all tasks."""
    with _threads(n_jobs):
        return _boosted(around, None, quick=False)


def column_of_trees(around: Around, fold: int | None, n_jobs: int | None) -> np.ndarray:
    """Return the column (R, q) of trees that have not seen a row's fold.

    fold: None for all; else a quick look, with fewer and coarser trees: a column for that fold, and nothing else.
    """
    column, row_folds = np.zeros(around.y.shape), around.row_folds
    with _threads(n_jobs):
        for k in range(int(around.folds.max()) + 1) if fold is None else [fold]:
            own = row_folds == k
            column[own] = _boosted(around, k, quick=fold is not None).values(around.x[own])
    return column


def _threads(n_jobs: int | None) -> Any:
    return _openmp().limit(limits=n_workers(n_jobs), user_api="openmp")


@cache
def _openmp() -> Any:
    """The libraries that trees are grown by, which take milliseconds to find."""
    import sklearn.ensemble  # noqa: F401  (it brings them)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _left_by_tasks(around: Around, without: int | None) -> np.ndarray:
    """What the straight models of the tasks leave, (R, q), in the unit of the targets; without a fold in these."""
    left = np.empty(around.y.shape)
    others = around.row_folds != (-1 if without is None else without)
    for j, line in enumerate(around.straight):
        beta = _least_squares(line[others].T @ line[others], 0.0)
        left[:, [j]] = around.whitened(line[:, -1:] - line[:, :-1] @ beta[:, None], j)
    return left / around.roots


def _boosted(around: Around, without: int | None, *, quick: bool) -> Trees:
    from sklearn.ensemble import HistGradientBoostingRegressor

    which = around.row_folds != (-1 if without is None else without)
    settings: dict[str, Any] = {"max_leaf_nodes": _LEAVES, "early_stopping": False, "random_state": 0}
    settings |= {"max_iter": _QUICK_TREES, "learning_rate": 0.25} if quick else {"max_iter": _TREES}
    x, y, weights = around.x[which], _left_by_tasks(around, without)[which], around.roots[which, 0] ** 2
    if (weights == 1).all():
        weights = None  # the same trees: of weighted rows a column is sorted once for each of its bins
    return read_trees([HistGradientBoostingRegressor(**settings).fit(x, of_target, weights) for of_target in y.T])


def read_trees(found: Sequence[Any]) -> Trees:
    """The trees of scikit-learn as arrays, which a file can hold without code. found: for each target."""
    nodes, targets = [], []
    for j, one in enumerate(found):
        for (tree,) in one._predictors:
            nodes.append(tree.nodes)
            targets.append(j)
    starts = np.concatenate([[0], np.cumsum([len(one) for one in nodes])])
    every = np.concatenate(nodes)
    shift = np.repeat(starts[:-1], np.diff(starts))
    leaf = every["is_leaf"].astype(bool)
    return Trees(
        starts[:-1].astype(np.int64),
        np.array(targets, dtype=np.int64),
        np.where(leaf, -1, every["feature_idx"]).astype(np.int64),
        np.where(leaf, 0.0, every["num_threshold"]).astype(np.float64),
        np.where(leaf, 0, every["left"] + shift).astype(np.int64),
        np.where(leaf, 0, every["right"] + shift).astype(np.int64),
        np.where(leaf, every["value"], 0.0).astype(np.float64),
        np.array([float(np.ravel(one._baseline_prediction)[0]) for one in found]),
    )
