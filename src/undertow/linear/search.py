"""The search of the estimators with CV: strategies, their losses on held-out tasks, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments
from undertow.linear.choice import Choice, RateInterval, decide, gain, rate_interval, uniform_angles
from undertow.linear.held_out import mean_over_tasks
from undertow.linear.influence import influences
from undertow.linear.rows import TaskRows
from undertow.linear.strategy_search import (
    GRADIENT,
    PROXIMAL,
    Found,
    GradientFamily,
    MixedFamily,
    Plan,
    ProximalFamily,
    default_ratios,
    gather_moments,
    held_out_losses,
)
from undertow.linear.surface import LossSurface
from undertow.linear.task_losses import TaskLosses
from undertow.tasks import folds

RULES = ("gradient", "ridge", "mixed")

# Multiplications that the draws of support rows may cost together: small tables get many draws, large ones one.
WORK = 1e10
_MOST_DRAWS = 10
# The mixed model has a variance for each feature; beyond this many it is not tried.
_MIXED_COLUMNS = 160
_FULL_COLUMNS = 12


class Searched(NamedTuple):
    """Result of a search."""

    best: Found
    choice: Choice
    moments: BlockMoments
    """of all tasks, for the path"""
    ridge: float
    """ridge of the gradient rule's signed pick"""
    steps: int
    """and its number of steps"""
    scale: float
    n_draws: int
    surface: LossSurface
    """cross-validated loss of the gradient rule over train rate, ridge and adapt rate"""
    held_out: TaskLosses


def search(
    everything: TaskRows,
    rows: TaskRows,
    *,
    n_support: int,
    cv: int | list[np.ndarray],
    rules: Sequence[str],
    ridges: Sequence[float],
    steps: Sequence[int],
    n_draws: int | None,
    n_rates: int | None,
    level: float,
    seed: int,
) -> Searched:
    """Choose rule, rates, penalties and ridge by task-wise cross-validation.

    everything: all tasks; rows: those with more than ``n_support`` rows, at least two.
    cv: number of folds, or the task numbers (in ``rows``) of each fold.
    """
    d = rows.n_columns
    parts = folds(rows.ids, min(cv, rows.n_tasks), seed) if isinstance(cv, int) else cv
    n_folds = len(parts)
    if n_draws is None:
        work = float(len(rows.y)) * ((max(steps) + 1) * (d + 1)) ** 2
        n_draws = int(np.clip(WORK // work, 1, _MOST_DRAWS))
    if n_rates is None:
        n_rates = 101 if d <= 128 else 41 if d <= 400 else 21
    plan = Plan(rows, everything, parts, n_support, n_draws, seed)
    moments, proximal = gather_moments(plan, max(steps), default_ratios(len(rows.y), d) if "ridge" in rules else None)
    gradient = GradientFamily(plan, moments, ridges, steps, n_rates)
    families: dict[str, GradientFamily | ProximalFamily | MixedFamily] = dict.fromkeys(GRADIENT, gradient)
    if proximal is not None:
        families |= dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, ridges))
    if "mixed" in rules and d <= _MIXED_COLUMNS and rows.n_tasks - rows.n_tasks // n_folds >= 3:
        structures = ("isotropic", "diagonal", "full") if d <= _FULL_COLUMNS else ("isotropic", "diagonal")
        mixed = MixedFamily(plan, structures)
        families |= {f"mixed_{name}": mixed for name in structures}
    names = list(families)
    losses, weights, numbers = held_out_losses(plan, names, families)
    column = {name: losses[:, i] for i, name in enumerate(names)}
    # The gradient rule is searched for its verdict even where it may not be used.
    allowed = [name for name in names if _rule_of(name) in rules]
    best = min(allowed, key=lambda name: mean_over_tasks(column[name], weights)[0])
    pick = gradient.pick("signed")
    choice = Choice(
        verdict="",
        explanation="",
        strategy=best,
        settings=(chosen := families[best].found(best)).settings,
        train_rate=pick.train_rate / moments.scale,
        adapt_rate=pick.adapt_rate / moments.scale,
        interval=_interval(moments.first(pick.steps), gradient, pick.ridge, pick.steps, n_rates, level, seed),
        gains={
            name: gain(column[name], column["signed"], weights, level)
            for name in ("step", "tied", "joint", "pooled_ridge")
            if name in column
        },
        losses={name: mean_over_tasks(column[name], weights) for name in names},
        best_gains={name: gain(column[name], column[best], weights, level) for name in names if name != best},
        n_tasks=len(weights),
        n_support=n_support,
    )
    return Searched(
        chosen,
        decide(choice),
        moments,
        pick.ridge,
        pick.steps,
        moments.scale,
        n_draws,
        gradient.searches[pick.steps].surface(),
        TaskLosses(tuple(names), rows.ids[numbers], losses, weights),
    )


def _rule_of(strategy: str) -> str:
    return "gradient" if strategy in GRADIENT else "ridge" if strategy in PROXIMAL else "mixed"


def _interval(
    moments: BlockMoments, family: GradientFamily, ridge: float, steps: int, n_rates: int, level: float, seed: int
) -> RateInterval:
    angles = uniform_angles(n_rates)
    rates = circle.rates_of(angles, moments.scale)
    search = family.searches[steps]
    column = int(np.flatnonzero(search.ridges == ridge)[0])
    # The rates searched hold those of the even grid, and finer ones near 0.
    position = np.abs(circle.angles_of(search.train_rates, moments.scale)[None] - angles[:, None]).argmin(axis=1)
    adapt = search.surface().best_adapt_rate[position, column]
    return rate_interval(influences(moments, rates, adapt, np.full(len(rates), ridge)), angles, level=level, seed=seed)


__all__ = ["RULES", "Searched", "search"]
