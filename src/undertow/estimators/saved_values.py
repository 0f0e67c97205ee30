"""Plain values of a saved estimator: parameters, and notes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._plain import plain, unplain
from undertow.estimators import saved_parts as parts
from undertow.estimators.saved_checks import conform
from undertow.estimators.saved_file import read_json
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.model import MixedRule


def pack_parameter(name: str, value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Pack a constructor's argument: a plain value, a list of them, or a rule."""
    if isinstance(value, MixedRule):
        return {"mixed_rule": plain(asdict(value))}
    if isinstance(value, GradientRule | ProximalRule):
        return {"rule": plain(parts.pack_rule(value, arrays, f"parameter.{name}"))}
    if isinstance(value, tuple | list | np.ndarray):
        return {"list": [pack_parameter(name, one, arrays) for one in value], "tuple": isinstance(value, tuple)}
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if value is None or isinstance(value, bool | int | float | str | np.integer | np.floating | np.bool_):
        return plain(value)
    raise InputError(
        name,
        value,
        "it is no plain value and cannot be saved without running code on loading.",
        f"Set it to a number or text with set_params({name}=...) first; the fitted weights stay.",
    )


def unpack_parameter(name: str, value: Any, arrays: dict[str, np.ndarray], d: int) -> Any:
    """Return the argument, for d columns."""
    if isinstance(value, dict) and "mixed_rule" in value:
        return MixedRule(**unplain(value["mixed_rule"]))
    if isinstance(value, dict) and "rule" in value:
        return parts.unpack_rule(unplain(value["rule"]), arrays, f"parameter.{name}", d)
    if isinstance(value, dict) and "list" in value:
        items = [unpack_parameter(name, one, arrays, d) for one in value["list"]]
        return tuple(items) if value["tuple"] else items
    if isinstance(value, dict):
        return float(value["float"])
    return value


def pack_notes(notes: Mapping[str, Any]) -> str:
    """Notes as text of their own: there a word such as "inf" and the number stay apart."""
    try:
        return json.dumps(dict(notes))
    except (TypeError, ValueError) as error:
        raise InputError(
            None, rule=f"notes hold what is no plain value ({error}).", way_out="Use text, numbers, lists and dicts."
        ) from error


def unpack_notes(text: Any, size: int) -> dict[str, Any]:
    """Return the notes of a file of ``size`` bytes; raises ValueError for what are none."""
    conform(text, str, "notes")
    notes = read_json(text, size, constants=True)
    conform(notes, dict[str, Any], "notes")
    return notes
