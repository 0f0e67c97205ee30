"""How many rows the tasks have."""

from __future__ import annotations

import numpy as np

from undertow.report import words
from undertow.report.charts import vega
from undertow.report.figure import Figure, Table, records


def rows(counts: np.ndarray) -> Figure | None:
    """Figure of the number of tasks by number of rows (m,); None where all tasks have the same."""
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return None
    # Whole numbers of rows in each bin, and at most 24 bins.
    width = max(1, -(-(high - low + 1) // 24))
    edges = np.arange(low, high + width + 1, width)
    tasks = np.histogram(counts, edges)[0]
    names = [f"{a:,}" if width == 1 else f"{a:,} to {a + width - 1:,}" for a in edges[:-1]]
    first = edges[:-1] - 0.5
    values = records(first=first, last=first + width, tasks=tasks, name=names)
    scale = {"domain": [float(first[0]), float(first[-1] + width)], "nice": False, "zero": False}
    axis = {"title": "rows", "tickCount": 8, "format": "~d", "tickMinStep": 1}
    return Figure(
        name="rows",
        title="Rows of a task",
        spec={
            "height": 180,
            "data": {"values": values},
            "mark": {"type": "bar", "style": "blue", "binSpacing": 1},
            "encoding": {
                "x": vega.number("first", bin={"binned": True}, scale=scale, axis=axis),
                "x2": {"field": "last"},
                "y": vega.number("tasks", axis={"title": "tasks", "tickCount": 4, "tickMinStep": 1, "format": "d"}),
                "tooltip": vega.tips(name="rows", tasks=("tasks", ",")),
            },
        },
        summary=(
            f"Histogram of the number of rows of {words.count(len(counts), 'task')}: {low:,} to {high:,}, "
            f"median {np.median(counts):g}."
        ),
        table=Table(
            "Tasks by number of rows",
            ("rows", "tasks"),
            [(name, f"{n:,}") for name, n in zip(names, tasks, strict=True) if n],
        ),
    )
