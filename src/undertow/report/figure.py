"""What a page is made of: tables, key figures, and charts with their words and their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from undertow.report import words

STAR = (
    "M0,-1L0.235,-0.324L0.951,-0.309L0.38,0.124L0.588,0.809L0,0.4L-0.588,0.809L-0.38,0.124L-0.951,-0.309L-0.235,-0.324Z"
)
"""path of a five-pointed star, as a mark's shape"""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first cell of a row is its heading."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    words: tuple[int, ...] = (0,)
    """which columns hold words and not numbers"""


class Key(NamedTuple):
    """A key figure of the first screen."""

    name: str
    value: str
    note: str


class Entry(NamedTuple):
    """One line of a chart's legend."""

    style: str
    """style of the theme, which gives the colour"""
    shape: str
    """how it is drawn: line, area, dot, star, rule"""
    words: str


@dataclass(frozen=True)
class Figure:
    """A chart: a Vega-Lite specification, and what is said around it."""

    name: str
    """identifier in the page"""
    title: str
    spec: dict[str, Any]
    summary: str
    """what the chart shows, for those who do not see it"""
    table: Table
    """its data"""
    legend: tuple[Entry, ...] = ()
    note: str = ""
    """what must be known to read it"""

    def spec_of_page(self) -> dict[str, Any]:
        """The specification with what all charts have: the width of the page, and the summary."""
        base = {
            "description": self.summary,
            "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"},
        }
        return base | self.spec


def records(**columns: Any) -> list[dict[str, Any]]:
    """Rows of equally long columns, as a chart's data: numbers rounded, those that are not finite left empty."""
    plain = {
        name: words.data(values) if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" else list(values)
        for name, values in columns.items()
    }
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def evenly(n: int, most: int) -> np.ndarray:
    """At most ``most`` of the positions 0 to n - 1, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def ends_of(n: int, most: int) -> np.ndarray:
    """The positions 0 to n - 1; where there are more than ``most``, half of that at either end."""
    place = np.arange(n)
    return place if n <= most else np.concatenate([place[: most // 2], place[-(most // 2) :]])
