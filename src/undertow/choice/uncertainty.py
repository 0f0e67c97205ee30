r"""How far off a prediction for a row of a new task is: a mixed model's variance, scaled by errors on held-out tasks.

Given n rows X of its task the weights have covariance :math:`P = (P_0^{-1} + X^T X / \sigma^2)^{-1}` with
:math:`P_0 = \Sigma_w + V`, V that of the mean's estimate, and a new target has variance

.. math:: v(x) = \sigma^2 + x^T P x .

What is used need not be that model, and rows need not be normal: so the interval is :math:`\hat y \pm c \sqrt{v(x)}`
with c the quantile of :math:`|y - \hat y| / \sqrt{v(x)}` over rows of held-out tasks, each task counting once, at no
rows and at ``n_support`` rows of the task: conformal prediction with a fitted scale and tasks as the units (Lei et al.,
JASA 113, 2018; Lee, Barber & Willett, arXiv 2306.06342).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.choice.plan import Found, Plan
from undertow.choice.probability import curve, probabilities, two_valued
from undertow.linear.ridge_solve import weighed
from undertow.mixed.fit import MixedFit
from undertow.mixed.lapack import lifted
from undertow.mixed.scoring import LEAST_SUM, root_of
from undertow.tasks.rows import TaskRows, of_target

LEVELS = np.arange(1, 100) / 100
"""Coverages whose quantiles are kept; between them they are interpolated."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Letters: q targets, d standardised columns. All in standardised units."""

    noise: np.ndarray
    """(q,) sigma^2"""
    task_covariance: np.ndarray
    """(q, d, d) Sigma_w; (q, 0, 0), as the other matrices, where there is no mixed model"""
    mean_covariance: np.ndarray
    """(q, d, d) of the common weights' estimate"""
    state: np.ndarray
    """(q, d, d) P, of the weights given the rows adapted to"""
    second_moment: np.ndarray
    """(d, d) mean of x x^T over training rows"""
    structure: str
    """of the mixed model that the variances are from; empty where there was none, and the scale is 1"""
    most_rows: float
    """of a negative variance of the intercept: known rows from which on they say nothing of others; else infinity"""
    n_adapted: int
    """rows adapted to so far"""
    n_support: int
    """rows adapted to in the errors behind ``at_support``"""
    at_zero: np.ndarray
    """(q, L) quantiles, at ``LEVELS``, of scaled errors on tasks without rows"""
    at_support: np.ndarray
    """(q, L) of those on tasks with ``n_support`` rows"""
    expected_mse: np.ndarray
    """(q, 2) mean of v over rows of tasks without rows and with ``n_support``: the error that the mixed model expects
    of itself; without one 1"""
    curves: np.ndarray
    """(q, 2, 2) from number to probability, where the target has two values (see ``probability``); else (q, 0, 2)"""

    def after(self, z: np.ndarray, n_rows: int | None = None) -> Uncertainty:
        """Return the same for a task of which rows z (n, d), times the roots of their weights, are known too.

        n_rows: how many rows they stand for; None: as many as they are.
        """
        n = self.n_adapted + (len(z) if n_rows is None else n_rows)
        if not self.structure:
            return replace(self, n_adapted=n)
        if n > self.most_rows - 0.5:
            return replace(self, state=self.task_covariance + self.mean_covariance, n_adapted=n)
        wide = z.astype(np.float64)
        state = np.stack([_posterior(p, wide, s) for p, s in zip(self.state, self.noise, strict=True)])
        return replace(self, state=state, n_adapted=n)

    def half_widths(self, z: np.ndarray, level: float) -> np.ndarray:
        """Return half the length of each row's interval, (R, q), for rows z (R, d).

        Raises InputError for a level that no held-out errors speak for.
        """
        level = checked_level(level)
        zero, support = (
            np.array([np.interp(level, LEVELS, one) for one in table]) for table in (self.at_zero, self.at_support)
        )
        # From no rows to n_support the quantile moves in proportion; beyond it stays.
        factor = zero + min(self.n_adapted / self.n_support, 1.0) * (support - zero)
        own = np.zeros((len(z), len(self.noise)))
        if self.structure:
            z = z.astype(np.float64)
            own = np.einsum("rd,qde,re->rq", z, self.state, z, optimize=True)
            own = np.maximum(own, 0.0 if math.isinf(self.most_rows) else -(1 - LEAST_SUM) * self.noise)
        return np.sqrt(self.noise + own) * factor

    def probabilities(self, values: np.ndarray, n_known: np.ndarray) -> np.ndarray:
        """Return the probability (R, q) of the larger of two values, for numbers predicted (R, q).

        n_known: (R,) rows of each row's task that are known beside those adapted to.
        """
        return probabilities(self.curves, values, (self.n_adapted + n_known) / self.n_support)


def checked_level(level: float) -> float:
    """Return the share that an interval is to hold; raise InputError for one that no held-out errors speak for."""
    level = _check.real(level, "interval")
    if not LEVELS[0] <= level <= LEVELS[-1]:
        raise InputError("interval", level, "it is a probability from 0.01 to 0.99.", "Use 0.9 for 90 %.")
    return level


def of_model(fits: Sequence[MixedFit], rows: TaskRows, n_support: int) -> Uncertainty:
    """Return the uncertainty that a mixed model claims of itself, one fit for each target: errors are normal."""
    moment = _second_moment(rows)
    normal = np.tile(scipy.stats.norm.ppf((1 + LEVELS) / 2), (len(fits), 1))
    return Uncertainty(
        noise=np.array([abs(fit.rule.ratio) for fit in fits]),
        task_covariance=np.stack([fit.full_covariance for fit in fits]),
        mean_covariance=np.stack([fit.mean_covariance for fit in fits]),
        state=np.stack([_prior(fit) for fit in fits]),
        second_moment=moment,
        structure=fits[0].structure,
        most_rows=min(fit.most_rows if fit.repels else math.inf for fit in fits),
        n_adapted=0,
        n_support=n_support,
        at_zero=normal,
        at_support=normal,
        expected_mse=np.array([_expected(fit, moment, n_support) for fit in fits]),
        curves=np.zeros((len(fits), 0, 2)),
    )


def calibrated(
    plan: Plan,
    found: Sequence[Found],
    fits: Sequence[Sequence[MixedFit]] | None,
    final: Sequence[MixedFit] | None,
) -> Uncertainty:
    """Return the uncertainty of a strategy, from its errors on tasks that it has not seen.

    found: for each fold what the strategy was without it; fits: the mixed model without it, for each target; None
    where there is none. final: the mixed model of all tasks.
    """
    q = plan.n_targets
    scores: list[list[list[np.ndarray]]] = [[[], []] for _ in range(q)]
    binary = two_valued(plan.rows.y)
    # Of each target: whether the larger value came, and the number predicted without rows and with them.
    seen: list[list[list[np.ndarray]]] = [[[], [], []] for _ in range(q)]
    middle = plan.rows.y.mean(axis=0)
    shares: list[np.ndarray] = []
    expected = np.zeros((q, 2))
    for fold, strategy in enumerate(found):
        rows = plan.rows.select(plan.tested(fold))
        alone = strategy.weights if strategy.unadapted is None else strategy.unadapted
        for batch, z, y, w in _drawn(plan, rows):
            real = w > 0
            shares.append((w / w.sum(axis=1, keepdims=True))[real])
            by = w if plan.rows.precise else np.ones_like(w)
            for j in range(q):
                one = of_target(batch, j)
                theta = strategy.rules[j].adapt(strategy.weights[j].astype(batch.query_x.dtype), one)
                before = y[..., j] - z @ alone[j]
                after = y[..., j] - (z @ theta[..., None].astype(np.float64))[..., 0]
                v_0, v = _variances(weighed(one)[0], z, by, None if fits is None else fits[fold][j])
                expected[j] += [(v_0[real] * shares[-1]).sum(), (v[real] * shares[-1]).sum()]
                scores[j][0].append((np.abs(before) / np.sqrt(v_0))[real])
                scores[j][1].append((np.abs(after) / np.sqrt(v))[real])
                if binary:
                    parts = y[..., j] > middle[j], y[..., j] - before, y[..., j] - after
                    for kept, part in zip(seen[j], parts, strict=True):
                        kept.append(part[real])
    weights = np.concatenate(shares)
    expected /= weights.sum()
    tables = np.array([[_quantiles(np.concatenate(part), weights) for part in pair] for pair in scores])
    curves = np.zeros((q, 0, 2))
    if binary:
        joined = [[np.concatenate(part) for part in own] for own in seen]
        curves = np.array([[curve(own[i], own[0], weights) for i in (1, 2)] for own in joined])
    if final is not None:
        own = of_model(final, plan.everything, plan.n_support)
        return replace(own, at_zero=tables[:, 0], at_support=tables[:, 1], expected_mse=expected, curves=curves)
    none = np.zeros((q, 0, 0))
    zero, support = tables[:, 0], tables[:, 1]
    return Uncertainty(
        np.ones(q), none, none, none, none[0], "", math.inf, 0, plan.n_support, zero, support, expected, curves
    )


def _second_moment(rows: TaskRows) -> np.ndarray:
    """Mean of x x^T (d, d) over at most some ten thousand standardised rows, evenly spread."""
    n = len(rows.y)
    some = np.linspace(0, n - 1, min(n, 20_000)).round().astype(int)
    z = rows.inputs(some).astype(np.float64)
    return z.T @ z / len(z)


def _expected(fit: MixedFit, moment: np.ndarray, n: int) -> tuple[float, float]:
    """Mean variance of a new target without rows, and with n rows that have this mean second moment."""
    if fit.repels:
        values, noise = np.linalg.eigvals(_prior(fit) @ moment).real, abs(fit.rule.ratio)
    else:
        # In units of the inputs, whose squares and those of the weights may leave the range of float64 together.
        unit = np.sqrt(np.diagonal(moment))
        unit = np.where(unit > 0, unit, 1.0)
        root = root_of(unit[:, None] * _prior(fit) * unit)
        values = np.linalg.eigvalsh(root.T @ (moment / unit / unit[:, None]) @ root).clip(0)
        noise = fit.rule.ratio
    return noise + float(values.sum()), noise + float((values / (1 + n * values / noise)).sum())


def _prior(fit: MixedFit) -> np.ndarray:
    return fit.full_covariance + fit.mean_covariance


def _posterior(prior: np.ndarray, z: np.ndarray, noise: float) -> np.ndarray:
    """Covariances (..., d, d) given rows z (..., n, d)."""
    cross = z @ prior
    gram = cross @ np.swapaxes(z, -1, -2) + noise * np.eye(z.shape[-2])
    return prior - np.swapaxes(cross, -1, -2) @ _solved(gram, cross)


def _solved(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """gram^{-1} right; where noise is lost beside rows of large weights, with as much more of it as rounding needs."""
    try:
        return np.linalg.solve(gram, right)
    except np.linalg.LinAlgError:
        return np.linalg.solve(lifted(gram), right)


def _drawn(plan: Plan, rows: TaskRows) -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield drawn tasks, and their query rows as they are: inputs (c, n, d), targets (c, n, q), weights (c, n).

    Those of the batch come times the roots of their weights. Padded rows weigh 0.
    """
    weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights
    # The weights are drawn as one more target, and none is 0, as those of padded rows are.
    kind = np.finfo(rows.y.dtype)
    column = weights.clip(kind.tiny, kind.max).astype(kind.dtype)
    plain = replace(rows, weights=None, y=np.column_stack([rows.y, column]))
    batches = [plan.draws(plain, inner=True, weighting="rows")]
    if rows.weights is not None:
        batches.append(plan.draws(rows, inner=True, weighting="rows"))
    for drawn in zip(*batches, strict=True):
        query, batch = drawn[0][0], drawn[-1][0]
        y = query.query_y.astype(np.float64)
        yield batch, query.query_x.astype(np.float64), y[..., :-1], y[..., -1]


def _variances(x: np.ndarray, z: np.ndarray, by: np.ndarray, fit: MixedFit | None) -> tuple[np.ndarray, np.ndarray]:
    """Variance of a new target at query rows z (c, n, d) without rows of the task and with x (c, n_support, d).

    by: (c, n) what the noise of a row is divided by, 0 for none.
    """
    if fit is None:
        return np.ones(z.shape[:2]), np.ones(z.shape[:2])
    prior, x = _prior(fit), x.astype(np.float64)
    own = ((z @ prior) * z).sum(axis=2)
    cross = x @ prior
    gram = cross @ x.transpose(0, 2, 1) + fit.noise_variance * np.eye(x.shape[1])
    shared = cross @ z.transpose(0, 2, 1)
    known = (shared * _solved(gram, shared)).sum(axis=1)
    floor = LEAST_SUM * fit.noise_variance if fit.repels else fit.rule.ratio
    noise, least = (one / np.where(by > 0, by, 1.0) for one in (fit.noise_variance, floor))
    return np.maximum(noise + own, least), np.maximum(noise + own - known, least)


def _quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Quantiles at ``LEVELS`` of values with weights."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return values[order][np.searchsorted(reached, LEVELS * reached[-1]).clip(max=len(values) - 1)]
