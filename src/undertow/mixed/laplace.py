r"""The likelihood of a generalised linear mixed model, by Laplace's approximation, with its gradient.

Rows of task i have :math:`\eta_i = X_i \beta + Z_i \Lambda v_i`, :math:`v_i \sim N(0, I)`, where Z holds the columns
whose weights vary between tasks and :math:`\Lambda = \operatorname{diag}(\lambda)` their deviations. With
:math:`h_i(v) = \sum_j w_j [y_j \eta_j - b(\eta_j)] - \tfrac12 |v|^2`, greatest at the mode :math:`\hat v_i`, and
:math:`H_i = I + \Lambda Z_i^T W_i Z_i \Lambda`, :math:`W = \operatorname{diag}(w_j b''(\eta_j))`,

.. math:: \ell(\beta, \lambda) = \sum_i \left[ h_i(\hat v_i) - \tfrac12 \log \det H_i \right] + \text{const} .

With :math:`r = w (y - \mu)`, :math:`s_j = \tfrac12 w_j b'''_j \, z_j^T \Lambda H^{-1} \Lambda z_j`,
:math:`c = H^{-1} \Lambda Z^T s` and :math:`t = s - W Z \Lambda c`, each task adds to the gradient (the mode's own
movement included)

.. math:: \partial_\beta = X^T (r - t) , \qquad
          \partial_{\lambda_k} = \hat v_k [Z^T (r - t)]_k - c_k [Z^T r]_k - [H^{-1} \Lambda Z^T W Z]_{kk} .

Sources: Breslow & Clayton, JASA 88 (1993); Pinheiro & Chao, J. Comput. Graph. Stat. 15 (2006); Bates, Maechler,
Bolker & Walker, J. Stat. Softw. 67 (2015), for :math:`\Lambda v`, which needs no inverse where a deviation is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from undertow.mixed.families import Family

_MOST_STEPS = 100
_MOST_HALVINGS = 40
# Of Newton's decrement, twice what a step promises: the modes are then right to eight digits.
_SETTLED = 1e-16


class LinkRows(NamedTuple):
    """Rows sorted by task. R rows, p columns, m tasks, each with a row."""

    x: Float[np.ndarray, "R p"]
    y: Float[np.ndarray, " R"]
    offsets: Int[np.ndarray, " o"]
    """(m + 1,) where each task starts"""
    weights: Float[np.ndarray, " R"]
    """(R,) how often each row counts"""

    def sums(self, values: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "m ..."]:
        """Return the sum over each task's rows."""
        return np.add.reduceat(values, self.offsets[:-1], axis=0)

    def spread(self, values: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "R ..."]:
        """Return each task's value at each of its rows."""
        return np.repeat(values, np.diff(self.offsets), axis=0)


class Modes(NamedTuple):
    """The mode of each task, and what the likelihood is made from there."""

    v: Float[np.ndarray, "m r"]
    eta: Float[np.ndarray, " R"]
    values: Float[np.ndarray, " m"]
    """h"""
    gram: Float[np.ndarray, "m r r"]
    """Z^T W Z"""
    precision: Float[np.ndarray, "m r r"]
    """H"""


class Value(NamedTuple):
    """The log-likelihood at a point."""

    value: float
    by_mean: Float[np.ndarray, " p"]
    by_scale: Float[np.ndarray, " r"]
    modes: Modes


def modes(
    rows: LinkRows,
    family: Family,
    fixed: Float[np.ndarray, " R"],
    z: Float[np.ndarray, "R r"],
    scale: Float[np.ndarray, " r"],
    start: Float[np.ndarray, "m r"] | None = None,
) -> Modes:
    """Return the mode of each task, by Newton's steps for all tasks at once, each halved where it lowers h.

    Parameters
    ----------
    fixed
        (R,) X beta.
    z, scale
        (R, r) columns that vary between tasks, (r,) their deviations, which may be 0.
    start
        (m, r) where to start; None for 0, the common weights.
    """
    m, r = len(rows.offsets) - 1, z.shape[1]
    loaded = z * scale
    v = np.zeros((m, r)) if start is None else start
    eta, values = _at(rows, family, fixed, loaded, v)
    if start is not None and not np.isfinite(values).all():
        v = np.zeros((m, r))
        eta, values = _at(rows, family, fixed, loaded, v)
    gram, precision, step, promise = _newton(rows, family, z, scale, v, eta)
    for _ in range(_MOST_STEPS):
        if (promise < _SETTLED * (1 + np.abs(values))).all():
            break
        v, eta, values = _uphill(rows, family, fixed, loaded, v, step, values)
        gram, precision, step, promise = _newton(rows, family, z, scale, v, eta)
    return Modes(v, eta, values, gram, precision)


def _newton(
    rows: LinkRows, family: Family, z: np.ndarray, scale: np.ndarray, v: np.ndarray, eta: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Z^T W Z and H, Newton's step, and twice what it promises."""
    slope = scale * rows.sums(z * (rows.weights * (rows.y - family.mean(eta)))[:, None]) - v
    gram = _gram(rows, z, rows.weights * family.variance(eta))
    precision = np.eye(len(scale)) + scale[:, None] * gram * scale
    step = np.linalg.solve(precision, slope[..., None])[..., 0]
    return gram, precision, step, (step * slope).sum(axis=1)


def _uphill(
    rows: LinkRows,
    family: Family,
    fixed: np.ndarray,
    loaded: np.ndarray,
    v: np.ndarray,
    step: np.ndarray,
    values: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A point up the step with its eta and values, each task's share of it halved as long as its value would fall."""
    length = np.ones(len(v))
    trial, (eta, new) = v + step, _at(rows, family, fixed, loaded, v + step)
    for _ in range(_MOST_HALVINGS):
        # Near the mode a step gains less than rounding takes.
        worse = ~(new >= values - 1e-12 * (1 + np.abs(values)))
        if not worse.any():
            break
        length[worse] *= 0.5
        trial = v + length[:, None] * step
        eta, new = _at(rows, family, fixed, loaded, trial)
    return trial, eta, new


def _at(
    rows: LinkRows, family: Family, fixed: np.ndarray, loaded: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    eta = fixed + (loaded * rows.spread(v)).sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        values = rows.sums(rows.weights * (rows.y * eta - family.cumulant(eta)))
    return eta, values - 0.5 * (v**2).sum(axis=1)


def _gram(rows: LinkRows, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r = z.shape[1]
    gram = np.empty((len(rows.offsets) - 1, r, r))
    for k in range(r):
        gram[:, k, k:] = rows.sums(z[:, k:] * (weights * z[:, k])[:, None])
        gram[:, k:, k] = gram[:, k, k:]
    return gram


def evaluate(
    rows: LinkRows,
    family: Family,
    varying: Int[np.ndarray, " r"],
    mean: Float[np.ndarray, " p"],
    scale: Float[np.ndarray, " r"],
    start: Float[np.ndarray, "m r"] | None = None,
) -> Value:
    """Return the log-likelihood with its slopes by the mean and the deviations of the columns ``varying``."""
    z = rows.x[:, varying]
    at = modes(rows, family, rows.x @ mean, z, scale, start)
    left = rows.weights * (rows.y - family.mean(at.eta))
    w = rows.weights * family.variance(at.eta)
    # V = Lambda H^-1 Lambda, the covariance of each task's weights given its rows.
    inverse = np.linalg.inv(at.precision)
    open_ = scale[:, None] * inverse * scale
    s = 0.5 * rows.weights * family.third(at.eta) * _quadratic(rows, z, open_)
    pulled = (inverse @ (scale * rows.sums(z * s[:, None]))[..., None])[..., 0]
    t = s - w * (z * rows.spread(scale * pulled)).sum(axis=1)
    of_rest, of_left = rows.sums(z * (left - t)[:, None]), rows.sums(z * left[:, None])
    by_scale = (at.v * of_rest - pulled * of_left).sum(axis=0)
    by_scale -= np.einsum("mkl,l,mlk->k", inverse, scale, at.gram)
    constant = float(rows.weights @ family.constant(rows.y))
    value = float(at.values.sum()) - 0.5 * float(np.linalg.slogdet(at.precision)[1].sum()) + constant
    return Value(value, rows.x.T @ (left - t), by_scale, at)


def _quadratic(rows: LinkRows, z: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """z^T V z of each row (R,), each with its own task's V; column by column, so that no (R, r, r) array is made."""
    total = np.zeros(len(z))
    for k in range(z.shape[1]):
        total += z[:, k] * (z * rows.spread(matrices[:, k])).sum(axis=1)
    return total


def information(
    rows: LinkRows, family: Family, varying: Int[np.ndarray, " r"], scale: Float[np.ndarray, " r"], at: Modes
) -> Float[np.ndarray, "p p"]:
    """Return what the rows say about the mean at the modes, the deviations known: that of penalised least squares.

    X^T W X less what the tasks' own weights take up: sum of X^T W Z Lambda H^-1 Lambda Z^T W X over tasks.
    """
    w = rows.weights * family.variance(at.eta)
    total = rows.x.T @ (rows.x * w[:, None])
    if not len(varying):
        return total
    cross = np.stack([rows.sums(rows.x * (w * rows.x[:, k])[:, None]) for k in varying], axis=1) * scale[:, None]
    return total - np.einsum("mkp,mkq->pq", cross, np.linalg.solve(at.precision, cross))
