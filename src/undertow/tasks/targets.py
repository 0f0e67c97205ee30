"""What a target is: numbers, two values, or counts; and how two values become 0 and 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from undertow._check import InputError, Setting, Text
from undertow._types import PerRow
from undertow.tasks import labels
from undertow.tasks.columns import codes_of, is_category, numbers
from undertow.tasks.source import Source
from undertow.tasks.wording import some


class Outcome(NamedTuple):
    """A target as numbers."""

    values: PerRow
    """(R,) NaN where one is missing"""
    kind: str
    said: str = ""
    """how it was read where that is not obvious, as part of a sentence"""
    classes: tuple[str, ...] = ()
    """labels that are 0 and 1; none unless there are two values"""


def read_target(opened: Source, name: str, kind: str) -> Outcome:
    """Return a target of a kind, or of the kind that its values show: two values, whole numbers from 0 on, or others.

    Of two values the later one is 1, by number, or by letter whatever the case. Raises InputError for a column of
    another kind.
    """
    column = opened.fetch([name])[0]
    label = is_category(column) or pa.types.is_boolean(column.type)
    if kind == "two-valued" or (kind == "auto" and label):
        found = _two(opened, name)
        if found is not None:
            return found
        if kind == "two-valued":
            rule = f"the target {name!r} has not two values."
            raise InputError(
                "target_kind", kind, rule, ("Leave it out, or give ", Setting("target_kind", "number"), ".")
            )
    values, said = numbers(column, name, "target", _way_out(opened, name, label), decimal=opened.decimal)
    there = values[~np.isnan(values)]
    whole = bool(len(there)) and bool((there >= 0).all() and (there == np.round(there)).all())
    if kind == "auto":
        if len(there) and ((there == there.min()) | (there == there.max())).all() and there.min() < there.max():
            return _two(opened, name) or Outcome(values, "number", said)
        kind = "count" if whole else "number"
    if kind == "count" and not whole:
        odd = there[(there < 0) | (there != np.round(there))]
        rule = f"the target {name!r} holds {some(odd, 3)}: counts are whole numbers from 0 on."
        raise InputError("target_kind", kind, rule, ("Give ", Setting("target_kind", "number"), "."))
    return Outcome(values, kind, said)


def _way_out(opened: Source, name: str, label: bool) -> Text:
    """What is offered where a target is text of other than two labels."""
    offers = "Encode it as numbers first; two values can be taken as ", Setting("target_kind", "two-valued"), "."
    if not label:
        return offers
    found = codes_of(opened.labels(name), name, "target", optional=True)[1]
    if near := labels.alike(found):
        return f"{some(near[0])} differ by case or spaces only: write them alike."
    return offers if len(found) < 3 else "Encode it as numbers; classes are for MAMLClassifierCV in Python."


def _two(opened: Source, name: str) -> Outcome | None:
    """A column of two labels as 0 and 1; None where it has fewer or more."""
    try:
        codes, found = codes_of(opened.labels(name), name, "target", optional=True)
    except InputError:  # numbers that are no labels
        return None
    if len(found) != 2:
        return None
    names = [labels.plain(one) for one in found.tolist()]
    values = np.where(codes < 0, np.nan, codes.astype(np.float64))
    if found.dtype.kind == "U" and names[0].casefold() > names[1].casefold():
        names, values = names[::-1], 1 - values
    return Outcome(values, "two-valued", "", tuple(names))
