"""Columns that say something of rows and are no features: weights, moments in time, numbers of the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from undertow._check import InputError
from undertow._types import Numbers
from undertow.tasks.columns import numbers
from undertow.tasks.reading import Reading
from undertow.tasks.source import Source
from undertow.tasks.wording import at_rows

# Of fewer rows a feature may count by chance.
_MANY = 20
# Codes are numbers of as many digits each, from so many on; numbers of four digits in this range are years.
_DIGITS, _YEARS = 4, (1500, 2200)


def row_weights(opened: Source, name: str) -> np.ndarray:
    """Return a column of weights (R,); NaN where one is missing. Raises InputError where one is negative."""
    opened.require(name, "weights")
    found = numbers(opened.fetch([name])[0], name, "weights", "Use a column of numbers.", decimal=opened.decimal).values
    if (found < 0).any():
        rule = f"it is {np.nanmin(found):g} {at_rows(found < 0)}: a weight cannot be negative."
        raise InputError("weights", name, rule, "Name a column of numbers from 0 on.")
    return found


def weighted(kept: Numbers, weights: np.ndarray, reading: Reading, said: list[str]) -> Numbers:
    """Return the rows that have a weight above 0, and say what weights are."""
    counted = kept[weights[kept] > 0]
    if not len(counted):
        raise InputError("weights", reading.weights, "all weights are 0: no row is left.")
    n = len(kept) - len(counted)
    none = f"; {n} {'row' if n == 1 else 'rows'} of weight 0 left out" if n else ""
    copies = f"copies of rows, {weights[counted].sum():,.6g} in all"
    kind = copies if reading.weights_are == "frequency" else "precisions, of which only ratios count"
    said.append(f"rows weighted by {reading.weights}: {kind}{none}")
    return counted


def moments_in_time(opened: Source, name: str, role: str = "order") -> np.ndarray:
    """Return the column of numbers or dates that rows or tasks are put in order by, (R,); NaN where it is missing."""
    opened.require(name, role)
    column = opened.fetch([name])[0]
    way_out = "Use a column of dates or numbers."
    return numbers(column, name, role, way_out, decimal=opened.decimal, dates=True).values


def said_row_numbers(x: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return a note for each feature of x (R, p) that is one more in each row than in the row before."""
    n = len(x)
    if n < _MANY:
        return []
    likely = np.flatnonzero(x[-1] - x[0] == n - 1).tolist()
    return [
        f"{names[j]!r} numbers the rows ({x[0, j]:g} to {x[-1, j]:g}) and is used as a feature; if it is an id, name "
        "the features without it"
        for j in likely
        if (np.diff(x[:, j]) == 1).all()
    ]


def said_codes(opened: Source, x: np.ndarray, names: Sequence[str], dates: Sequence[str]) -> list[str]:
    """Return a note for each feature of x (R, p) that may hold codes, such as postal ones, and is used as a number.

    These are whole numbers that a text file writes with leading zeros, and those of as many digits each that repeat.
    dates: features that are dates, and no codes.
    """
    padded = {} if opened.text is None else opened.text.padded
    found = {}
    for j, name in enumerate(names):
        if name in padded:
            found[name] = padded[name]
        elif name not in dates and len(values := _repeating_codes(x[:, j])):
            found[name] = f"{values[0]:.0f}"
    return [
        f"{name!r} may hold codes (such as {one}) and is used as a number; if it does, name it as categorical, or name "
        "the features without it"
        for name, one in found.items()
    ]


def _repeating_codes(values: np.ndarray) -> np.ndarray:
    """The distinct values of a feature (R,) where they may be codes; empty where they are numbers."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    years = low >= _YEARS[0] and high <= _YEARS[1]
    if not 10 ** (_DIGITS - 1) <= low < high < 1e15 or years or int(math.log10(low)) != int(math.log10(high)):
        return np.empty(0)
    distinct = np.unique(values[~np.isnan(values)])
    return distinct if 2 < len(distinct) <= len(values) / 5 and (distinct % 1 == 0).all() else np.empty(0)
