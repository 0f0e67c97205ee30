"""Parts of a saved estimator: rules, the rate path, the surface and the held-out losses, as arrays and plain values.

``pack_...`` puts arrays into ``arrays`` and returns what belongs into the header; ``unpack_...`` is its inverse and
raises ValueError for what does not fit together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from undertow import _check
from undertow._plain import plain, unplain
from undertow.choice.record import Choice
from undertow.choice.uncertainty import LEVELS, Uncertainty
from undertow.choice.without_rows import CONSTANT
from undertow.estimators.levels import Levels
from undertow.estimators.linked import Link
from undertow.estimators.saved_checks import check_shape, check_squares, check_values, conform, whole
from undertow.estimators.saved_file import Arrays
from undertow.estimators.saved_labels import pack_labels, unpack_labels
from undertow.linear.moments import Moments
from undertow.linear.outer_problem import OuterProblem
from undertow.linear.path import RatePath
from undertow.linear.ridge_solve import checked_ratios, covariance_root
from undertow.linear.rules import BlendRule, GradientRule, ProximalRule, Rule
from undertow.linear.solvers import REMEDY
from undertow.linear.surface import LossSurface
from undertow.mixed.families import FAMILIES
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.tasks import labels
from undertow.tasks.losses import WEIGHTINGS, TaskLosses
from undertow.tasks.standard import Standard

STANDARD = ("centre", "spread", "target_centre", "target_spread", "low", "high")
_OUTCOMES = tuple(REMEDY)
_PATH = ("train_rates", "weights", "meta_loss", "condition", "rank", "ridges")
_OF_MOMENTS = {"support_tasks": float, "weight": float, "n_rows": int, "n_tasks": int, "eps": float, "weighting": str}


def pack_standard(standard: Standard, arrays: Arrays) -> dict[str, Any]:
    """Pack units and limits, without a curve."""
    arrays |= {f"standard.{field}": getattr(standard, field) for field in STANDARD}
    return {"clip": plain(standard.clip), "intercept": standard.intercept}


def unpack_standard(stored: dict[str, Any], arrays: Arrays) -> Standard:
    """Return them."""
    limits = unplain(stored)
    check_values(limits, {"clip": float, "intercept": bool}, "standard")
    if not (isinstance(limits["clip"], float) and limits["clip"] > 0):
        raise ValueError(f"a limit of {limits['clip']} for standardised values")
    fields: dict[str, Any] = {field: arrays[f"standard.{field}"] for field in STANDARD}
    return Standard(**limits, **fields)


def pack_rule(rule: Rule | LaplaceRule, arrays: Arrays, name: str) -> dict[str, Any]:
    """Pack an adaptation rule."""
    if isinstance(rule, LaplaceRule):
        arrays[f"{name}.variances"] = rule.variances
        return {"kind": "laplace", "family": rule.family, "low": float(rule.low)}
    if isinstance(rule, GradientRule):
        return {"kind": "gradient", "rate": float(rule.rate), "steps": rule.steps}
    if isinstance(rule, ProximalRule):
        if rule.covariance is not None:
            arrays[f"{name}.covariance"] = rule.covariance
        return {
            "kind": "proximal",
            "ratio": float(rule.ratio),
            "covariance": rule.covariance is not None,
            "train_ratio": float(rule.train_ratio),
            "reach": float(rule.reach),
        }
    arrays[f"{name}.shares"], arrays[f"{name}.starts"] = rule.shares, rule.starts
    return {"kind": "blend", "parts": [pack_rule(part, arrays, f"{name}.{i}") for i, part in enumerate(rule.parts)]}


def unpack_rule(stored: dict[str, Any], arrays: Arrays, name: str, d: int) -> Rule:
    """Return the rule for d columns, of those that a parameter may hold."""
    kind = stored["kind"]
    if kind == "blend":
        parts = stored["parts"]
        if any(part["kind"] == "blend" for part in parts):
            raise ValueError("a blend of blends")
        shares, starts = arrays[f"{name}.shares"], arrays[f"{name}.starts"]
        check_shape(starts, (len(parts), d), f"{name}.starts")
        check_shape(shares, (len(parts),), f"{name}.shares")
        return BlendRule(
            tuple(unpack_rule(part, arrays, f"{name}.{i}", d) for i, part in enumerate(parts)),  # type: ignore[misc]
            shares,
            starts,
        )
    if kind == "gradient":
        return GradientRule(_check.real(stored["rate"], "rate"), whole(stored["steps"], "steps", 1))
    if kind != "proximal":
        raise ValueError(f"an unknown rule {kind!r}")
    covariance = arrays[f"{name}.covariance"] if stored["covariance"] else None
    covariance_root(covariance, d)
    ratio = float(checked_ratios(stored["ratio"], negative=True)[0])
    train_ratio, reach = checked_ratios([stored["train_ratio"], stored["reach"]]).tolist()
    return ProximalRule(ratio, covariance, train_ratio, reach)


def unpack_laplace(stored: dict[str, Any], arrays: Arrays, name: str, d: int) -> LaplaceRule:
    """Return the rule of a model of two values or of counts, for d columns."""
    check_values(stored, {"kind": str, "family": str, "low": float}, name)
    variances = arrays[f"{name}.variances"]
    check_shape(variances, (d,), f"{name}.variances")
    if (variances < 0).any() or stored["low"] not in ((0.0, -1.0) if stored["family"] == "binomial" else (0.0,)):
        raise ValueError(f"variances below 0, or a strange value, in {name!r}")
    return LaplaceRule(_check.one_of(stored["family"], "family", FAMILIES), variances, stored["low"])


def pack_link(link: Link, arrays: Arrays) -> dict[str, Any]:
    """Pack what a model of two values or of counts knows beside its rule."""
    arrays["link.spread"], arrays["link.mean_covariance"] = link.spread, link.mean_covariance
    return {"dispersion": float(link.dispersion)}


def unpack_link(stored: dict[str, Any], arrays: Arrays, rule: LaplaceRule) -> Link:
    """Return it."""
    check_values(stored, {"dispersion": float}, "link")
    r, d = len(rule.varying), len(rule.variances)
    check_shape(arrays["link.spread"], (r, r), "link.spread")
    check_shape(arrays["link.mean_covariance"], (d, d), "link.mean_covariance")
    return Link(rule, arrays["link.spread"], arrays["link.mean_covariance"], stored["dispersion"])


def unpack_rules(
    stored: list[dict[str, Any]], link: Any, arrays: Arrays, d: int
) -> tuple[tuple[Rule | LaplaceRule, ...], Link | None]:
    """Return the rule of each target, and the link of a model that has one, for d columns."""
    if link is None:
        return tuple(unpack_rule(rule, arrays, f"rule.{j}", d) for j, rule in enumerate(stored)), None
    (only,) = stored
    rule = unpack_laplace(only, arrays, "rule.0", d)
    return (rule,), unpack_link(unplain(link), arrays, rule)


def unpack_choice(stored: Any) -> Choice:
    """Return the record of ``Choice.to_dict``."""
    choice = Choice.from_dict(stored)
    conform(choice, Choice, "choice")
    if not {choice.strategy, "signed", "joint"} <= choice.candidates.keys():
        raise ValueError(f"no errors of the strategy {choice.strategy!r}, or of the signed rate")
    if not choice.at_zero or not set(choice.at_zero) <= {choice.strategy, "joint", CONSTANT}:
        raise ValueError("without rows tasks are predicted by other strategies than are known")
    if any(one.mse < 0 or one.standard_error < 0 for one in choice.candidates.values()):
        raise ValueError("errors below 0")
    curve = choice.curve
    if len({len(curve.train_rates), len(curve.adapt_rates), len(curve.mse), len(curve.standard_errors)}) > 1:
        raise ValueError("a curve of columns of different lengths")
    return choice


def pack_path(path: RatePath, arrays: Arrays, name: str) -> dict[str, Any]:
    """Pack a path and the moments that it was solved from."""
    moments = path.problem.moments
    for field in _PATH:
        arrays[f"{name}.{field}"] = getattr(path, field)
    arrays[f"{name}.outcome"] = np.array([_OUTCOMES.index(one) for one in path.outcome.flat]).reshape(
        path.outcome.shape
    )
    arrays[f"{name}.gram"], arrays[f"{name}.support"] = moments.gram, moments.support
    if path.problem.basis is not None:
        arrays[f"{name}.basis"] = path.problem.basis
    return {"scale": path.scale, "steps": path.steps} | {name: getattr(moments, name) for name in _OF_MOMENTS}


def unpack_path(stored: dict[str, Any], arrays: Arrays, name: str, d: int) -> RatePath:
    """Return the path; further rates can be asked of it as before."""
    check_values(stored, {"scale": float, "steps": int} | _OF_MOMENTS, name)
    for field in ("scale", "weight", "support_tasks"):
        if not stored[field] > 0:
            raise ValueError(f"{name}.{field} = {stored[field]}, which must be above 0")
    fields = {field: arrays[f"{name}.{field}"] for field in _PATH}
    k, steps = len(fields["train_rates"]), whole(stored["steps"], "steps", 1)
    check_shape(fields["weights"], (k, d), f"{name}.weights")
    outcome = arrays[f"{name}.outcome"]
    for field in ("train_rates", "meta_loss", "condition", "rank"):
        check_shape(fields[field], (k,), f"{name}.{field}")
    check_shape(outcome, (k,), f"{name}.outcome")
    check_shape(fields["ridges"], (1,), f"{name}.ridges")
    if outcome.min(initial=0) < 0 or outcome.max(initial=0) >= len(_OUTCOMES):
        raise ValueError(f"an unknown outcome in {name!r}")
    gram, support, basis = arrays[f"{name}.gram"], arrays[f"{name}.support"], arrays.get(f"{name}.basis")
    r = d
    if basis is not None:
        r = basis.shape[-1]
        check_shape(basis, (d, r), f"{name}.basis")
    check_shape(gram, (steps + 1, r + 1, steps + 1, r + 1), f"{name}.gram")
    check_shape(support, (r, r), f"{name}.support")
    check_squares(gram, "iaia->ia", f"{name}.gram")
    check_squares(support, "aa->a", f"{name}.support")
    _check.one_of(stored["weighting"], "weighting", WEIGHTINGS)
    moments = Moments(gram, support, **{field: stored[field] for field in _OF_MOMENTS})
    return RatePath(
        **fields,
        outcome=np.array(_OUTCOMES)[outcome],
        scale=stored["scale"],
        steps=steps,
        init=np.zeros(d),
        n_rows=stored["n_rows"],
        n_tasks=stored["n_tasks"],
        problem=replace(OuterProblem.of(moments, steps, None, None, "gram"), basis=basis),
    )


def pack_surface(surface: LossSurface, arrays: Arrays, name: str) -> dict[str, Any]:
    """Pack a surface as the search makes it: products, without losses of single tasks."""
    for field in ("train_rates", "products", "ridges"):
        arrays[f"{name}.{field}"] = getattr(surface, field)
    return {"scale": surface.scale, "weighting": surface.weighting}


def unpack_surface(stored: dict[str, Any], arrays: Arrays, name: str) -> LossSurface:
    """Return the surface."""
    check_values(stored, {"scale": float, "weighting": str}, name)
    rates, products, ridges = (arrays[f"{name}.{field}"] for field in ("train_rates", "products", "ridges"))
    if products.ndim != 4 or products.shape[:2] != (len(rates), len(ridges)) or len({*products.shape[2:]}) != 1:
        raise ValueError(f"{name!r} with products of shape {products.shape}")
    weighting = _check.one_of(stored["weighting"], "weighting", WEIGHTINGS)
    return LossSurface(rates, products, stored["scale"], ridges, weighting=weighting)


def pack_losses(losses: TaskLosses, arrays: Arrays, name: str, task_ids: np.ndarray) -> dict[str, Any]:
    """Pack the losses; their tasks are kept as positions among ``task_ids``, which is sorted."""
    for field in ("mse", "weights", "rows"):
        arrays[f"{name}.{field}"] = getattr(losses, field)
    arrays[f"{name}.tasks"] = labels.places(task_ids, losses.task_ids)
    return {"names": list(losses.names)}


def unpack_losses(stored: dict[str, Any], arrays: Arrays, name: str, task_ids: np.ndarray) -> TaskLosses:
    """Return the losses."""
    mse, weights, rows, tasks = (arrays[f"{name}.{field}"] for field in ("mse", "weights", "rows", "tasks"))
    check_values(stored, {"names": list[str]}, name)
    names = tuple(stored["names"])
    check_shape(mse, (len(tasks), len(names)), f"{name}.mse")
    for field, one in (("weights", weights), ("rows", rows)):
        check_shape(one, (len(tasks),), f"{name}.{field}")
    if tasks.min(initial=0) < 0 or tasks.max(initial=0) >= len(task_ids):
        raise ValueError(f"{name!r} with tasks that the estimator has not seen")
    return TaskLosses(names, task_ids[tasks], mse, weights, rows)


_UNCERTAINTY = (
    "noise",
    "task_covariance",
    "mean_covariance",
    "state",
    "second_moment",
    "at_zero",
    "at_support",
    "expected_mse",
    "curves",
)


def pack_uncertainty(uncertainty: Uncertainty, arrays: Arrays) -> dict[str, Any]:
    """Pack what intervals are made from."""
    for field in _UNCERTAINTY:
        arrays[f"uncertainty.{field}"] = getattr(uncertainty, field)
    return {name: getattr(uncertainty, name) for name in ("structure", "most_rows", "n_adapted", "n_support")}


def unpack_uncertainty(stored: dict[str, Any], arrays: Arrays, q: int, d: int) -> Uncertainty:
    """Return it for q targets and d columns."""
    fields = {field: arrays[f"uncertainty.{field}"] for field in _UNCERTAINTY}
    check_values(stored, {"structure": str, "most_rows": float, "n_adapted": int, "n_support": int}, "uncertainty")
    structure = stored["structure"]
    d = d if structure else 0
    shapes = {"noise": (q,), "second_moment": (d, d)} | dict.fromkeys(("at_zero", "at_support"), (q, len(LEVELS)))
    shapes |= {"expected_mse": (q, 2), "curves": (q, 2 if fields["curves"].size else 0, 2)}
    for field, array in fields.items():
        check_shape(array, shapes.get(field, (q, d, d)), f"uncertainty.{field}")
    return Uncertainty(**fields, **stored)


def pack_levels(levels: Levels, arrays: Arrays) -> dict[str, Any]:
    """Pack the levels of a second grouping."""
    arrays["levels.effects"], arrays["levels.variances"] = levels.effects, levels.variances
    return pack_labels(levels.ids, arrays, "level_ids")


def unpack_levels(stored: dict[str, Any], arrays: Arrays, q: int) -> Levels:
    """Return the levels for q targets."""
    ids = unpack_labels(stored, arrays, "level_ids")
    check_shape(arrays["levels.effects"], (q, len(ids)), "levels.effects")
    check_shape(arrays["levels.variances"], (q,), "levels.variances")
    return Levels(ids, arrays["levels.effects"], arrays["levels.variances"])
