"""Further tasks for an estimator that has chosen: sums are added, and the weights solved again from all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from undertow._check import InputError, Setting
from undertow.estimators.fitted import FittedModel
from undertow.estimators.further import retrained, signed_paths
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.saved_parts import pack_standard
from undertow.estimators.sums import Recipe, Sums, merge
from undertow.estimators.training import pooled_weights
from undertow.tasks import labels
from undertow.tasks.rows import TaskRows
from undertow.tasks.wording import some


def recipe_of(estimator: Any) -> Recipe:
    """Return what a fitted estimator's sums are; InputError where it has none."""
    if getattr(estimator, "curve_", "straight") != "straight":
        raise InputError(
            None,
            rule=f"the common relation bends ({estimator.curve_}): a curve is fitted to all rows together, and sums of "
            "other tasks cannot be added.",
            way_out=("Fit with ", Setting("effort", "fast"), ", or anew to all rows."),
        )
    recipe = getattr(estimator, "recipe_", None)
    if estimator.model_.levels is not None:
        raise InputError(
            None,
            rule="the estimator has a second grouping (levels), which further tasks would change for all others.",
            way_out="Fit to all rows anew; adapt to new tasks as before.",
        )
    if recipe is None:
        raise InputError(
            None,
            rule="the estimator has no sums that further tasks could be added to: it has chosen nothing, has "
            "more columns than rows, or was saved without its tasks' ids.",
            way_out="Fit it to more tasks first.",
        )
    return recipe


def published(estimator: Any, sums: Sums, task_ids: np.ndarray, kept: KnownRows | None) -> Any:
    """Solve the weights of an estimator that has chosen from other sums, and publish them; return the estimator.

    kept: what is kept of the tasks' rows, which then have weights of their own; None where nothing is.
    """
    recipe, choice = estimator.recipe_, estimator.choice_
    found, paths = retrained(choice, recipe, sums), signed_paths(choice, sums)
    old = estimator.model_
    estimator.sums_, estimator.n_tasks_ = sums, len(task_ids)
    estimator.scale_ = sums.blocks.scale
    estimator.train_rate_spectral_, estimator.adapt_rate_spectral_ = (
        None if rate is None else rate / estimator.scale_ for rate in (estimator.train_rate_, estimator.adapt_rate_)
    )
    estimator.rate_path_ = paths[0] if len(paths) == 1 else paths
    omega, alone = (None if one is None else one.astype(old.omega.dtype) for one in (found.weights, found.unadapted))
    known = {"task_ids": task_ids, "stored_omega": None, "task_rows": kept}
    estimator.publish(replace(old, omega=omega, unadapted=alone, rules=found.rules, **known))
    return estimator


def merged(estimator: Any, other: Any) -> Any:
    """Add another estimator's tasks to an estimator, in place, and return it; see ``MAMLRegressorCV.merge``."""
    first, second = recipe_of(estimator), recipe_of(other)
    if not (_same(first, second) and estimator.choice_.to_dict() == other.choice_.to_dict()):
        raise InputError(
            None,
            rule="the two estimators measure features in different units or have chosen differently: their sums are of "
            "different things.",
            way_out=("Fit the other one with fit_like, or out of core with ", Setting("like"), "."),
        )
    mine, theirs = estimator.model_, other.model_
    ids, codes = labels.union(mine.task_ids, theirs.task_ids)
    twice = len(codes) - len(ids)
    if twice:
        raise InputError(
            None,
            rule=f"{twice} tasks are in both ({some(ids[np.bincount(codes) > 1].tolist())}): what a task adds to the "
            "sums is not linear in its rows, so a task must be whole where it is summed.",
            way_out="Leave these tasks out, or fit anew to all rows.",
        )
    kept = None
    if mine.task_rows is not None and theirs.task_rows is not None:
        kept = mine.task_rows.joined(theirs.task_rows, codes, len(ids))
    estimator.n_clipped_ += other.n_clipped_
    return published(estimator, merge(estimator.sums_, other.sums_), ids, kept)


def is_one_task(model: FittedModel) -> bool:
    """Whether a model is a ridge regression on the rows of one task, of which enough is kept to add further ones."""
    return model.one_task is not None and not model.knows_tasks and model.levels is None


def with_rows(estimator: Any, rows: TaskRows) -> Any:
    """Add further rows of its one task to an estimator, in place, and return it.

    Without an inner loop sums are linear in the rows: what is kept of them all gives the weights of a fit to them all.
    """
    model = estimator.model_
    kept = model.one_task.joined(KnownRows.of(rows), np.zeros(2, dtype=np.int64), 1)
    one = kept.batch(np.array([0]), rows.n_columns)
    omega, estimator.scale_ = pooled_weights(one._replace(query_x=one.support_x, query_y=one.support_y))
    estimator.n_clipped_ += int(model.standard.clipped(rows.x).sum())
    estimator.publish(replace(model, omega=omega.astype(model.omega.dtype), one_task=kept))
    return estimator


def _same(first: Recipe, second: Recipe) -> bool:
    (plain, mine), (other, theirs) = _measured(first), _measured(second)
    return plain == other and mine.keys() == theirs.keys() and all(np.array_equal(mine[n], theirs[n]) for n in mine)


def _measured(recipe: Recipe) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What sums depend on beside rows and how these are drawn, as plain values and arrays."""
    arrays: dict[str, np.ndarray] = {}
    plain = recipe.pack(arrays) | pack_standard(recipe.standard, arrays)
    del plain["seed"], arrays["standard.low"], arrays["standard.high"]
    return plain, arrays
