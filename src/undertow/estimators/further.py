"""From sums to weights, once a search has chosen: what further tasks change, and what stays as it was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from undertow.choice.blend import blend_found
from undertow.choice.gram_path import solve
from undertow.choice.plan import Found
from undertow.choice.proximal_family import without_inner_loop
from undertow.choice.record import Choice
from undertow.choice.search import BLEND, Searched, Settings
from undertow.choice.without_rows import CONSTANT, constant_weights, mixed
from undertow.choice.words import STRATEGIES
from undertow.estimators.sums import Recipe, Sums
from undertow.linear import circle
from undertow.linear.path import RatePath, rate_path
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.mean import MeanSums
from undertow.tasks.rows import TaskRows


def sums_of_search(found: Searched, everything: TaskRows, settings: Settings) -> tuple[Recipe, Sums]:
    """Return the recipe of a search's sums, and those of all tasks that it has read: no row is read again."""
    blocks = found.moments
    at = {own[0].ratios[0]: own for own in (part.sums for part in found.parts.values()) if _is_ridge(own)}
    ratios = tuple(sorted(float(ratio) for ratio in at))
    q = blocks.n_targets
    ridge = tuple(
        replace(at[ratios[0]][j], ratios=np.array(ratios), gram=np.concatenate([at[ratio][j].gram for ratio in ratios]))
        for j in range(q if ratios else 0)
    )
    means: dict[str, tuple[MeanSums, ...]] = {
        name: part.sums for name, part in found.parts.items() if part.sums and not _is_ridge(part.sums)
    }
    recipe = Recipe(
        standard=everything.standard,
        n_support=settings.n_support,
        n_draws=found.choice.n_draws,
        seed=settings.seed,
        steps=blocks.steps,
        ratios=ratios,
        weighting=settings.weighting,
        spreads={
            name: part.rules  # type: ignore[misc]
            for name, part in found.parts.items()
            if STRATEGIES[name].rule == "mixed"
        },
        priors={name: np.stack([one.prior for one in own]) for name, own in means.items()},
    )
    whole: Any = {name: getattr(blocks, name).sum(axis=0)[None] for name in ("gram", "weight")}
    blocks = replace(blocks, **whole, folds=np.zeros(1, dtype=np.int64))
    information = {name: np.stack([one.information for one in own]) for name, own in means.items()}
    return recipe, Sums(blocks, ridge, information, everything.n_tasks, 0)


def _is_ridge(sums: tuple[Any, ...]) -> bool:
    return bool(sums) and not isinstance(sums[0], MeanSums)


def retrained(choice: Choice, recipe: Recipe, sums: Sums) -> Found:
    """Return the strategy in use with weights solved from the sums; rates, ratios, ridges, variances, shares stay."""
    if choice.strategy == BLEND:
        names = choice.candidates[BLEND].settings
        found = blend_found({name: _part(name, choice, recipe, sums) for name in names}, names)
    else:
        found = _part(choice.strategy, choice, recipe, sums)
    if set(choice.at_zero) == {choice.strategy}:
        return found

    def common(name: str) -> np.ndarray:
        if name == CONSTANT:
            return constant_weights(sums.blocks, recipe.standard.intercept)
        return (found if name == choice.strategy else _part(name, choice, recipe, sums)).weights

    return found._replace(unadapted=mixed(choice.at_zero, common))


def _part(name: str, choice: Choice, recipe: Recipe, sums: Sums) -> Found:
    settings, q = choice.candidates[name].settings, sums.blocks.n_targets
    family = STRATEGIES[name].rule
    rules: tuple[GradientRule | ProximalRule, ...]
    if family == "gradient":
        rules = (GradientRule(settings["adapt_rate"], int(settings["steps"])),) * q
        return Found(_of_gradient(settings, sums), rules, settings)
    if family == "mixed":
        rules = recipe.spreads[name]
        if name not in sums.mixed:
            return Found(_of_gradient(choice.candidates["joint"].settings, sums), rules, settings)
        pairs = zip(sums.mixed[name], recipe.priors[name], strict=True)
        return Found(np.stack([MeanSums(*pair).mean for pair in pairs]), rules, settings)
    rules, ratio = (ProximalRule(settings["adapt_ratio"]),) * q, settings["train_ratio"]
    if math.isinf(ratio):
        each = without_inner_loop(sums.blocks)
    else:
        each = [one.at_ratio(recipe.ratios.index(ratio)) for one in sums.ridge]
    return Found(np.stack([one.solve([settings["ridge"]]).weights[0, 0] for one in each]), rules, settings)


def _of_gradient(settings: Mapping[str, float], sums: Sums) -> np.ndarray:
    moments = sums.blocks.first(int(settings["steps"]))
    c, _ = circle.coefficients(np.array([settings["train_rate"]]), moments.scale, moments.steps)
    return solve(moments.gram[0], moments.n_targets, c, np.array([settings["ridge"]]), moments.eps)[0, 0]


def signed_paths(choice: Choice, sums: Sums) -> list[RatePath]:
    """Return the path of each target over the train rate, at the ridge and steps of the signed choice."""
    steps, ridge = int(choice.signed["steps"]), choice.signed["ridge"]
    moments = sums.blocks.first(steps)
    return [rate_path(moments.moments(j), ridge=ridge, steps=steps) for j in range(moments.n_targets)]
