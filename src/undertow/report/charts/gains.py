"""What each held-out task gains from being adapted to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from undertow.choice.words import NO_ROWS
from undertow.report import words
from undertow.report.charts import ticks
from undertow.report.figure import Entry, Figure, Table, records
from undertow.tasks.losses import TaskLosses

_FEW = 24
"""up to so many tasks are named on the axis"""
_ROWS = 200
"""and up to so many are all in the table"""


def gains(found: TaskLosses, strategy: str, rows: np.ndarray, task: str) -> Figure:
    """Figure of the loss under common weights minus that after adaptation, as a share of the target's variance.

    rows: (m,) number of rows of each task of ``found``. task: what the task column is called.
    """
    gain = found.gains(strategy)
    order = np.argsort(gain, kind="stable")[::-1]
    gain = gain[order]
    before, after = found.of(NO_ROWS)[order], found.of(strategy)[order]
    names, counts, m = [str(one) for one in found.task_ids[order]], rows[order], len(gain)
    better = int((gain > 0).sum())
    values = records(gain=gain, before=before, after=after, task=names, rows=counts, rank=np.arange(1, m + 1))
    spec = _named(values) if m <= _FEW else _ranked(values, m)
    compressed = "symlog" in json.dumps(spec["layer"][-1]["encoding"])
    return Figure(
        name="gains",
        title="What each held-out task gains from adaptation",
        spec=spec,
        summary=(
            f"Chart of the gain of each of {words.count(m, 'held-out task')}: {better} gain, {m - better} do not. The "
            f"largest gain is {words.signed(gain[0], 3)}, the largest loss "
            f"{words.signed(gain[-1], 3) if gain[-1] < 0 else 'none'}, the median "
            f"{words.signed(float(np.median(gain)), 3)}, as shares of the target's variance."
        ),
        legend=(Entry("blue", "dot", "the task gains"), Entry("orange", "dot", "the task loses")),
        note=(
            f"Gain: mean squared error with {words.strategy(NO_ROWS)}, minus that with the strategy used "
            f"({words.strategy(strategy)}), over the target's variance."
            + (" The axis is linear near 0 and compressed further out." if compressed else "")
        ),
        table=_table(names, counts, before, after, gain, task),
    )


def _tips() -> dict[str, Any]:
    return {
        "tooltip": [
            {"field": "task", "title": "task", "type": "nominal"},
            {"field": "rows", "title": "rows", "type": "quantitative", "format": ","},
            {"field": "before", "title": "MSE / variance before", "type": "quantitative", "format": ".4f"},
            {"field": "after", "title": "after adaptation", "type": "quantitative", "format": ".4f"},
            {"field": "gain", "title": "gain", "type": "quantitative", "format": "+.4f"},
        ],
    }


def _value(values: list[dict[str, Any]], title: str, most: int) -> dict[str, Any]:
    """Encoding of the gain: linear, or compressed far out where few tasks gain many times what the others do."""
    found = np.array([one["gain"] for one in values])
    low, high = min(float(found.min()), 0.0), max(float(found.max()), 0.0)
    size = np.abs(found)
    linear, far = float(np.quantile(size, 0.75)), float(size.max())
    encoding = {"field": "gain", "type": "quantitative"}
    axis = {"title": title, "labelOverlap": True, "grid": True, "format": "~g"}
    if far <= 8 * linear or linear == 0:
        return encoding | {"scale": {"nice": True, "zero": True}, "axis": axis | {"tickCount": most}}
    scale = {"type": "symlog", "constant": words.data(linear / 2), "nice": False, "padding": 10}
    return encoding | {"scale": scale, "axis": axis | {"values": ticks.around_zero(low, high, linear, most // 2 + 1)}}


def _layers(values: list[dict[str, Any]], mark: dict[str, Any], encoding: dict[str, Any]) -> list[dict[str, Any]]:
    """Tasks that gain and tasks that lose, each with its colour."""
    return [
        {
            "data": {"values": values},
            "transform": [{"filter": f"datum.gain {side}"}],
            "mark": {"type": "point", "filled": True, "opacity": 0.9, "style": style} | mark,
            "encoding": encoding,
        }
        for side, style in (("> 0", "blue"), ("<= 0", "orange"))
    ]


def _named(values: list[dict[str, Any]]) -> dict[str, Any]:
    x = _value(values, "gain (share of variance)", 4)
    # By rank and not by name: two long names may be cut to the same text.
    y = {
        "field": "rank",
        "type": "ordinal",
        "axis": {
            "title": None,
            "labelExpr": f"{_names(values)}[datum.value - 1]",
            "labelLimit": 190,
            "ticks": False,
            "domain": False,
        },
    }
    zero = {
        "data": {"values": [{"gain": 0}]},
        "mark": {"type": "rule", "style": "zero", "aria": False},
        "encoding": {"x": x},
    }
    encoding = {"x": x, "y": y} | _tips()
    return {"height": 22 * len(values), "layer": [zero, *_layers(values, {"size": 80}, encoding)]}


def _names(values: list[dict[str, Any]]) -> str:
    return json.dumps([words.short(one["task"]) for one in values])


def _ranked(values: list[dict[str, Any]], m: int) -> dict[str, Any]:
    y = _value(values, "gain (share of variance)", 6)
    x = {
        "field": "rank",
        "type": "quantitative",
        "scale": {"domain": [0, m + 1], "nice": False},
        "axis": {"title": "tasks, largest gain first", "tickCount": 6, "format": "d", "tickMinStep": 1},
    }
    zero = {
        "data": {"values": [{"gain": 0}]},
        "mark": {"type": "rule", "style": "zero", "aria": False},
        "encoding": {"y": y},
    }
    look = {"size": 40 if m <= 200 else 16, "aria": m <= 200}
    return {"height": 280, "layer": [zero, *_layers(values, look, {"x": x, "y": y} | _tips())]}


def _table(
    names: list[str], counts: np.ndarray, before: np.ndarray, after: np.ndarray, gain: np.ndarray, task: str
) -> Table:
    m = len(names)
    kept, note = range(m), ""
    if m > _ROWS:
        half = _ROWS // 2
        kept = [*range(half), *range(m - half, m)]
        note = f"The {half} largest and the {half} least gains of {m:,} tasks."
    return Table(
        "Gain of each held-out task, largest first (MSE / variance)",
        (task, "rows", "before", "after adaptation", "gain"),
        [
            (names[i], f"{counts[i]:,}", words.loss(before[i]), words.loss(after[i]), words.signed(gain[i], 3))
            for i in kept
        ],
        note,
    )
