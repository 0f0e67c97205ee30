"""Pieces of Vega-Lite specifications that the charts share."""

from __future__ import annotations

from typing import Any

from undertow.report.charts import ticks

Piece = dict[str, Any]


def number(field: str, **more: Any) -> Piece:
    """Encoding of a number by a channel."""
    return {"field": field, "type": "quantitative"} | more


def logarithmic(field: str, title: str, ends: list[float]) -> Piece:
    """Encoding of a positive number on a logarithmic axis between two ends."""
    axis = {
        "title": title,
        "values": ticks.logarithmic(ends[0], ends[1]),
        "format": "~g",
        "grid": True,
        "labelOverlap": True,
    }
    return number(field, scale={"type": "log", "domain": ends, "nice": False}, axis=axis)


def rank(field: str, **more: Any) -> Piece:
    """Encoding of things in their order by a channel."""
    return {"field": field, "type": "ordinal"} | more


def tips(**each: tuple[str, str] | str) -> list[Piece]:
    """What the pointer shows, line by line: field -> its title, or the title and the format of a number."""
    return [
        {"field": field, "title": said, "type": "nominal"}
        if isinstance(said, str)
        else number(field, title=said[0], format=said[1])
        for field, said in each.items()
    ]


def layer(values: list[Any], mark: Piece, encoding: Piece, **more: Any) -> Piece:
    """A layer of marks of one kind with data of its own."""
    return {"data": {"values": values}, "mark": mark, "encoding": encoding} | more


def dots(style: str, size: int, **more: Any) -> Piece:
    """Mark of filled points."""
    return {"type": "point", "filled": True, "opacity": 1, "style": style, "size": size} | more


def zero(field: str, **encoding: Piece) -> Piece:
    """A layer that marks 0. encoding: of the axis, x or y, that ``field`` is on."""
    return layer([{field: 0}], {"type": "rule", "style": "zero", "aria": False}, encoding)


def two_sides(values: list[Piece], mark: Piece, encoding: Piece) -> list[Piece]:
    """Layers of points that gain and of those that do not, each with its colour."""
    return [
        layer(values, mark | {"style": style}, encoding, transform=[{"filter": f"datum.gain {side}"}])
        for side, style in (("> 0", "blue"), ("<= 0", "orange"))
    ]
