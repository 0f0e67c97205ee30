"""Labels of tasks, levels and classes: which of two tables are the same, and which only look alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from undertow._types import Ids, Numbers

_NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?$")
_TIME = re.compile(r"[ T]00:00(:00)?(\.0*)?(Z|[+-]00:?00)?$")


def places(known: Ids, labels: Ids) -> Numbers:
    """Return the position (m,) of each label among distinct ``known`` ones, -1 where it is none of them.

    Labels of one type are compared as they are. Where one table holds numbers, truth values or dates and the other
    their text, each is compared by its plainest spelling: 1, 1.0, "1" and "1.0" are one label, "01" is another.
    """
    found = _look_up(_plain_list(known), _plain_list(labels))
    if known.dtype.kind == labels.dtype.kind and known.dtype.kind not in "fO":
        return found
    spelled = _spelling(known, labels)
    theirs = [spelled(one) for one in known.tolist()] if known.dtype.kind not in "mM" else _dates(known)
    ours = [spelled(one) for one in labels.tolist()] if labels.dtype.kind not in "mM" else _dates(labels)
    # Of two known labels of one spelling, such as "1" and "1.0" in a text column, only the plain one is meant.
    number = Counter(theirs)
    plain = known.tolist() if known.dtype.kind in "UO" else [None] * len(known)
    once = [one if number[one] == 1 else None for one in theirs]
    for place in (_look_up(plain, ours), _look_up(once, ours)):
        found = np.where(found >= 0, found, place)
    return found


def union(known: Ids, labels: Ids) -> tuple[Ids, Numbers]:
    """Return the sorted labels of both, and the position (m + m',) of each among them, those of ``labels`` last.

    A label that is a known one by ``places`` keeps the known spelling; where the types differ all become text.
    """
    place = places(known, labels)
    new = labels[place < 0]
    if len(known) and len(new) and known.dtype.kind != new.dtype.kind:
        known, new = known.astype(np.str_), new.astype(np.str_)
    ids, codes = np.unique(np.concatenate([known, new]) if len(known) else new, return_inverse=True)
    mine = np.where(place >= 0, place, len(known) + np.cumsum(place < 0) - 1)
    return ids, np.concatenate([codes[: len(known)], codes[mine]]).astype(np.int64)


def look_alikes(known: Ids, labels: Ids) -> list[tuple[str, str]]:
    """Return pairs (label, known label) that differ by case, spaces, leading zeros or the last digits of a float only.

    labels: those that are none of ``known``; each is named once at most.
    """
    near: dict[str, Any] = {}
    for one in known.tolist():
        near.setdefault(folded(one), one)
    pairs = ((one, near.get(folded(one))) for one in labels.tolist())
    return [(str(one), str(other)) for one, other in pairs if other is not None]


def folded(label: Any) -> str:
    """Return what two spellings of one label are likely to have in common."""
    text = " ".join(str(label).split()).casefold()
    try:
        # So that "01" is 1, and an id of 18 digits what a float keeps of it.
        return repr(float(text) + 0.0)
    except ValueError:
        return text


def _look_up(known: list[Any], labels: list[Any]) -> Numbers:
    place = {one: i for i, one in enumerate(known) if one is not None}
    return np.array([place.get(one, -1) for one in labels], dtype=np.int64)


def _plain_list(labels: Ids) -> list[Any]:
    # Nanoseconds would become whole numbers in Python.
    return _dates(labels) if labels.dtype.kind in "mM" else labels.tolist()


def _dates(labels: Ids) -> list[str]:
    return [_TIME.sub("", str(one).replace("T", " ")).rstrip() for one in labels]


def _spelling(known: Ids, labels: Ids) -> Callable[[Any], str]:
    kinds = {known.dtype.kind, labels.dtype.kind}
    if kinds & set("mM"):
        return _date_spelling
    if "b" in kinds and kinds & set("UO"):
        return lambda one: str(one).strip().casefold()
    return _number_spelling


def _date_spelling(label: Any) -> str:
    text = str(label).strip().replace("T", " ")
    return _TIME.sub("", text)


def _number_spelling(label: Any) -> str:
    if isinstance(label, bool):
        return str(int(label))
    if isinstance(label, float):
        return str(int(label)) if label.is_integer() else repr(label)
    if isinstance(label, str) and (match := _NUMBER.match(label)):
        sign, digits = match.groups()
        return "-" + digits if sign == "-" and digits != "0" else digits
    return str(label)
