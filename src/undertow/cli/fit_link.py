"""The mixed model of two values, or of counts, beside the strategies of ``undertow fit``, and in their place."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow.choice import words
from undertow.choice.interval import gain
from undertow.choice.limits import LIMITS
from undertow.cli.output import say
from undertow.cli.own_table import Job
from undertow.comparison import Plan, compare
from undertow.estimators import MAMLRegressor, MAMLRegressorCV, fit_table
from undertow.mixed import MixedRule
from undertow.tasks import GroupedTable

LINEAR = "linear"
LINES = 2
"""Lines of the screen that ``print_link`` takes"""


class Link(NamedTuple):
    """One rule that is not linear."""

    family: str
    """of ``MixedRule``"""
    rival: str
    """name in ``undertow.comparison.RIVALS``"""
    words: str


LINKS = {
    "logistic": Link("binomial", "logistic_mixed", "Logistic mixed model"),
    "poisson": Link("poisson", "poisson_mixed", "Poisson mixed model"),
}
_OF_KIND = {"two-valued": "logistic", "count": "poisson"}
# Per cent beyond which an error is said beside the other, and not as a gain.
_MOST_WORSE = 1000


def check_rule(rule: str, raw: GroupedTable) -> None:
    """Raise InputError for a rule that there is not, and for one that is not for the target."""
    _check.one_of(rule, "rule", (LINEAR, *LINKS))
    if rule == LINEAR:
        return
    if _OF_KIND.get(raw.target_kind) != rule:
        kind = next(kind for kind, name in _OF_KIND.items() if name == rule)
        of = "counts" if kind == "count" else "two values"
        text = f"it is for {of}, and {raw.target} is a {raw.target_kind} target."
        own = _OF_KIND.get(raw.target_kind)
        other = () if own is None else ("Give ", Setting("rule", own), ". ")
        raise InputError("rule", rule, text, (*other, "If it is not, say so with ", Setting("target_kind", kind), "."))
    if raw.levels is not None:
        text = "it has no second grouping."
        raise InputError("rule", rule, text, ("Leave that out with ", Setting("random_intercept", "none"), "."))


def offers_link(raw: GroupedTable) -> bool:
    """Return whether there is a mixed model of the target's kind."""
    return raw.target_kind in _OF_KIND and raw.levels is None


def print_link(job: Job, raw: GroupedTable, estimator: MAMLRegressorCV) -> None:
    """Say in a line what the mixed model of the target's kind is worth on the same held-out tasks and rows."""
    if not offers_link(raw):
        return
    name, choice, held_out = _OF_KIND[raw.target_kind], estimator.choice_, estimator.held_out_
    assert choice is not None
    assert held_out is not None
    link, used = LINKS[name], job.settings["rule"] != LINEAR
    offer = "it is saved" if used else f"see --rule {name}"
    losses = _losses(job, raw, estimator, link.rival)
    if isinstance(losses, str):
        say(f"{link.words}: {losses}; {offer}")
        return
    found = gain(held_out.of(choice.strategy), losses, held_out.weights, choice.interval.level)
    error = words.share(float(held_out.weights @ losses / held_out.weights.sum()))
    interval = f"{found.low:+.1f} to {found.high:+.1f} %"
    over = f"gain {found.percent:+.1f} % ({interval}) over the strategy used"
    if found.percent < -_MOST_WORSE:
        over = f"and {words.share(choice.candidates[choice.strategy].mse)} by the strategy used"
    say(f"{link.words}: MSE {error}, {over}; {offer}")


def _losses(job: Job, raw: GroupedTable, estimator: MAMLRegressorCV, rival: str) -> Any:
    """Held-out error (m,) of each task of ``held_out_``, by the folds and draws of the search, or why there is none."""
    choice, held_out, settings = estimator.choice_, estimator.held_out_, job.settings
    assert choice is not None
    assert held_out is not None
    if raw.x.size > LIMITS.curve_numbers:
        return f"not measured beyond {LIMITS.curve_numbers:g} numbers (rows times columns)"
    clip, seed, weighting = settings["clip"], settings["seed"], settings["weighting"]
    plan = Plan(choice.n_support, choice.n_folds, choice.n_draws, clip, seed, weighting)
    try:
        found = compare(raw, plan, rivals=[rival], time_limit=None)
    except InputError as error:
        return f"not measured ({str(error.rule).rstrip('.')})"
    place = np.searchsorted(found.task_ids, held_out.task_ids)
    unit = found.settings["target_variance"] / float(estimator.model_.standard.target_spread[0] ** 2)
    return found.losses(rival)[place] * unit


def fitted_link(job: Job, raw: GroupedTable) -> MAMLRegressor:
    """The mixed model that the settings ask for, fitted to all rows."""
    settings = job.settings
    estimator = MAMLRegressor(
        n_support=settings["n_support"],
        rule=MixedRule("intercept", family=LINKS[settings["rule"]].family),
        clip=settings["clip"],
        on_small="raise",
        support="random" if settings["order"] is None else "first",
        row_weights=settings["weights_are"],
        random_state=settings["seed"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_table(estimator, raw)
