"""From the parameters of an estimator to its trained model; a parameter that would do nothing is refused."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow._workers import n_workers
from undertow.choice.search import RIDGES, RULES, Settings
from undertow.estimators.bending import EFFORTS, with_curve
from undertow.estimators.inputs import column_numbers, task_folds
from undertow.estimators.training import Given, Search, Trained, given, pooled, searched
from undertow.linear.ridge_solve import checked_ratios
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.model import MixedRule
from undertow.tasks.losses import WEIGHTINGS
from undertow.tasks.rows import TaskRows

# Parameters that a rule, given as a value, has no use for: it holds the number itself, or knows no such thing.
_IDLE = {
    GradientRule: ("adapt_rate", "steps"),
    ProximalRule: ("train_rate", "adapt_rate", "steps", "rate_unit"),
    MixedRule: ("train_rate", "adapt_rate", "steps", "rate_unit", "ridge", "n_draws", "weighting"),
}


def check_shared(estimator: Any) -> None:
    """Check the parameters that all estimators have."""
    _check.whole_number(estimator.n_support, "n_support")
    _check.one_of(estimator.on_small, "on_small", ("drop", "raise"))
    _check.one_of(estimator.weighting, "weighting", WEIGHTINGS)
    _check.one_of(estimator.support, "support", ("random", "first"))
    _check.one_of(estimator.row_weights, "row_weights", ("frequency", "precision"))
    if estimator.floor is not None and not estimator.kind.scaled:
        raise InputError("floor", estimator.floor, "a class has no least value.", "Leave it out.")
    if estimator.floor is not None:
        _check.real(estimator.floor, "floor")
    n_workers(estimator.n_jobs)
    if estimator.clip is None or estimator.clip == math.inf:
        return
    if _check.real(estimator.clip, "clip") <= 0:
        raise InputError(
            "clip", estimator.clip, "it must be greater than 0.", ("Use ", Setting("clip", math.inf), " for no limit.")
        )


def check_floor(estimator: Any, targets: np.ndarray) -> None:
    """Raise InputError where targets (R, q) go below the floor of predictions."""
    if estimator.floor is not None and (targets < estimator.floor).any():
        rule = f"y goes down to {targets.min():g}: a floor is below what can be."
        raise InputError("floor", estimator.floor, rule, "Use a lower one, or leave it out.")


def about_small(n_tasks: int, n_large: int, n_support: int) -> str:
    """Return what the user is to be warned of where tasks are too small."""
    return (
        f"{n_tasks - n_large} of {n_tasks} tasks have no more than n_support={n_support} rows: they cannot give both "
        "support and query rows, and on_small='drop' leaves them out. Use a smaller n_support to keep them."
    )


def refuse_idle(estimator: Any, names: tuple[str, ...], why: str) -> None:
    """Raise InputError where a parameter that does nothing has another value than its default."""
    defaults = inspect.signature(type(estimator)).parameters
    for name in names:
        value, default = getattr(estimator, name), defaults[name].default
        if value is not default and value != default:
            raise InputError(name, value, f"it does nothing {why}.", ("Leave it out (", Setting(name, default), ")."))


def given_settings(estimator: Any, seed: int) -> tuple[Given, tuple[str, ...]]:
    """Return the settings of an estimator without a search, checked, and what the user is to be warned of."""
    own = estimator.rule
    if own is not None:
        if type(own) not in _IDLE:
            raise InputError(
                "rule", own, "it must be None, or a GradientRule, a ProximalRule or a MixedRule.",
                "None is the gradient rule at train_rate and adapt_rate.",
            )  # fmt: skip
        refuse_idle(estimator, _IDLE[type(own)], f"beside rule={type(own).__name__}(...)")
    if not estimator.standardize:
        refuse_idle(estimator, ("clip",), "with standardize=False")
    _check.one_of(estimator.rate_unit, "rate_unit", ("raw", "spectral"))
    if estimator.n_draws is not None:
        _check.whole_number(estimator.n_draws, "n_draws")
    ridge = _check.real(estimator.ridge, "ridge", minimum=0.0)
    steps = _check.whole_number(estimator.steps, "steps")
    if np.ndim(_check.rates(estimator.train_rate, "train_rate", infinite=True)):
        raise InputError(
            "train_rate", estimator.train_rate, "it must be one number.", "MAMLRegressorCV and rate_path try many."
        )
    adapt_rate = _check.real(estimator.adapt_rate, "adapt_rate", hint="A rate may have either sign.")
    rule = GradientRule(adapt_rate, steps) if own is None else own
    if isinstance(rule, MixedRule):
        rule = replace(rule, slopes=column_numbers(estimator, rule.slopes, "slopes"))
    spectral = estimator.rate_unit == "spectral"
    _check_rule(rule)
    settings = Given(
        rule=rule,
        train_rate=float(estimator.train_rate),
        spectral=spectral,
        # A rule that is a value holds a raw rate.
        adapt_spectral=spectral and own is None,
        ridge=ridge,
        n_support=estimator.n_support,
        n_draws=estimator.n_draws,
        seed=seed,
        n_jobs=estimator.n_jobs,
        weighting=estimator.weighting,
        low=0.0 if estimator.kind.scaled else -1.0,
    )
    notes = ()
    if isinstance(rule, GradientRule) and rule.rate < 0:
        notes = (
            f"adapt_rate={rule.rate:g} is negative: the step moves away from the new task's data. The best adapt rate "
            "is never negative on average; a negative rate is for meta-training (train_rate).",
        )
    return settings, notes


def _check_rule(rule: GradientRule | ProximalRule | MixedRule) -> None:
    if isinstance(rule, GradientRule):
        _check.real(rule.rate, "rate", hint="A rate may have either sign.")
        _check.whole_number(rule.steps, "steps")
    elif isinstance(rule, ProximalRule):
        checked_ratios(rule.ratio, negative=True)
        checked_ratios(rule.train_ratio)
        checked_ratios(rule.reach)
    else:
        rule.validate()


def search_settings(estimator: Any, rows: TaskRows, seed: int) -> Settings:
    """Return the settings of an estimator's search, checked. rows: tasks large enough to be tested."""
    if not estimator.standardize:
        refuse_idle(estimator, ("clip",), "with standardize=False")
    names = [estimator.rules] if isinstance(estimator.rules, str) else list(estimator.rules)
    for name in names:
        _check.one_of(name, "rules", RULES)
    if not names:
        raise InputError("rules", names, f"give one or more of {', '.join(map(repr, RULES))}.")
    if estimator.n_draws is not None:
        _check.whole_number(estimator.n_draws, "n_draws")
    if estimator.n_rates is not None and _check.whole_number(estimator.n_rates, "n_rates", minimum=9) % 2 == 0:
        raise InputError("n_rates", estimator.n_rates, "it must be odd, so that 0 is one of the rates.")
    if not isinstance(estimator.blend, bool | np.bool_):
        raise InputError("blend", estimator.blend, "it must be True or False.")
    if not 0 < _check.real(estimator.level, "level") < 1:
        raise InputError("level", estimator.level, "it must lie between 0 and 1.")
    ridges = np.atleast_1d(_check.rates(RIDGES if estimator.ridges is None else estimator.ridges, "ridges"))
    if (ridges < 0).any():
        raise InputError("ridges", float(ridges.min()), "a ridge must be at least 0.")
    if isinstance(estimator.cv, int | float | str):
        _check.whole_number(estimator.cv, "cv", minimum=3)
    return Settings(
        n_support=estimator.n_support,
        cv=task_folds(estimator.cv, rows) if rows.n_tasks > 1 else 3,
        rules=names,
        blend=bool(estimator.blend),
        ridges=np.unique(ridges).tolist(),
        steps=tuple(_check.whole_number(k, "steps") for k in np.atleast_1d(np.asarray(estimator.steps, object))),
        n_draws=estimator.n_draws,
        n_rates=estimator.n_rates,
        level=estimator.level,
        seed=seed,
        n_jobs=estimator.n_jobs,
        weighting=estimator.weighting,
        slopes=column_numbers(estimator, estimator.random_slopes, "random_slopes"),
    )


def train_given(estimator: Any, everything: TaskRows, large: TaskRows, seed: int) -> Trained:
    """Train at the rates, ratios and ridge that an estimator was given."""
    settings, notes = given_settings(estimator, seed)
    trained = given(everything, large, settings)
    return replace(trained, notes=(*notes, *trained.notes))


def train_searched(estimator: Any, everything: TaskRows, large: TaskRows, seed: int, curves: bool = True) -> Trained:
    """Train at settings chosen by nested cross-validation; without tasks to choose by, on all rows together.

    curves: whether the common relation may bend, where ``effort`` allows it.
    """
    _check.one_of(estimator.effort, "effort", EFFORTS)
    settings = search_settings(estimator, large, seed)
    if everything.n_tasks == 1:
        return pooled(everything)
    if large.n_tasks < 3:
        note = (
            f"{large.n_tasks} of {everything.n_tasks} tasks have more than n_support rows, and a choice needs 3: rates "
            "cannot be chosen, and nothing is adapted."
        )
        return pooled(everything, (note,))
    trained = searched(everything, large, settings)
    return with_curve(estimator.effort, everything, large, trained, settings) if curves else trained


def publish_search(estimator: Any, trained: Trained) -> None:
    """Set the attributes of an estimator that a search leaves behind."""
    found = trained.search or Search()
    estimator.choice_ = found.choice
    estimator.strategy_ = found.strategy
    estimator.ridge_, estimator.steps_, estimator.n_draws_ = found.ridge, found.steps, found.n_draws
    estimator.rate_path_ = (found.paths[0] if len(found.paths) == 1 else found.paths) if found.paths else None
    estimator.cv_surface_, estimator.held_out_ = found.surface, found.held_out
    estimator.recipe_, estimator.sums_ = found.recipe, found.sums
    estimator.curve_, estimator.curve_errors_ = found.curve, found.curve_errors
    estimator.by_time_ = {}
