r"""The loss on new tasks as a function of both rates, exactly.

After k_r adaptation steps at rate r the error on a test row is :math:`\sum_j c_j(r) e_j` with
:math:`e_j = U_j \omega - u_j` (see ``blocks``; :math:`c_j(r) = \binom{k_r}{j} (-r)^j`), so the loss is a polynomial
in r whose coefficients are the mean products of the e_j: for one step a parabola, with its minimum at
:math:`\overline{e_0 e_1} / \overline{e_1^2}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from undertow import _check, _circle
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow._types import (
    Counts,
    Ids,
    PathValues,
    PathWeights,
    Products,
    RateLosses,
    Rates,
    Ridges,
    TaskProducts,
    TaskRateLosses,
)
from undertow.linear import circle
from undertow.linear.blocks import Tasks, as_batches, check_steps, chunks, trace_nonfinite
from undertow.linear.moments import Moments, same_weighting


class BestRates(NamedTuple):
    """The pair of rates with the least loss on the new tasks.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=8)
    >>> path = ut.rate_path(problem.sample(ut.Design(n_tasks=20, n_support=12, n_query=5), seed=0))
    >>> best = path.evaluate(problem.sample(ut.Design(n_tasks=50, n_support=12, n_query=20), seed=1)).best()
    >>> bool(best.adapt_rate > 0), best.position
    (True, 42)
    """

    train_rate: float
    adapt_rate: float
    loss: float
    ridge: float
    position: int
    """position of the (nearest) train rate in the path"""


@dataclass(frozen=True, eq=False, repr=False)
class LossSurface:
    """Mean test loss of every solution of a path, at any adapt rate. With several ridges (k,) becomes (k, r).

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=8)
    >>> path = ut.rate_path(problem.sample(ut.Design(n_tasks=20, n_support=12, n_query=5), seed=0), [-1, 0.2])
    >>> surface = path.evaluate(problem.sample(ut.Design(n_tasks=50, n_support=12, n_query=20), seed=1))
    >>> surface.loss(adapt_rate=0.2).shape, surface.best_adapt_rate.shape
    ((2,), (2,))
    >>> bool((surface.best_loss <= surface.loss(adapt_rate=0.2)).all())
    True
    """

    train_rates: Rates
    """(k,) raw rates of the path"""
    products: Products
    """(k, steps + 1, steps + 1) mean of e_i e_j over test rows"""
    scale: float
    """spectral unit of the path"""
    ridges: Ridges
    """(r,) ridges of the path"""
    task_products: TaskProducts | None = None
    """(m, k, steps + 1, steps + 1) the same for each task, where ``per_task`` asked for it"""
    task_rows: Counts | None = None
    """(m,) number of test rows of each task, where there are ``task_products``"""
    task_ids: Ids | None = None
    """(m,) what these tasks are called; their numbers, where they have no names"""
    weighting: str = "rows"
    """how test rows were weighted: "rows" or "tasks" """

    @property
    def steps(self) -> int:
        """Number of adaptation steps, k_r."""
        return self.products.shape[-1] - 1

    def __repr__(self) -> str:
        return (
            f"LossSurface({len(self.train_rates)} train rates, {len(self.ridges)} ridges, steps={self.steps}, "
            f"least loss {self.best().loss:.4g})"
        )

    def loss(self, adapt_rate: Any) -> RateLosses:
        """Return half the mean squared error after adaptation: (k,) for one rate, (k, q) for q rates.

        ``adapt_rate`` is a raw rate and may have either sign.

        Raises
        ------
        InputError
            when it is not finite.
        """
        return _losses(self.products, _adapt_rates(adapt_rate))

    def task_loss(self, adapt_rate: Any) -> TaskRateLosses:
        """Return the same for each task, (m, k) or (m, k, q). Raises InputError unless made with ``per_task=True``."""
        if self.task_products is None:
            way_out = ("Call evaluate with ", Setting("per_task", True), ".")
            raise InputError(None, rule="the surface holds no losses of single tasks.", way_out=way_out)
        return _losses(self.task_products, _adapt_rates(adapt_rate))

    @property
    def best_adapt_rate(self) -> PathValues:
        """(k,) the raw adapt rate with the least loss for each train rate, exactly."""
        if self.steps == 1:
            top, bottom = self.products[..., 0, 1], self.products[..., 1, 1]
            return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        flat = self.products.reshape(-1, self.steps + 1, self.steps + 1)
        return _least(flat, self.scale).reshape(self.products.shape[:-2])

    @property
    def best_loss(self) -> PathValues:
        """(k,) loss at ``best_adapt_rate``."""
        c = circle.powers(self.best_adapt_rate, self.steps)
        return (0.5 * np.einsum("...i,...ij,...j->...", c, self.products, c)).clip(0)

    def best(self) -> BestRates:
        """Return the pair of rates with the least loss over the path's train rates and all adapt rates.

        The path's ``refine`` also searches between its train rates.
        """
        losses = np.where(np.isfinite(self.best_loss), self.best_loss, np.inf)
        flat = int(losses.argmin())
        index = np.unravel_index(flat, losses.shape)
        k = flat // (losses.size // len(losses))
        ridge = float(self.ridges[flat % (losses.size // len(losses))])
        return BestRates(float(self.train_rates[k]), float(self.best_adapt_rate[index]), float(losses[index]), ridge, k)


def refined(surface: LossSurface, at: Callable[[float], LossSurface]) -> BestRates:
    """Return the best pair of rates, also between the train rates of a surface.

    at: the surface of the same tasks at one other train rate.
    """
    found = surface.best()
    angles = np.unique(_circle.angles_of(surface.train_rates, surface.scale))
    here = float(_circle.angles_of(np.array(found.train_rate), surface.scale))
    # On a circle: the neighbour of the last angle is the first one, half a turn further.
    around = np.concatenate([angles - np.pi, angles, angles + np.pi])
    below, above = around[around < here - 1e-12].max(), around[around > here + 1e-12].min()
    column = int(np.flatnonzero(surface.ridges == found.ridge)[0])

    def best_at(angle: float) -> BestRates:
        turned = (angle + np.pi / 2) % np.pi - np.pi / 2
        rate = float(_circle.rates_of(np.array(turned), surface.scale))
        there = at(rate)
        adapt, loss = there.best_adapt_rate.reshape(-1)[column], there.best_loss.reshape(-1)[column]
        return BestRates(rate, float(adapt), float(loss), found.ridge, found.position)

    result: Any = minimize_scalar(
        lambda angle: best_at(angle).loss, bounds=(below, above), method="bounded", options={"xatol": 1e-6}
    )
    better = best_at(float(result.x))
    return better if better.loss < found.loss else found


def evaluate(
    train_rates: Rates,
    weights: PathWeights,
    scale: float,
    ridges: Ridges,
    new_tasks: Tasks | Moments,
    *,
    steps: int = 1,
    per_task: bool = False,
    weighting: str | None = None,
) -> LossSurface:
    """Make the surface of some weights (k, p) or (k, r, p); see ``RatePath.evaluate``."""
    steps = check_steps(steps)
    p = weights.shape[-1]
    if isinstance(new_tasks, Moments):
        _same_features(new_tasks.n_features, p)
        if per_task or new_tasks.steps != steps:
            raise InputError(
                None,
                rule=f"moments of {new_tasks.steps} steps give no loss of single tasks or of {steps} steps.",
                way_out="Pass the tasks.",
            )
        same_weighting(weighting, new_tasks)
        products = new_tasks.quadratic(weights) / new_tasks.weight
        return LossSurface(train_rates, products, scale, ridges, weighting=new_tasks.weighting)
    weighting = "rows" if weighting is None else weighting
    batches = as_batches(new_tasks)
    _same_features(batches[0].n_features, p)
    lead = weights.shape[:-1]
    flat = np.concatenate([weights.reshape(-1, p), np.full((int(np.prod(lead)), 1), -1.0)], axis=1)
    total = np.zeros((len(flat), steps + 1, steps + 1))
    weight, parts = 0.0, []
    for batch in batches:
        tasks_total = np.zeros((batch.n_tasks, *total.shape)) if per_task else None
        for chunk in chunks(batch, steps, weighting):
            errors = (chunk.rows @ flat.T.astype(chunk.rows.dtype)).astype(np.float64, copy=False)  # (R, steps + 1, K)
            trace_nonfinite(errors, batch)
            weight += chunk.weight
            if tasks_total is None:
                total += np.einsum("rik,rjk->kij", errors, errors, optimize=True)
                continue
            starts = np.concatenate([[0], np.cumsum(chunk.counts)[:-1]])
            for i in range(steps + 1):
                for j in range(i + 1):
                    sums = np.add.reduceat(errors[:, i] * errors[:, j], starts, axis=0)
                    tasks_total[chunk.tasks, :, i, j] = tasks_total[chunk.tasks, :, j, i] = sums
        if tasks_total is not None:
            share = batch.query_counts.astype(float) if weighting == "rows" else np.ones(batch.n_tasks)
            total += tasks_total.sum(axis=0)
            parts.append(tasks_total / share[:, None, None, None])
    shape = (*lead, steps + 1, steps + 1)
    surface = LossSurface(train_rates, (total / weight).reshape(shape), scale, ridges, weighting=weighting)
    return with_tasks(surface, np.concatenate(parts).reshape(-1, *shape), batches) if per_task else surface


def with_tasks(surface: LossSurface, task_products: TaskProducts, batches: Sequence[TaskBatch]) -> LossSurface:
    """Return the surface with the products of each task (m, k, steps + 1, steps + 1) of these batches."""
    rows = np.concatenate([batch.query_counts for batch in batches])
    named = all(batch.ids is not None for batch in batches)
    ids = np.concatenate([batch.ids for batch in batches]) if named else np.arange(len(rows))
    return replace(surface, task_products=task_products, task_rows=rows, task_ids=ids)


def _same_features(theirs: int, ours: int) -> None:
    if theirs != ours:
        raise InputError(
            None,
            rule=f"the new tasks have {theirs} features, but the weights were trained on {ours}.",
            way_out="Use the same columns.",
        )


def _adapt_rates(value: Any) -> np.ndarray:
    rates = _check.rates(value, "adapt_rate")
    if np.abs(rates).max() > 1e50:
        largest = float(rates.flat[np.abs(rates).argmax()])
        raise InputError("adapt_rate", largest, "losses at rates beyond 1e50 are not numbers any more.")
    return rates


def _losses(products: np.ndarray, adapt_rates: np.ndarray) -> np.ndarray:
    """Losses (...) for one rate, (..., q) for q rates, of mean products (..., steps + 1, steps + 1)."""
    c = circle.powers(adapt_rates, products.shape[-1] - 1)
    # A mean of squares: below 0 by rounding only.
    if c.ndim == 1:
        return (0.5 * (products @ c @ c)).clip(0)
    return (0.5 * np.einsum("...ij,qi,qj->...q", products, c, c, optimize=True)).clip(0)


def _least(products: np.ndarray, scale: float) -> np.ndarray:
    """Global minimisers (n,) over the rate of polynomial losses of degree 2 k_r >= 4, by the roots of the derivatives.

    products: (n, k_r + 1, k_r + 1).
    """
    n, steps = len(products), products.shape[-1] - 1
    c = circle.powers(np.array(-scale), steps)  # binomial * scale^j, the rate in spectral units
    signed = c * (-1.0) ** np.arange(steps + 1)
    terms = np.outer(signed, signed) * products
    poly = np.zeros((n, 2 * steps + 1))
    for i in range(steps + 1):
        poly[:, i : i + steps + 1] += terms[:, i]
    best = np.zeros(n)
    degree = np.where(poly != 0, np.arange(2 * steps + 1), 0).max(axis=1)
    for d in np.unique(degree[degree >= 2]):
        rows = np.flatnonzero(degree == d)
        slope = poly[rows, 1 : d + 1] * np.arange(1, d + 1)
        # The roots are the eigenvalues of companion matrices, as in numpy.polynomial, but of all polynomials at once.
        companion = np.zeros((len(rows), d - 1, d - 1))
        companion[:, np.arange(1, d - 1), np.arange(d - 2)] = 1
        companion[:, :, -1] -= slope[:, :-1] / slope[:, -1:]
        roots = np.linalg.eigvals(companion[:, ::-1, ::-1])
        real = np.abs(roots.imag) <= 1e-7 * (1 + np.abs(roots.real))
        candidates = np.concatenate([np.zeros((len(rows), 1)), np.where(real, roots.real, 0.0)], axis=1)
        values = np.polynomial.polynomial.polyval(candidates, poly[rows].T[:, :, None], tensor=False)
        best[rows] = candidates[np.arange(len(rows)), values.argmin(axis=1)]
    return best * scale
