"""What each held-out task gains from being adapted to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from undertow.choice.words import NO_ROWS
from undertow.report import words
from undertow.report.charts import ticks, vega
from undertow.report.figure import Entry, Figure, Table, ends_of, records
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


_TIPS = vega.tips(
    task="task",
    rows=("rows", ","),
    before=("MSE / variance before", ".4f"),
    after=("after adaptation", ".4f"),
    gain=("gain", "+.4f"),
)


def _value(values: list[dict[str, Any]], title: str, most: int) -> dict[str, Any]:
    """Encoding of the gain: linear, or compressed far out where few tasks gain many times what the others do."""
    found = np.array([one["gain"] for one in values])
    low, high = min(float(found.min()), 0.0), max(float(found.max()), 0.0)
    size = np.abs(found)
    linear, far = float(np.quantile(size, 0.75)), float(size.max())
    encoding = vega.number("gain")
    axis = {"title": title, "labelOverlap": True, "grid": True, "format": "~g"}
    if far <= 8 * linear or linear == 0:
        return encoding | {"scale": {"nice": True, "zero": True}, "axis": axis | {"tickCount": most}}
    scale = {"type": "symlog", "constant": words.data(linear / 2), "nice": False, "padding": 10}
    return encoding | {"scale": scale, "axis": axis | {"values": ticks.around_zero(low, high, linear, most // 2 + 1)}}


def _named(values: list[dict[str, Any]]) -> dict[str, Any]:
    x = _value(values, "gain (share of variance)", 4)
    # By rank and not by name: two long names may be cut to the same text.
    names = json.dumps([words.short(one["task"]) for one in values])
    axis = {"title": None, "labelExpr": f"{names}[datum.value - 1]", "labelLimit": 190, "ticks": False, "domain": False}
    sides = vega.two_sides(values, _look(80), {"x": x, "y": vega.rank("rank", axis=axis), "tooltip": _TIPS})
    return {"height": 22 * len(values), "layer": [vega.zero("gain", x=x), *sides]}


def _look(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "point", "filled": True, "opacity": 0.9, "size": size} | more


def _ranked(values: list[dict[str, Any]], m: int) -> dict[str, Any]:
    y = _value(values, "gain (share of variance)", 6)
    axis = {"title": "tasks, largest gain first", "tickCount": 6, "format": "d", "tickMinStep": 1}
    x = vega.number("rank", scale={"domain": [0, m + 1], "nice": False}, axis=axis)
    look = _look(40 if m <= 200 else 16, aria=m <= 200)
    sides = vega.two_sides(values, look, {"x": x, "y": y, "tooltip": _TIPS})
    return {"height": 280, "layer": [vega.zero("gain", y=y), *sides]}


def _table(
    names: list[str], counts: np.ndarray, before: np.ndarray, after: np.ndarray, gain: np.ndarray, task: str
) -> Table:
    m, kept = len(names), ends_of(len(names), _ROWS)
    half = _ROWS // 2
    return Table(
        "Gain of each held-out task, largest first (MSE / variance)",
        (task, "rows", "before", "after adaptation", "gain"),
        [
            (names[i], f"{counts[i]:,}", words.loss(before[i]), words.loss(after[i]), words.signed(gain[i], 3))
            for i in kept
        ],
        f"The {half} largest and the {half} least gains of {m:,} tasks." if m > _ROWS else "",
    )
