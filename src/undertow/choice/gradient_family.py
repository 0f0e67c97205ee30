r"""The gradient rule as a family of strategies: signed rates chosen by task-wise cross-validation from moments.

For each set of training folds the path is solved on their moments, by one eigendecomposition per rate that serves all
ridges and targets; the moments of the tested folds then give their loss at every adapt rate, since the loss is a
quadratic form of them. So the rows are read once, however many rates, ridges and folds there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from undertow import _circle
from undertow._check import InputError, one_of
from undertow._workers import each
from undertow.choice.gram_path import products_of, solve
from undertow.choice.limits import LIMITS, Limits
from undertow.choice.plan import Found, Plan, Tested
from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments
from undertow.linear.rules import GradientRule
from undertow.linear.surface import LossSurface

GRADIENT = ("joint", "step", "tied", "signed")
"""Strategies: no adaptation; no inner loop, then a step; one positive rate for both; a signed train rate."""


class RatePick(NamedTuple):
    """Rates, ridge and steps with the least cross-validated loss among those that a strategy allows."""

    train_rate: float
    """raw"""
    adapt_rate: float
    """raw"""
    ridge: float
    steps: int
    loss: float
    """half the mean squared error there: optimistic, since the pick was made on it"""


def candidate_rates(scale: float, n_rates: int = 101) -> np.ndarray:
    """Return the raw train rates that are tried: the grid on the circle, and finer ones near 0.

    A grid that is coarse near 0 makes a tied rate look worse than it is, since its best value may be small.
    """
    fine = np.array([0.003, 0.006, 0.012, 0.02])
    return scale * np.sort(np.concatenate([_circle.rates_of(_circle.grid(n_rates), 1.0), -fine, fine]))


def pick(surface: LossSurface, strategy: str) -> RatePick:
    """Return the best rates and ridge among those that ``strategy`` allows (see ``GRADIENT``).

    surface: of losses (k, r) with train rate 0 among its rates. Raises InputError for another strategy, and where none
    of the rates is allowed.
    """
    one_of(strategy, "strategy", GRADIENT)
    rates = surface.train_rates
    if strategy == "signed":
        allowed = np.arange(len(rates))
    else:
        allowed = np.flatnonzero((rates > 0) & np.isfinite(rates) if strategy == "tied" else rates == 0)
    part = replace(surface, train_rates=rates[allowed], products=surface.products[allowed])
    shape = part.products.shape[:2]
    if strategy == "tied":
        adapt = np.broadcast_to(rates[allowed, None], shape)
    else:
        adapt = np.zeros(shape) if strategy == "joint" or not len(allowed) else part.best_adapt_rate
    c = circle.powers(adapt, surface.steps)
    loss = np.zeros(shape)
    for i in range(surface.steps + 1):
        for j in range(surface.steps + 1):  # one by one: einsum and matmul take three times as long for four terms
            loss += 0.5 * part.products[..., i, j] * (c[..., i] * c[..., j])
    loss = loss.clip(0)
    loss = np.where(np.isfinite(loss), loss, np.inf)
    if not np.isfinite(loss).any():
        raise InputError("strategy", strategy, "it allows none of the train rates.", "Add 0 and positive ones.")
    k, r = np.unravel_index(int(loss.argmin()), loss.shape)
    rate = float(part.train_rates[k])
    return RatePick(rate, float(adapt[k, r]), float(surface.ridges[r]), surface.steps, float(loss[k, r]))


@dataclass(frozen=True, eq=False)
class RateSearch:
    """Products of errors for k rates, r ridges and one number of steps s, of each fit that a choice may be made by."""

    train_rates: np.ndarray
    """(k,) raw rates"""
    ridges: np.ndarray
    """(r,)"""
    products: dict[int | None, np.ndarray]
    """outer fold, or None -> (groups, k, r, s + 1, s + 1) sums of e_i e_j over the rows of each group, all targets"""
    weight: dict[int | None, np.ndarray]
    """outer fold, or None -> (groups,) weight of the query rows of each group"""
    scale: float

    def surface(self, outer: int | None = None, inner: int | None = None) -> LossSurface:
        """Return the loss as a function of both rates, of all groups that may choose; see ``plan``."""
        kept = np.arange(len(self.weight[outer])) != (-1 if inner is None else inner)
        products = self.products[outer][kept].sum(axis=0) / self.weight[outer][kept].sum()
        return LossSurface(self.train_rates, products, self.scale, self.ridges)


def search_rates(plan: Plan, moments: BlockMoments, train_rates: np.ndarray, ridges: np.ndarray) -> RateSearch:
    """Solve the path of every set of training folds and take the losses on the others. train_rates: raw (k,)."""
    coefficients, _ = circle.coefficients(train_rates, moments.scale, moments.steps)
    of_fold = np.bincount(moments.folds, moments.weight)

    def tested(fit: tuple[tuple[int, ...], dict[Tested, tuple[int, ...]]]) -> dict[Tested, np.ndarray]:
        weights = solve(moments.without(fit[0]), moments.n_targets, coefficients, ridges, moments.eps)
        return {key: products_of(moments.of_folds(those), weights) for key, those in fit[1].items()}

    found = {key: value for part in each(tested, plan.fits(), plan.n_jobs) for key, value in part.items()}
    groups = {outer: plan.groups(outer) for outer in (None, *range(len(plan.folds)))}
    products = {outer: np.stack([found[outer, group] for group in of_outer]) for outer, of_outer in groups.items()}
    weight = {outer: np.array([of_fold[list(group)].sum() for group in of_outer]) for outer, of_outer in groups.items()}
    return RateSearch(np.asarray(train_rates, dtype=np.float64), ridges, products, weight, moments.scale)


class GradientFamily:
    """Signed rates: no inner loop, one tied rate, or a free one."""

    def __init__(self, plan: Plan, moments: BlockMoments, ridges: Sequence[float], steps: Sequence[int], n_rates: int):
        self.plan = plan
        self.moments = moments
        self.rates = candidate_rates(moments.scale, n_rates)
        self.searches: dict[int, RateSearch] = {
            k: search_rates(plan, moments.first(k), self.rates, np.asarray(ridges, dtype=np.float64))
            for k in sorted(set(steps))
        }
        self._surfaces: dict[tuple[int | None, int | None], list[LossSurface]] = {}
        self._picks: dict[tuple[str, int | None, int | None], RatePick] = {}
        self._trained: dict[tuple[RatePick, tuple[int, ...]], Found] = {}

    def pick(self, strategy: str, outer: int | None = None, inner: int | None = None) -> RatePick:
        """Return the best rates, ridge and number of steps."""
        key = strategy, outer, inner
        if key not in self._picks:
            if key[1:] not in self._surfaces:
                self._surfaces[key[1:]] = [search.surface(outer, inner) for search in self.searches.values()]
            picks = [pick(surface, strategy) for surface in self._surfaces[key[1:]]]
            self._picks[key] = min(picks, key=lambda one: one.loss)
        return self._picks[key]

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        """Return the strategy chosen and trained without an outer fold and one of its inner groups."""
        return self.trained(self.pick(strategy, outer, inner), outer, inner)

    def trained(self, best: RatePick, outer: int | None = None, inner: int | None = None) -> Found:
        """Return what given rates train without an outer fold and one of its inner groups."""
        # Strategies that pick alike, and mixed models that take a mean from here, ask for the same weights.
        key = best, self.plan.without(outer, inner)
        if key not in self._trained:
            moments = self.moments.first(best.steps)
            # The raw rate means the same in every fold, whose own spectral units differ a little.
            c, _ = circle.coefficients(np.array([best.train_rate]), moments.scale, best.steps)
            weights = solve(moments.without(key[1]), moments.n_targets, c, np.array([best.ridge]), moments.eps)[0, 0]
            rule = GradientRule(best.adapt_rate, best.steps)
            self._trained[key] = Found(weights, (rule,) * moments.n_targets, self._settings(best))
        return self._trained[key]

    def settings(self, strategy: str) -> dict[str, float]:
        """Return what is chosen on all tasks."""
        return self._settings(self.pick(strategy))

    def _settings(self, best: RatePick) -> dict[str, float]:
        scale = self.moments.scale
        return {
            "train_rate": best.train_rate,
            "train_rate_spectral": best.train_rate / scale,
            "adapt_rate": best.adapt_rate,
            "adapt_rate_spectral": best.adapt_rate / scale,
            "ridge": best.ridge,
            "steps": best.steps,
        }


def default_rates(n_columns: int, limits: Limits = LIMITS) -> int:
    """Return how many rates around the circle are tried where nobody says."""
    return 101 if n_columns <= limits.wide else 41 if n_columns <= limits.very_wide else 21
