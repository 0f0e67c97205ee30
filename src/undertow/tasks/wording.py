"""Short pieces of error messages about tables: a few examples of many, row numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from undertow._types import RowFlags

_MIDNIGHT = re.compile(r" 00:00(:00)?(Z|[+-]00:?00)?$")
_FRACTION = re.compile(r"(:\d\d(?:\.\d*[1-9])?)\.?0*(?=$|Z|[+-])")
_SECONDS = re.compile(r"( \d\d:\d\d):00(?=$|Z|[+-])")


def spelled_time(value: Any) -> str:
    """Return a day or a time as text, in one way whatever its unit: without fractions and seconds that are 0."""
    text = str(value).strip().replace("T", " ")
    return _SECONDS.sub(r"\1", _MIDNIGHT.sub("", _FRACTION.sub(r"\1", text)))


def some(values: Sequence[Any] | np.ndarray, limit: int = 5) -> str:
    """Return the first ``limit`` values, separated by commas, with an ellipsis where there are more."""
    shown = [
        spelled_time(value)
        if isinstance(value, np.datetime64)
        else value.item()
        if isinstance(value, np.generic)
        else value
        for value in values[:limit]
    ]
    return ", ".join(map(repr, shown)) + (", ..." if len(values) > limit else "")


def at_rows(bad: RowFlags) -> str:
    """Return "in 7 of 90 rows (rows 1, 4, ...; counted from 0)" for a boolean array over rows."""
    return f"in {bad.sum()} of {len(bad)} rows ({which_rows(bad)})"


def which_rows(bad: RowFlags) -> str:
    """Return "rows 1, 4, ...; counted from 0" for a boolean array over rows."""
    rows = np.flatnonzero(bad)
    return f"{row_or_rows(len(rows))} {some(rows)}; counted from 0"


def missing_counts(flags: dict[str, np.ndarray]) -> dict[str, int]:
    """Return in how many rows each column, by its name in quotes, is missing."""
    return {repr(name): int(one.sum()) for name, one in flags.items()}


def in_words(counts: dict[str, int], limit: int = 6) -> str:
    """Return "'temp' in 8 rows, target 'price' in 4 rows": counts of missing values, most first."""
    order = sorted(counts.items(), key=lambda one: -one[1])
    shown = ", ".join(f"{what} in {n} {row_or_rows(n)}" for what, n in order[:limit])
    return shown + (f", and {len(order) - limit} more columns" if len(order) > limit else "")


def also(counts: dict[str, int]) -> str:
    """Return the counts of all columns in brackets where there are several."""
    return f" (by column: {in_words(counts)})" if len(counts) > 1 else ""


def row_or_rows(n: int) -> str:
    """Return the word for so many rows."""
    return "row" if n == 1 else "rows"
