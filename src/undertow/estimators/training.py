"""How a model is trained: at given rates, ratios and ridge, or at those that a search chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._workers import each
from undertow.choice.mixed_family import task_statistics
from undertow.choice.plan import default_draws
from undertow.choice.record import Choice
from undertow.choice.row_space import RowSpace
from undertow.choice.search import BLEND, Settings, search
from undertow.choice.uncertainty import of_model
from undertow.estimators.fitted import FittedModel
from undertow.estimators.further import sums_of_search
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.linked import fit_link
from undertow.estimators.sums import Recipe, Sums, merge, partial
from undertow.linear.gradient_step import stability_limit
from undertow.linear.moments import support_moment
from undertow.linear.path import RatePath, rate_path
from undertow.linear.proximal_step import RidgeMoments
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.linear.surface import LossSurface
from undertow.mixed.fit import MixedFit
from undertow.mixed.mean import MeanSums, mean_sums
from undertow.mixed.model import MixedRule, fit_mixed
from undertow.tasks.losses import TaskLosses
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.standard import Standard

# Draws of this many numbers are held together.
FEW_NUMBERS = 1 << 23
_MOST_DRAWS = 5
# Parts of a tall table that workers sum up.
_PARTS = 8
# So many tasks say what rate is stable.
_LIMIT_TASKS = 500
# Ridge of the common weights where there is one task, and nothing to choose by.
_POOLED_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind."""

    model: FittedModel
    scale: float
    """spectral unit of a rate"""
    train_rate: float | None
    """raw; None where the rule has none"""
    adapt_rate: float | None
    notes: tuple[str, ...] = ()
    """what the user is to be warned of"""
    search: Search | None = None
    means: tuple[MeanSums, ...] = ()
    """of each target, what the mean of a given mixed model was solved from"""
    rows: TaskRows | None = None
    """all rows with the column of a curve, made by curves that have not seen a row's task; None where there is none"""


@dataclass(frozen=True, eq=False)
class Search:
    """What a search leaves behind; the fields are None where there was nothing to choose by."""

    strategy: str = "joint"
    ridge: float | None = _POOLED_RIDGE
    steps: int | None = 1
    n_draws: int = 1
    choice: Choice | None = None
    paths: list[RatePath] = field(default_factory=list)
    """of each target"""
    surface: LossSurface | None = None
    held_out: TaskLosses | None = None
    recipe: Recipe | None = None
    """of the sums; None where further tasks cannot be added"""
    sums: Sums | None = None
    """that the weights were solved from"""
    curve: str = "straight"
    """how the common relation bends: "straight", "splines" or "trees" """
    curve_errors: dict[str, float] = field(default_factory=dict)
    """of each of these that was searched, and of the "chosen" one, nested: held-out error; empty where none was"""


@dataclass(frozen=True, eq=False)
class Given:
    """Settings of a model that is trained without a search."""

    rule: GradientRule | ProximalRule | MixedRule
    """its rate in spectral units where ``adapt_spectral`` says so"""
    train_rate: float
    spectral: bool
    """whether the train rate is a multiple of the spectral unit"""
    adapt_spectral: bool
    ridge: float
    n_support: int
    n_draws: int | None
    seed: int
    n_jobs: int | None = None
    weighting: str = "tasks"
    """what counts once in training: each of the "tasks", or each of their query "rows" """
    low: float = 0.0
    """of a model of two values, the smaller one"""


def given(everything: TaskRows, rows: TaskRows, settings: Given) -> Trained:
    """Train at given settings. everything: all tasks; rows: those with more than ``n_support`` rows, or one task."""
    rule = settings.rule
    if isinstance(rule, MixedRule):
        return (_mixed if rule.family == "normal" else _generalised)(everything, rule, settings)
    if everything.n_tasks == 1:
        return _on_batches([everything.shared()], everything, settings)
    n_draws = 1 if rows.in_order else draws_of(settings, len(rows.y), rows.n_columns)
    if not few_numbers(n_draws, len(rows.y), rows.n_columns):
        # Tall tables are summed up batch by batch, for all targets at once, and never held as draws.
        recipe = recipe_of(settings, rows.standard, n_draws)
        parts = [rows.select(tasks) for tasks in np.array_split(np.arange(rows.n_tasks), min(_PARTS, rows.n_tasks))]
        sums = each(lambda part: partial(part, recipe), parts, settings.n_jobs)
        return trained_by_sums(settings, rows, reduce(merge, sums))
    drawn = (
        batch
        for k in range(n_draws)
        for batch in rows.draw(
            settings.n_support, np.random.SeedSequence(settings.seed, spawn_key=(k,)), weighting=settings.weighting
        )
    )
    trained = _on_batches([batch for batch, _, _ in drawn], rows, settings)
    return _with_stability_note(trained, rows, settings) if isinstance(rule, GradientRule) else trained


def draws_of(settings: Given, n_rows: int, n_columns: int) -> int:
    """Return how often support rows are drawn from a table of ``n_rows`` rows in tasks that are large enough."""
    steps = settings.rule.steps if isinstance(settings.rule, GradientRule) else 1
    return settings.n_draws or default_draws(n_rows, n_columns, steps, _MOST_DRAWS)


def few_numbers(n_draws: int, n_rows: int, n_columns: int) -> bool:
    """Whether draws are held together, and solved by whatever keeps most digits."""
    return n_draws * n_rows <= n_columns or n_draws * n_rows * n_columns <= FEW_NUMBERS


def recipe_of(settings: Given, standard: Standard, n_draws: int) -> Recipe:
    """Return what is summed to train at given settings, by a gradient or a proximal rule."""
    rule = settings.rule
    steps, ratios, covariance = (rule.steps, (), None) if isinstance(rule, GradientRule) else (0, (), None)
    if isinstance(rule, ProximalRule):
        ratios, covariance = (float(rule.train_ratio),), rule.covariance
    return Recipe(
        standard, settings.n_support, n_draws, settings.seed, steps, ratios, covariance, weighting=settings.weighting
    )


def trained_by_sums(settings: Given, rows: TaskRows, sums: Sums) -> Trained:
    """Train from sums over tasks. rows: of some or all of them, to say whether a step overshoots."""
    rule, blocks = settings.rule, sums.blocks
    if isinstance(rule, ProximalRule):
        fits = [one.solve([settings.ridge]) for one in sums.ridge]
        model = _model(rows, [fit.weights[0, 0] for fit in fits], (rule,) * len(fits))
        return Trained(model, blocks.scale, None, None)
    assert isinstance(rule, GradientRule)
    factor = blocks.scale if settings.spectral else 1.0
    rate, targets = settings.train_rate * factor, range(blocks.n_targets)
    paths = [rate_path(blocks.moments(j), rate, ridge=settings.ridge, steps=rule.steps) for j in targets]
    return _with_stability_note(
        _gradient(paths, rows, rule, factor if settings.adapt_spectral else 1.0), rows, settings
    )


def _model(rows: TaskRows, omega: Any, rules: Sequence[Any]) -> FittedModel:
    return FittedModel(rows.standard, np.asarray(omega).astype(rows.x.dtype), tuple(rules), rows.ids)


def _on_batches(batches: list[TaskBatch], rows: TaskRows, settings: Given) -> Trained:
    rule = settings.rule
    if isinstance(rule, ProximalRule):
        return _proximal(batches, rows, rule, settings.ridge)
    assert isinstance(rule, GradientRule)
    of_each = [[of_target(batch, j) for batch in batches] for j in range(batches[0].support_y.shape[2])]
    factor = rate_path(of_each[0], 0.0, ridge=1.0).scale if settings.spectral else 1.0
    rate = settings.train_rate * factor
    paths = [rate_path(one, rate, ridge=settings.ridge, steps=rule.steps, n_jobs=settings.n_jobs) for one in of_each]
    return _gradient(paths, rows, rule, factor if settings.adapt_spectral else 1.0)


def _gradient(paths: list[RatePath], rows: TaskRows, rule: GradientRule, factor: float) -> Trained:
    raw = GradientRule(rule.rate * factor, rule.steps)
    model = _model(rows, [path.weights[0] for path in paths], (raw,) * len(paths))
    return Trained(model, paths[0].scale, float(paths[0].train_rates[0]), raw.rate)


def _with_stability_note(trained: Trained, rows: TaskRows, settings: Given) -> Trained:
    """Note an adapt rate at which steps overshoot in most training tasks."""
    rate = trained.adapt_rate
    assert rate is not None
    assert isinstance(settings.rule, GradientRule)
    if rows.n_tasks == 1 or rate <= 0:
        return trained
    some = np.linspace(0, rows.n_tasks - 1, min(_LIMIT_TASKS, rows.n_tasks)).round().astype(int)
    drawn = rows.select(np.unique(some)).draw(settings.n_support, np.random.SeedSequence(settings.seed, spawn_key=(0,)))
    limit = float(np.median(np.concatenate([stability_limit(of_target(batch, 0)) for batch, _, _ in drawn])))
    if rate <= limit:
        return trained
    unit = f", {limit / trained.scale:.3g} in spectral units" if settings.adapt_spectral else ""
    note = (
        f"adapt_rate={settings.rule.rate:g} is above the stability limit of most training tasks: from 2 / lambda_max "
        f"of the support rows on, in the median {limit:.3g}{unit}, a step overshoots. Use a smaller rate."
    )
    return Trained(trained.model, trained.scale, trained.train_rate, rate, (note,))


def _proximal(batches: Iterable[TaskBatch], rows: TaskRows, rule: ProximalRule, ridge: float) -> Trained:
    sums: list[RidgeMoments] = []
    support, n_tasks = np.zeros(()), 0.0
    for batch in batches:
        part, number = support_moment(batch, every=True)
        support, n_tasks = support + part, n_tasks + number
        new = [
            RidgeMoments.from_tasks(of_target(batch, j), [rule.train_ratio], rule.covariance)
            for j in range(batch.support_y.shape[2])
        ]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
    fits = [one.solve([ridge]) for one in sums]
    model = _model(rows, [fit.weights[0, 0] for fit in fits], (rule,) * len(fits))
    return Trained(model, _unit(support, n_tasks), None, None)


def _unit(support: np.ndarray, n_tasks: float) -> float:
    top = float(np.linalg.eigvalsh(support)[-1]) / n_tasks
    return 1 / top if top > 0 else 1.0


def _generalised(rows: TaskRows, rule: MixedRule, settings: Given) -> Trained:
    structure = rule.structure if rows.n_tasks > 1 else "none"
    omega, link = fit_link(rows, rule, structure, settings.low)
    model = replace(_model(rows, omega, (link.rule,)), link=link)
    return Trained(model, _unit(_support_moment(rows), float(rows.n_tasks)), None, None)


def _mixed(rows: TaskRows, rule: MixedRule, settings: Given) -> Trained:
    structure = rule.structure if rows.n_tasks > 1 else "none"
    if structure == "intercept" and not rows.standard.intercept:
        raise InputError(
            "structure", structure, "it needs fit_intercept=True: without it no intercept can vary between tasks."
        )

    def fit(j: int) -> tuple[MixedFit, MeanSums]:
        statistics = task_statistics(rows, j)
        options: dict[str, Any] = {"method": rule.method, "mean_scale": rule.mean_scale, "seed": settings.seed}
        options["slopes"] = None if structure == "none" else rule.slopes
        found = fit_mixed(statistics, structure, **options)
        return found, mean_sums(found, statistics)

    fits, means = zip(*each(fit, range(rows.y.shape[1]), settings.n_jobs), strict=True)
    rules = [fit.rule for fit in fits]
    model = replace(
        _model(rows, [fit.mean for fit in fits], rules), uncertainty=of_model(fits, rows, settings.n_support)
    )
    return Trained(model, _unit(_support_moment(rows), float(rows.n_tasks)), None, None, means=means)


def _support_moment(rows: TaskRows) -> np.ndarray:
    """Sum over tasks of the second moment of their rows (d, d), which sets the spectral unit."""
    support = np.zeros((rows.n_columns, rows.n_columns))
    for tasks in np.array_split(np.arange(rows.n_tasks), max(1, rows.n_tasks // 64)):
        place = np.arange(int(rows.offsets[tasks[0]]), int(rows.offsets[tasks[-1] + 1]))
        z = rows.inputs(place).astype(np.float64)
        weights = np.ones(len(place)) if rows.weights is None else rows.weights[place]
        total = np.add.reduceat(weights, rows.offsets[tasks] - place[0])
        support += (z * (weights / np.repeat(total, rows.counts[tasks]))[:, None]).T @ z
    return support


def searched(everything: TaskRows, rows: TaskRows, settings: Settings) -> Trained:
    """Train at settings that a search chooses. everything: all tasks; rows: those large enough, at least three."""
    # With more columns than rows the rows' own directions are all there is to search in.
    space = RowSpace.of(everything, settings.limits.row_space_columns)
    if space is not None and settings.slopes is not None:
        rule = "with more columns than rows tasks vary in directions of the rows, not in columns."
        raise InputError("random_slopes", list(settings.slopes), rule, "Leave it out, or use fewer columns.")
    if space is None:
        found = search(everything, rows, settings)
    else:
        large = space.rows.large_enough(settings.n_support, "drop")
        found = space.restored(search(space.rows, large, space.settings(settings)))
    signed, used = found.choice.signed, found.choice.strategy
    # Those of a blend are shares.
    chosen = {} if used == BLEND else found.best.settings
    steps = int(signed["steps"])
    moments = found.moments.first(steps)
    ridge = signed["ridge"] * (1.0 if space is None else space.ridge_factor)
    paths = [rate_path(moments.moments(j), ridge=ridge, steps=steps) for j in range(rows.y.shape[1])]
    recipe, sums = sums_of_search(found, everything, settings) if space is None else (None, None)
    search_ = Search(
        strategy=used,
        ridge=chosen.get("ridge"),
        steps=int(chosen["steps"]) if "steps" in chosen else None,
        n_draws=found.choice.n_draws,
        choice=found.choice,
        paths=paths if space is None else [space.path(path) for path in paths],
        surface=found.surface,
        held_out=found.held_out,
        recipe=recipe,
        sums=sums,
    )
    # A strategy without rates still leaves the gradient rule's best ones to be read.
    train_rate, adapt_rate = (chosen.get(name, signed[name]) for name in ("train_rate", "adapt_rate"))
    model = _model(rows, found.best.weights, found.best.rules)
    if (alone := found.best.unadapted) is not None:
        model = replace(model, unadapted=alone.astype(model.omega.dtype))
    model = replace(model, uncertainty=found.uncertainty)
    return Trained(model, found.choice.scale, train_rate, adapt_rate, search=search_)


def pooled(rows: TaskRows, notes: tuple[str, ...] = ()) -> Trained:
    """Train without tasks to choose by: the weights are a ridge regression on all rows, and nothing is adapted."""
    omega, scale = pooled_weights(rows.as_one_task().shared())
    model = _model(rows, omega, (GradientRule(0.0),) * len(omega))
    if rows.n_tasks == 1:
        model = replace(model, one_task=KnownRows.of(rows))
    return Trained(model, scale, 0.0, 0.0, notes, Search())


def pooled_weights(batch: TaskBatch) -> tuple[np.ndarray, float]:
    """Return the weights (q, d) of a ridge regression on the rows of one task, both support and query, and the unit."""
    each = [of_target(batch, j) for j in range(batch.support_y.shape[2])]
    paths = [rate_path(tasks, 0.0, ridge=_POOLED_RIDGE) for tasks in each]
    return np.stack([path.weights[0] for path in paths]), paths[0].scale
