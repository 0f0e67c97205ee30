"""Labels of tasks, levels and classes: which of two tables are the same, and which only look alike."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from undertow._types import SomeIds, SomePlaces
from undertow.tasks.wording import some, spelled_time

_NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?$")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def numbered(n: int) -> SomeIds:
    """Return the names "task 1" to "task n" (n,), with zeros before the number so that they are sorted."""
    return np.array([f"task {i:0{len(str(n))}}" for i in range(1, n + 1)])


def places(known: SomeIds, labels: SomeIds) -> SomePlaces:
    """Return the position (m,) of each label among distinct ``known`` ones, -1 where it is none of them.

    Labels of one type are compared as they are. Where one table holds numbers, truth values or dates and the other
    their text, each is compared by its plainest spelling: 1, 1.0, "1" and "1.0" are one label, "01" is another.
    """
    found = _look_up(values(known), values(labels))
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


def union(known: SomeIds, labels: SomeIds) -> tuple[SomeIds, SomePlaces]:
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


def look_alikes(known: SomeIds, labels: SomeIds) -> list[tuple[str, str]]:
    """Return pairs (label, known label) that differ by case, spaces, leading zeros or the last digits of a float only.

    labels: those that are none of ``known``; each is named once at most.
    """
    rounded = "f" in (known.dtype.kind, labels.dtype.kind)
    near: dict[str, Any] = {}
    for one in known.tolist():
        near.setdefault(folded(one, rounded), one)
    pairs = ((one, near.get(folded(one, rounded))) for one in labels.tolist())
    return [(str(one), str(other)) for one, other in pairs if other is not None]


def alike(labels: SomeIds) -> list[list[str]]:
    """Return labels of one table that differ by case, spaces or zeros behind the point only, in groups."""
    if labels.dtype.kind not in "UO":
        return []
    groups: dict[str, list[str]] = {}
    for one in labels.tolist():
        # "1" and "1.0" are likely one; "01" and "1" may be two.
        text = _text_folded(one)
        key = folded(one) if "." in text or re.fullmatch(r"0|[1-9]\d*", text) else text
        groups.setdefault(key, []).append(str(one))
    return [group for group in groups.values() if len(group) > 1]


def said_alike(labels: SomeIds, name: str, what: str = "task") -> str:
    """Return a sentence on labels of a column that are likely one; empty where there are none. what: they name."""
    groups = alike(labels)
    pairs = "; ".join(some(group) for group in groups[:4]) + ("; ..." if len(groups) > 4 else "")
    if not groups:
        return ""
    return (
        f"{len(groups)} {'pair' if len(groups) == 1 else 'pairs'} of labels of {name!r} differ by case or spaces "
        f"only and are likely one {what} each, but are kept apart: {pairs}"
    )


def said_alike_levels(levels: Mapping[str, Sequence[str] | SomeIds]) -> list[str]:
    """Return such a sentence for each column of levels that has some."""
    return [said for name, known in levels.items() if (said := said_alike(np.asarray(known), name, "level"))]


def folded(label: Any, rounded: bool = False) -> str:
    """Return what spellings of one label are likely to have in common. rounded: also where a float took digits off."""
    text = _text_folded(label)
    if not is_number(text):
        return text
    # So that "01" is 1; float() would merge numbers of many digits that are not alike.
    if rounded:
        return repr(float(text) + 0.0)
    whole, _, rest = text.lstrip("+-").partition(".")
    number = f"{whole.lstrip('0') or '0'}.{rest.rstrip('0')}"
    return f"-{number}" if text.startswith("-") and number != "0." else number


def _text_folded(label: Any) -> str:
    return " ".join(unicodedata.normalize("NFKC", str(label)).split()).casefold()


def is_number(text: str) -> bool:
    """Return whether a text is a finite decimal number."""
    return _DECIMAL.fullmatch(text) is not None


def plain(label: Any) -> str:
    """Return the plainest spelling of a label: 1 and 1.0 are "1", text is as it is."""
    return label if isinstance(label, str) else str(label) if isinstance(label, bool) else _number_spelling(label)


def _look_up(known: list[Any], labels: list[Any]) -> SomePlaces:
    place = {one: i for i, one in enumerate(known) if one is not None}
    return np.array([place.get(one, -1) for one in labels], dtype=np.int64)


def values(labels: SomeIds) -> list[Any]:
    """Return labels as Python's values, dates and times as text."""
    # Nanoseconds would become whole numbers in Python.
    return _dates(labels) if labels.dtype.kind in "mM" else labels.tolist()


def _dates(labels: SomeIds) -> list[str]:
    return [spelled_time(one) for one in labels]


def _spelling(known: SomeIds, labels: SomeIds) -> Callable[[Any], str]:
    kinds = {known.dtype.kind, labels.dtype.kind}
    if kinds & set("mM"):
        return spelled_time
    if "b" in kinds and kinds & set("UO"):
        return lambda one: str(one).strip().casefold()
    return _number_spelling


def _number_spelling(label: Any) -> str:
    if isinstance(label, bool):
        return str(int(label))
    if isinstance(label, float):
        return str(int(label)) if label.is_integer() else repr(label)
    if isinstance(label, str) and (match := _NUMBER.match(label)):
        sign, digits = match.groups()
        return "-" + digits if sign == "-" and digits != "0" else digits
    return str(label)
