"""The search of the estimators with CV: strategies, their losses on held-out tasks, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from undertow import _circle
from undertow.choice.blend import LEAST_SHARE, nested, shares
from undertow.choice.gradient_family import GRADIENT, GradientFamily
from undertow.choice.held_out import held_out_errors
from undertow.choice.influence import influences
from undertow.choice.interval import gain, rate_interval, uniform_angles
from undertow.choice.mixed_family import PREFIX, MixedFamily
from undertow.choice.plan import Family, Found, Plan
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, default_ratios, gather_moments
from undertow.choice.rate_search import RatePick
from undertow.choice.record import Choice, RateInterval
from undertow.choice.theory_rates import predicted
from undertow.choice.words import decide
from undertow.linear.block_moments import BlockMoments
from undertow.linear.rules import blend_of
from undertow.linear.surface import LossSurface
from undertow.tasks import folds
from undertow.tasks.losses import NEGLIGIBLE, TaskLosses, balance, mean_over_tasks
from undertow.tasks.rows import TaskRows

RULES = ("gradient", "ridge", "mixed")
BLEND = "blend"

# Multiplications that the draws of support rows may cost together: small tables get many draws, large ones one.
WORK = 1e10
_MOST_DRAWS = 10
# Each step of the mixed model's search solves a problem of this size; the diagonal one has as many variances.
_MIXED_COLUMNS = 400
_DIAGONAL_COLUMNS = 160
_FULL_COLUMNS = 12
# Each part of a blend is a pass over all tasks: on large tables small shares are not worth it.
_LARGE_LEAST_SHARE = 0.1
# A blend is used unless its held-out loss is by this many standard errors, and by more than is negligible, above that
# of the best strategy alone, which looks a little too good for being the best of many.
_CLEARLY_WORSE = 3.0
# Nor is it used where its loss is above by this share, however little a few tasks can tell: one task with an outlier
# makes every standard error large.
_MUCH_WORSE = 0.25


class Searched(NamedTuple):
    """Result of a search."""

    best: Found
    choice: Choice
    moments: BlockMoments
    """of all tasks, for the path"""
    pick: RatePick
    """the gradient rule's signed pick"""
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
    blend: bool,
    rotated: bool = False,
    ridges: Sequence[float],
    steps: Sequence[int],
    n_draws: int | None,
    n_rates: int | None,
    level: float,
    seed: int,
) -> Searched:
    """Choose rule, rates, penalties and ridge by task-wise cross-validation.

    everything: all tasks; rows: those with more than ``n_support`` rows, at least two.
    cv: number of folds, or the task numbers (in ``rows``) of each fold. blend: whether strategies may be combined.
    rotated: whether the columns are directions that mean nothing by themselves: no variance for each of them.
    """
    d = rows.n_columns
    parts = folds(rows.ids, min(cv, rows.n_tasks), seed) if isinstance(cv, int) else cv
    if n_draws is None:
        work = float(len(rows.y)) * ((max(steps) + 1) * (d + 1)) ** 2
        n_draws = int(np.clip(WORK // work, 1, _MOST_DRAWS))
    if n_rates is None:
        n_rates = 101 if d <= 128 else 41 if d <= 400 else 21
    plan = Plan(rows, everything, parts, n_support, n_draws, seed)
    moments, proximal = gather_moments(plan, max(steps), default_ratios(len(rows.y), d) if "ridge" in rules else None)
    gradient = GradientFamily(plan, moments, ridges, steps, n_rates)
    families: dict[str, Family] = dict.fromkeys(GRADIENT, gradient)
    if proximal is not None:
        families |= dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, ridges, moments))
    mixed = _mixed(plan, gradient, rotated) if "mixed" in rules else None
    if mixed is not None:
        families |= dict.fromkeys(mixed.names, mixed)
    names = list(families)
    held_out = held_out_errors(plan, names, families)
    # The gradient rule is searched for its verdict even where it may not be used.
    allowed = [i for i, name in enumerate(names) if _rule_of(name) in rules]
    task_weights = balance(held_out.weights / n_draws)
    losses = held_out.losses
    best = names[min(allowed, key=lambda i: float(task_weights @ losses[:, i]))]
    found: Found | None = None
    if blend and len(allowed) > 1 and set(rules) != {"gradient"}:
        own = held_out.products[np.ix_(range(len(losses)), allowed, allowed)]
        least = _LARGE_LEAST_SHARE if plan.is_large else LEAST_SHARE
        together = nested(own, task_weights, held_out.folds, seed, least)
        alone = losses[:, names.index(best)]
        worse, error = mean_over_tasks(together - alone, task_weights)
        losses = np.column_stack([losses, together])
        loss = float(task_weights @ alone)
        if worse <= min(max(_CLEARLY_WORSE * error, NEGLIGIBLE / 100 * loss), _MUCH_WORSE * loss):
            share = shares(own, task_weights, seed, least)
            used = [names[i] for i, s in zip(allowed, share, strict=True) if s > 0]
            best = BLEND if len(used) > 1 else used[0]
            if best == BLEND:
                found = _blend([families[name].found(name) for name in used], used, share[share > 0])
        names.append(BLEND)
    if found is None:
        found = families[best].found(best)
    weights = held_out.weights
    column = {name: losses[:, i] for i, name in enumerate(names)}
    pick = gradient.pick("signed")
    choice = Choice(
        verdict="",
        explanation="",
        strategy=best,
        settings=found.settings,
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
        prediction=predicted(plan, mixed, moments, steps=pick.steps),
    )
    return Searched(
        found,
        decide(choice),
        moments,
        pick,
        moments.scale,
        n_draws,
        gradient.searches[pick.steps].surface(),
        TaskLosses(tuple(names), rows.ids[held_out.numbers], losses, weights),
    )


def _mixed(plan: Plan, gradient: GradientFamily, rotated: bool) -> MixedFamily | None:
    """The mixed models that the number of columns allows; None where there are too many, or too few tasks."""
    d, tasks = plan.rows.n_columns, plan.rows.n_tasks
    if d > _MIXED_COLUMNS or tasks - tasks // len(plan.folds) < 3:
        return None
    structures = ["isotropic"]
    if d <= _DIAGONAL_COLUMNS and not rotated:
        structures += ["diagonal", *(["full"] if d <= _FULL_COLUMNS else [])]
    # An isotropic covariance has a variance of its own for the intercept: its special case is for small tables.
    if plan.rows.standard.intercept and not plan.is_large and d <= _DIAGONAL_COLUMNS:
        structures = ["intercept", *structures]
    return MixedFamily(plan, structures, gradient, rotated)


def _blend(parts: Sequence[Found], names: Sequence[str], share: np.ndarray) -> Found:
    starts = np.stack([part.weights for part in parts])  # (n, q, d)
    rules = tuple(blend_of([part.rules[j] for part in parts], share, starts[:, j]) for j in range(starts.shape[1]))
    settings = {names[int(i)]: float(share[i]) for i in np.argsort(-share, kind="stable")}
    return Found(np.einsum("a,aqd->qd", share, starts), rules, settings)


def _rule_of(strategy: str) -> str:
    return "gradient" if strategy in GRADIENT else "mixed" if strategy.startswith(PREFIX) else "ridge"


def _interval(
    moments: BlockMoments, family: GradientFamily, ridge: float, steps: int, n_rates: int, level: float, seed: int
) -> RateInterval:
    angles = uniform_angles(n_rates)
    rates = _circle.rates_of(angles, moments.scale)
    search = family.searches[steps]
    column = int(np.flatnonzero(search.ridges == ridge)[0])
    # The rates searched hold those of the even grid, and finer ones near 0.
    position = np.abs(_circle.angles_of(search.train_rates, moments.scale)[None] - angles[:, None]).argmin(axis=1)
    adapt = search.surface().best_adapt_rate[position, column]
    return rate_interval(influences(moments, rates, adapt, np.full(len(rates), ridge)), angles, level=level, seed=seed)


__all__ = ["BLEND", "RULES", "Searched", "search"]
