"""Estimates with intervals, one line for each rival."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from undertow.report import words
from undertow.report.charts import vega
from undertow.report.figure import Entry, Table, records


def intervals(
    labels: Sequence[str],
    estimates: Sequence[float],
    ends: Sequence[tuple[float, float]],
    said: Sequence[str],
    *,
    axis: str,
    tip: str,
    zero: bool = True,
    marked: int | None = None,
) -> dict[str, Any]:
    """Specification of a dot and a line for each of the labels (k,), from top to bottom.

    said: (k,) the figures in words, for the hover; tip: what they are. zero: whether a line marks 0.
    marked: position of the one that is drawn in another colour.
    """
    order = list(range(len(labels)))
    values = records(
        rank=order,
        label=list(labels),
        said=list(said),
        value=np.array(estimates, dtype=np.float64),
        low=np.array([end[0] for end in ends], dtype=np.float64),
        high=np.array([end[1] for end in ends], dtype=np.float64),
    )
    of_axis = {"title": axis, "grid": True, "tickCount": 7, "labelOverlap": True}
    x = vega.number("value", scale={"zero": zero}, axis=of_axis)
    # By rank and not by name: two rivals may have the same label.
    # All ranks are named: layers of single rows would put theirs first.
    y = vega.rank("rank", scale={"domain": order}, axis=axis_of_names(labels))
    of_row: vega.Piece = {"y": y, "tooltip": vega.tips(label="strategy", said=tip)}
    layers = [vega.zero("value", x=x)] if zero else []
    for style, rows in _groups(values, marked):
        line = {"type": "rule", "style": style, "strokeWidth": 2}
        layers.append(vega.layer(rows, line, {"x": x | {"field": "low"}, "x2": {"field": "high"}, **of_row}))
        layers.append(vega.layer(rows, vega.dots(style, 80), {"x": x, **of_row}))
    return {"height": 38 * len(order), "layer": layers}


def gained(
    others: Sequence[str],
    percents: Sequence[tuple[float, float, float]],
    kind: str,
    what: str,
    caption: str,
    verdicts: Sequence[str] = (),
) -> dict[str, Any]:
    """Specification, summary, legend and table of the gains over others: estimates and intervals in per cent.

    kind: level of the intervals, in words. what, caption: of the chart and of the table. verdicts: a column of these.
    """
    said = [f"{words.percent(mid)} ({words.between(low, high)})" for mid, low, high in percents]
    mids, ends = [mid for mid, _, _ in percents], [(low, high) for _, low, high in percents]
    tip, axis = f"gain ({kind} interval)", "lower mean squared error, %"
    body = [(one, *map(words.percent, values)) for one, values in zip(others, percents, strict=True)]
    columns: tuple[str, ...] = ("over", "gain", "from", "to")
    if verdicts:
        body, columns = [(*row, one) for row, one in zip(body, verdicts, strict=True)], (*columns, "verdict")
    return {
        "spec": intervals(others, mids, ends, said, axis=axis, tip=tip),
        "summary": f"{what}: {'; '.join(f'over {one} {text}' for one, text in zip(others, said, strict=True))}.",
        "legend": (Entry("blue", "line", f"gain with its {kind} interval, paired by task"),),
        "table": Table(caption, columns, body, words=(0, 4) if verdicts else (0,)),
    }


def _groups(values: list[dict[str, Any]], marked: int | None) -> list[tuple[str, list[dict[str, Any]]]]:
    others = [row for i, row in enumerate(values) if i != marked]
    groups = [("blue", others)] if others else []
    return groups if marked is None else [*groups, ("orange", [values[marked]])]


def axis_of_names(labels: Sequence[str]) -> dict[str, Any]:
    """An axis of names for ranks 0, 1, ...; each name is broken into lines at its commas."""
    name = f"{json.dumps([words.short(label, 48) for label in labels])}[datum.value]"
    return {
        "title": None,
        "labelExpr": f"split({name}, ', ')",
        # Lines hang below the tick; the first of two belongs above it.
        "labelOffset": {"condition": {"test": f"indexof({name}, ', ') >= 0", "value": -7}, "value": 0},
        "labelLimit": 160,
        "grid": True,
        "ticks": False,
        "domain": False,
    }
