"""The search of the estimators with CV: strategies, their errors on held-out tasks, and the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from undertow import _circle
from undertow.choice.blend import blend_found, blended, shares
from undertow.choice.gradient_family import GRADIENT, GradientFamily, default_rates
from undertow.choice.held_out import held_out_errors
from undertow.choice.influence import influences
from undertow.choice.interval import curve_of, gain, rate_interval, verdict_of
from undertow.choice.limits import LIMITS, Limits
from undertow.choice.mixed_family import PREFIX, MixedFamily
from undertow.choice.plan import Family, Found, Plan, default_draws, parts_of
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, default_ratios, gather_moments
from undertow.choice.record import Candidate, Choice, LargestTask, RateCurve, RateInterval
from undertow.choice.theory_rates import predicted
from undertow.choice.uncertainty import Uncertainty, calibrated
from undertow.choice.without_rows import CONSTANT, ConstantFamily, choose_at_zero
from undertow.choice.words import NO_ROWS, STRATEGIES
from undertow.linear.block_moments import BlockMoments
from undertow.linear.surface import LossSurface
from undertow.tasks.losses import NEGLIGIBLE, TaskLosses, effective_number, mean_over_tasks
from undertow.tasks.rows import TaskRows

RULES = ("gradient", "proximal", "mixed")
"""Families of rules that a search may choose from."""
BLEND = "blend"
RIDGES = tuple(float(r) for r in np.geomspace(1e-6, 10.0, 20))
"""Ridges that are tried, relative to tr(B^T B) / p."""

# Fall back to the best single strategy where the blend is worse by more than this many standard errors and by more
# than is negligible: the best single error is optimistic, being the best of many.
_CLEARLY_WORSE = 3.0
# Nor is the blend used where its error is above by this share, however little a few tasks can tell: one task with an
# outlier makes every standard error large.
_MUCH_WORSE = 0.25


@dataclass(frozen=True)
class Settings:
    """What a search may choose from, and how."""

    n_support: int
    cv: int | list[np.ndarray] = 5
    """number of folds, at least 3, or the task numbers of each fold"""
    rules: Sequence[str] = RULES
    blend: bool = True
    """whether strategies may be combined"""
    ridges: Sequence[float] = RIDGES
    steps: Sequence[int] = (1,)
    n_draws: int | None = None
    n_rates: int | None = None
    level: float = 0.95
    seed: int = 0
    n_jobs: int | None = None
    """number of workers, see ``undertow._workers``"""
    weighting: str = "tasks"
    """what counts once in training and in errors: each of the "tasks", or each of their query "rows" """
    rotated: bool = False
    """whether the columns are directions that mean nothing by themselves: no variance for each of them"""
    slopes: Sequence[int] | None = None
    """columns whose weights differ between tasks by the mixed models, beside the constant one; None for all"""
    limits: Limits = LIMITS


class Searched(NamedTuple):
    """Result of a search."""

    best: Found
    choice: Choice
    moments: BlockMoments
    """of all tasks, for the path"""
    surface: LossSurface
    """cross-validated loss of the gradient rule over train rate, ridge and adapt rate"""
    held_out: TaskLosses
    parts: Mapping[str, Found]
    """the strategies in use, each trained on all tasks by itself; none where they cannot be trained further"""
    uncertainty: Uncertainty


def search(everything: TaskRows, rows: TaskRows, settings: Settings) -> Searched:
    """Choose rule, rates, penalties and ridge by nested cross-validation over tasks (see ``plan``).

    Parameters
    ----------
    everything
        all tasks.
    rows
        those with more than ``n_support`` rows, at least three.
    settings
        what may be chosen from, and how.

    Returns
    -------
    Searched
        the choice, the strategy that it uses, trained on all tasks, and each task's held-out errors.
    """
    plan = _plan(everything, rows, settings)
    n_rates = settings.n_rates or default_rates(rows.n_columns, settings.limits)
    moments, gradient, mixed, families = _families(plan, settings, n_rates)
    tried = _tried(plan, families, moments, settings)
    pick = gradient.pick("signed")
    of_steps = moments.first(pick.steps)
    interval, curve = _on_the_circle(of_steps, gradient, pick.ridge, pick.steps, n_rates, settings)
    gains = {
        name: gain(tried.mse[name], tried.mse["signed"], tried.weights, settings.level)
        for name in ("step", "tied", "joint", "pooled_ridge")
        if name in tried.mse
    }
    mse_at_zero, error_at_zero = mean_over_tasks(tried.zero, tried.weights)
    choice = Choice(
        strategy=tried.best,
        at_zero=tried.at_zero,
        mse_at_zero=mse_at_zero,
        standard_error_at_zero=error_at_zero,
        verdict=verdict_of(interval, gains["step"]),
        candidates=tried.candidates(settings.level),
        gains=gains,
        best_gains={
            name: gain(mse, tried.mse[tried.best], tried.weights, settings.level)
            for name, mse in tried.mse.items()
            if name != tried.best
        },
        interval=interval,
        curve=curve,
        scale=moments.scale,
        n_tasks=len(tried.weights),
        weighting=settings.weighting,
        n_effective=effective_number(tried.weights),
        largest=_largest(rows),
        n_support=plan.n_support,
        n_folds=len(plan.folds),
        n_draws=plan.n_draws,
        prediction=predicted(plan, mixed, moments, steps=pick.steps),
    )
    held_out = TaskLosses(
        (*tried.mse, NO_ROWS),
        rows.ids[tried.numbers],
        np.stack([*tried.mse.values(), tried.zero], axis=1),
        tried.weights,
        rows.counts[tried.numbers] - plan.n_support,
    )
    uncertainty = _uncertainty(plan, tried, mixed, settings.rotated)
    surface = gradient.searches[pick.steps].surface()
    return Searched(tried.found, choice, moments, surface, held_out, tried.parts, uncertainty)


def _plan(everything: TaskRows, rows: TaskRows, settings: Settings) -> Plan:
    n_draws, limits = settings.n_draws, settings.limits
    parts = parts_of(settings.cv, rows, settings.seed)
    if rows.in_order:
        n_draws = 1
    elif n_draws is None:
        n_draws = default_draws(len(rows.y), rows.n_columns, max(settings.steps), limits.most_draws, limits)
    return Plan(
        rows, everything, parts, settings.n_support, n_draws, settings.seed, limits, settings.n_jobs, settings.weighting
    )


def _families(
    plan: Plan, settings: Settings, n_rates: int
) -> tuple[BlockMoments, GradientFamily, MixedFamily | None, dict[str, Family]]:
    """Moments of all tasks, the families that others ask by name, and the family of each strategy."""
    ratios = default_ratios(plan) if "proximal" in settings.rules else None
    moments, proximal = gather_moments(plan, max(settings.steps), ratios)
    gradient = GradientFamily(plan, moments, settings.ridges, settings.steps, n_rates)
    families: dict[str, Family] = dict.fromkeys(GRADIENT, gradient)
    if proximal is not None:
        families |= dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, settings.ridges, moments))
    mixed = _mixed(plan, gradient, settings) if "mixed" in settings.rules else None
    if mixed is not None:
        families |= dict.fromkeys(mixed.names, mixed)
        mixed.prepare(settings.blend)
    return moments, gradient, mixed, families


def _largest(rows: TaskRows) -> LargestTask:
    """The task with most rows, or with most of their weight."""
    sizes = rows.counts.astype(float) if rows.weights is None else np.add.reduceat(rows.weights, rows.offsets[:-1])
    most = int(sizes.argmax())
    return LargestTask(str(rows.ids[most]), float(sizes[most] / sizes.sum()))


def _mixed(plan: Plan, gradient: GradientFamily, settings: Settings) -> MixedFamily | None:
    """The mixed models that the number of columns allows; None where there are too many, or too few tasks."""
    rotated, slopes = settings.rotated, settings.slopes
    d, tasks, limits = plan.rows.n_columns, plan.rows.n_tasks, plan.limits
    if d > limits.mixed_columns or tasks - tasks // len(plan.folds) < 3:
        return None
    structures = ["isotropic"]
    if d <= limits.diagonal_columns and not rotated:
        varying = d if slopes is None else len(slopes) + 1
        structures += ["diagonal", *(["full"] if varying <= limits.full_columns else [])]
    # An isotropic covariance has a variance of its own for the intercept: its special case is for small tables.
    if plan.rows.standard.intercept and not plan.is_large and d <= limits.diagonal_columns:
        structures = ["intercept", *structures]
    return MixedFamily(plan, structures, gradient, rotated, slopes)


@dataclass(frozen=True, eq=False)
class _Tried:
    """All strategies, and the blend where there is one."""

    best: str
    found: Found
    """the best one, trained on all tasks"""
    parts: Mapping[str, Found]
    """what it is made of"""
    without: list[Found]
    """the best one, trained and chosen without each fold"""
    settings: Mapping[str, dict[str, float]]
    of_folds: Mapping[str, tuple[dict[str, float], ...]]
    mse: Mapping[str, np.ndarray]
    """(m,) held-out error of each task"""
    mse_at_zero: Mapping[str, np.ndarray]
    """(m,) the same by the common weights, without rows of the task"""
    at_zero: dict[str, float]
    """shares of the strategies whose common weights predict a task without rows"""
    zero: np.ndarray
    """(m,) error of that prediction, chosen without the task's fold"""
    weights: np.ndarray
    numbers: np.ndarray

    def candidates(self, level: float) -> dict[str, Candidate]:
        """Return the records of all strategies."""
        return {
            name: Candidate(
                *mean_over_tasks(mse, self.weights),
                float(np.average(self.mse_at_zero[name], weights=self.weights)),
                gain(self.zero, mse, self.weights, level),
                self.settings[name],
                self.of_folds[name],
            )
            for name, mse in self.mse.items()
        }


def _tried(plan: Plan, families: Mapping[str, Family], moments: BlockMoments, settings: Settings) -> _Tried:
    names = list(families)
    # The constant is no strategy: it has a part in predictions without rows.
    families, all_names = {**families, CONSTANT: ConstantFamily(plan, moments)}, [*names, CONSTANT]
    held_out, every = held_out_errors(plan, all_names, families)
    task_weights = held_out.weights / held_out.weights.sum()
    # The gradient rule is searched for its verdict even where it may not be used.
    allowed = [name for name in names if STRATEGIES[name].rule in settings.rules]
    mse = {name: held_out.mse[:, i] for i, name in enumerate(names)}
    zero = {name: held_out.at_zero[:, i, i] for i, name in enumerate(names)}
    best = min(allowed, key=lambda name: float(task_weights @ mse[name]))
    chosen = {name: families[name].settings(name) for name in names}
    of_folds = {name: tuple(fold[i].settings for fold in every) for i, name in enumerate(names)}
    if settings.blend and len(allowed) > 1 and set(settings.rules) != {"gradient"}:
        which = np.ix_(range(len(task_weights)), *[[names.index(name) for name in allowed]] * 2)
        own = held_out.products[which]
        parts = _nested_shares(plan, families, allowed, settings.seed)
        mse[BLEND] = _blended_by_fold(own, held_out.folds, parts)
        zero[BLEND] = _blended_by_fold(held_out.at_zero[which], held_out.folds, parts)
        of_folds[BLEND] = tuple(_largest_first(allowed, one) for one in parts)
        share = shares(own, task_weights, settings.seed, _least_share(plan))
        chosen[BLEND] = _largest_first(allowed, share)
        if _good_enough(mse[BLEND], mse[best], task_weights):
            best = BLEND if len(chosen[BLEND]) > 1 else next(iter(chosen[BLEND]))
    parts = {name: families[name].found(name) for name in (chosen[BLEND] if best == BLEND else (best,))}
    if best == BLEND:
        found = blend_found(parts, chosen[BLEND])
        each = zip(every, of_folds[BLEND], strict=True)
        blends = [blend_found(dict(zip(all_names, fold, strict=True)), part) for fold, part in each]
    else:
        found, blends = parts[best], []

    def unseen(name: str, fold: int) -> Found:
        return blends[fold] if name == BLEND else every[fold][all_names.index(name)]

    made_of = of_folds[BLEND] if best == BLEND else [{best: 1.0}] * len(every)
    alone = choose_at_zero(held_out, all_names, best, made_of, settings.seed)
    without = []
    for fold in range(len(every)):
        own = unseen(best, fold)
        weights = alone.weights(lambda name, fold=fold: unseen(name, fold).weights, fold)
        without.append(own._replace(unadapted=weights))
    if set(alone.shares) != {best}:
        common = {name: families[name].found(name) for name in (CONSTANT, "joint")} | {best: found}
        parts = {"joint": common["joint"], **parts}
        found = found._replace(unadapted=alone.weights(lambda name: common[name].weights))
    return _Tried(
        best, found, parts, without, chosen, of_folds, mse, zero, alone.shares, alone.errors, held_out.weights,
        held_out.numbers,
    )  # fmt: skip


def _nested_shares(plan: Plan, families: Mapping[str, Family], names: list[str], seed: int) -> list[np.ndarray]:
    """Shares of a blend for each fold, chosen by fits that have not seen it."""
    every = (held_out_errors(plan, names, families, fold)[0] for fold in range(len(plan.folds)))
    return [shares(inner.products, inner.weights, seed, _least_share(plan)) for inner in every]


def _blended_by_fold(products: np.ndarray, folds: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Error of each task (m,) under the blend with the shares of its fold."""
    errors = np.empty(len(products))
    for fold, share in enumerate(parts):
        own = folds == fold
        errors[own] = blended(products[own], share)
    return errors


def _good_enough(blend: np.ndarray, alone: np.ndarray, weights: np.ndarray) -> bool:
    worse, error = mean_over_tasks(blend - alone, weights)
    base = float(weights @ alone)
    return worse <= min(max(_CLEARLY_WORSE * error, NEGLIGIBLE / 100 * base), _MUCH_WORSE * base)


def _least_share(plan: Plan) -> float:
    return plan.limits.large_least_share if plan.is_large else plan.limits.least_share


def _largest_first(names: Sequence[str], share: np.ndarray) -> dict[str, float]:
    return {names[int(i)]: float(share[i]) for i in np.argsort(-share, kind="stable") if share[i] > 0}


def _uncertainty(plan: Plan, tried: _Tried, mixed: MixedFamily | None, rotated: bool) -> Uncertainty:
    """Intervals of the strategy used, shaped by the mixed model with the least held-out error."""
    if mixed is None or rotated:
        return calibrated(plan, tried.without, None, None)
    name = min(mixed.names, key=lambda one: float(tried.weights @ tried.mse[one])).removeprefix(PREFIX)
    whole = mixed.fits(name)
    # On a large table one fit serves all folds.
    fits = [whole if mixed.pooled is not None else mixed.fits(name, fold) for fold in range(len(plan.folds))]
    return calibrated(plan, tried.without, fits, whole)


def _on_the_circle(
    moments: BlockMoments, family: GradientFamily, ridge: float, steps: int, n_rates: int, settings: Settings
) -> tuple[RateInterval, RateCurve]:
    """Interval of the best rate and the error around the circle, at the ridge of the signed pick."""
    angles = _circle.grid(n_rates)[:-1]
    rates = _circle.rates_of(angles, moments.scale)
    search = family.searches[steps]
    column = int(np.flatnonzero(search.ridges == ridge)[0])
    # The rates searched hold those of the even grid, and finer ones near 0.
    position = np.abs(_circle.angles_of(search.train_rates, moments.scale)[None] - angles[:, None]).argmin(axis=1)
    adapt = search.surface().best_adapt_rate[position, column]
    found = influences(moments, rates, adapt, np.full(len(rates), ridge), n_jobs=settings.n_jobs).losses()
    interval = rate_interval(found, angles, moments.scale, level=settings.level, seed=settings.seed)
    return interval, curve_of(found, rates, adapt)
