"""Short pieces of error messages about tables: a few examples of many, a near miss, row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from undertow._types import RowFlags


def some(values: Sequence[Any] | np.ndarray, limit: int = 5) -> str:
    """Return the first ``limit`` values, separated by commas, with an ellipsis where there are more."""
    shown = [value.item() if isinstance(value, np.generic) else value for value in values[:limit]]
    return ", ".join(map(repr, shown)) + (", ..." if len(values) > limit else "")


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """Return a hint such as " Did you mean 'score'?", or nothing where no name is near."""
    lowered = {candidate.lower(): candidate for candidate in names}
    near = get_close_matches(name.lower(), list(lowered), n=1)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def at_rows(bad: RowFlags) -> str:
    """Return "in 7 of 90 rows (rows 1, 4, ...; counted from 0)" for a boolean array over rows."""
    rows = np.flatnonzero(bad)
    which = "row" if len(rows) == 1 else "rows"
    return f"in {len(rows)} of {len(bad)} rows ({which} {some(rows)}; counted from 0)"
