"""The columns that say which task a row belongs to: one, or several whose labels are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from undertow._types import Ids, RowNumbers
from undertow.tasks.columns import codes_of
from undertow.tasks.labels import plain
from undertow.tasks.source import Source


def task_names(columns: Sequence[str], task: Any) -> list[str]:
    """Return the columns that ``task`` names: a column's own name, or several parted by commas or in a list."""
    if not isinstance(task, str):
        return list(task)
    return [task] if task in columns else split_names(columns, task)


def split_names(columns: Sequence[str], text: str) -> list[str]:
    """Return the names that a text lists, parted by commas; a name that holds commas itself is found among ``columns``.

    Of parts that could be joined to a column the longest is taken, so that "a,b, c" is "a" and "b, c" where there is
    such a column. Quotes may say so too: 'a,"b, c"'.
    """
    if text in columns:
        return [text]
    if '"' in text:
        import csv

        quoted = [part.strip() for part in next(csv.reader([text], skipinitialspace=True))]
        # A quote may be part of a column's name.
        if set(quoted) <= set(columns) or not any('"' in name for name in columns):
            return quoted
    parts, found, at = text.split(","), [], 0
    known = {name.strip(): name for name in columns}
    while at < len(parts):
        for end in range(len(parts), at, -1):
            name = ",".join(parts[at:end]).strip()
            if name in known or end == at + 1:
                found.append(known.get(name, name))
                at = end
                break
    return found


def task_codes(
    opened: Source, tasks: Sequence[str], *, optional: bool = True, called: Sequence[str] | None = None
) -> tuple[RowNumbers, Ids]:
    """Return (R,) number of each row's task, -1 where it is missing, and (m,) sorted ids.

    Of several columns an id names each: "school 3, class 1"; a comma in a label is written "\\,", so that no two ids
    become one. called: what the columns are called in ids, where not by their own names.
    """
    each = [codes_of(opened.labels(name), name, "task column", optional=optional) for name in tasks]
    if len(each) == 1:
        return each[0]
    if not all(len(ids) for _, ids in each):
        return np.full(len(each[0][0]), -1), np.array([], dtype=np.str_)
    parts = [np.array([_escaped(plain(one)) for one in _listed(ids)]) for _, ids in each]
    missing = np.any([codes < 0 for codes, _ in each], axis=0)
    number = np.zeros(len(missing), dtype=np.int64)
    for codes, ids in each:
        number = number * len(ids) + codes
    found, codes = np.unique(number[~missing], return_inverse=True)
    texts = []
    for one in found.tolist():
        names = []
        for _, part in zip(each[::-1], parts[::-1], strict=True):
            one, place = divmod(one, len(part))
            names.append(str(part[place]))
        texts.append(", ".join(f"{name} {label}" for name, label in zip(called or tasks, names[::-1], strict=True)))
    order = np.argsort(np.array(texts), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    out = np.full(len(missing), -1)
    out[~missing] = rank[codes]
    return out, np.array(texts, dtype=np.str_)[order]


def _listed(ids: Ids) -> list[Any]:
    return [str(one) for one in ids] if ids.dtype.kind in "mM" else ids.tolist()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")
