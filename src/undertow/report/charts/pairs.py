"""Two rivals task by task: the loss of one against the loss of the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow.report import words
from undertow.report.charts import ticks, vega
from undertow.report.figure import Entry, Figure, Table, ends_of, records

_ROWS = 200
_MANY = 400


def pairs(
    first: np.ndarray,
    second: np.ndarray,
    names: tuple[str, str],
    task_ids: np.ndarray,
    rows: np.ndarray,
    task: str,
) -> Figure:
    """Figure of MSE / variance (m,) of two rivals, a dot for each task.

    names: of the rivals. task_ids, rows: (m,) name and number of rows of each task. task: what the column is called.
    """
    m = len(first)
    better, same = int((first < second).sum()), int((first == second).sum())
    tasks = [str(one) for one in task_ids]
    low, high = float(min(first.min(), second.min())), float(max(first.max(), second.max()))
    logarithmic = low > 0 and high > 20 * low
    if logarithmic:
        ends = words.data([low / 1.15, high * 1.15])
        scale = {"type": "log", "domain": ends, "nice": False}
        axis: dict[str, Any] = {"values": ticks.logarithmic(ends[0], ends[1], 7), "format": "~g"}
    else:
        room = 0.04 * (high - low) or 0.05 * (high or 1.0)
        ends = words.data([max(0.0, low - room), high + room])
        scale, axis = {"domain": ends, "nice": False, "zero": False}, {"tickCount": 6}
    axis = axis | {"grid": True, "labelOverlap": True}
    y, x = (
        vega.number(field, scale=scale, axis=axis | {"title": name if len(name) <= 48 else f"{name[:47]}…"})
        for field, name in zip(("first", "second"), names, strict=True)
    )
    values = records(first=first, second=second, task=tasks, rows=rows, gain=second - first)
    tips = vega.tips(task="task", rows=("rows", ","), first=(names[0], ".4f"), second=(names[1], ".4f"))
    look = {"type": "point", "filled": True, "opacity": 0.85, "size": 45 if m <= _MANY else 18, "aria": m <= _MANY}
    equal = [{"first": end, "second": end} for end in ends]
    layers = [
        vega.layer(equal, {"type": "line", "style": "zero", "aria": False}, {"x": x, "y": y}),
        *vega.two_sides(values, look, {"x": x, "y": y, "tooltip": tips}),
    ]
    return Figure(
        name="pairs",
        title=f"Each task: {names[0]} against {names[1]}",
        spec={"height": 400, "layer": layers},
        summary=(
            f"Scatter chart of mean squared error over variance of {words.count(m, 'task')}. {names[0]} has the lower "
            f"error in {better:,}, {names[1]} in {m - better - same:,}."
        ),
        legend=(
            Entry("blue", "dot", f"{names[0]} is better"),
            Entry("orange", "dot", f"{names[1]} is as good or better"),
            Entry("grey", "line", "equal error"),
        ),
        note="Mean squared error over the target's variance" + (", on logarithmic axes." if logarithmic else "."),
        table=_table(tasks, rows, first, second, names, task),
    )


def _table(
    tasks: list[str], rows: np.ndarray, first: np.ndarray, second: np.ndarray, names: tuple[str, str], task: str
) -> Table:
    gain = second - first
    order = np.argsort(gain, kind="stable")[::-1][ends_of(len(gain), _ROWS)]
    note = f"The {_ROWS // 2} tasks at either end of {len(gain):,}." if len(gain) > _ROWS else ""
    body = [
        (tasks[i], f"{int(rows[i]):,}", words.loss(first[i]), words.loss(second[i]), words.signed(gain[i], 3))
        for i in order
    ]
    return Table(
        f"MSE / variance of each task, largest advantage of {names[0]} first",
        (task, "rows", names[0], names[1], "difference"),
        body,
        note,
    )
