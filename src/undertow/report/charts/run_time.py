"""How long the rivals took."""

from __future__ import annotations

import numpy as np

from undertow.report import words
from undertow.report.charts import vega
from undertow.report.charts.intervals import axis_of_names
from undertow.report.figure import Entry, Figure, Table, records


def run_time(labels: list[str], fit: np.ndarray, adapt: np.ndarray) -> Figure | None:
    """Figure of seconds (c,) to fit and to adapt, on a logarithmic axis; None where no time is positive."""
    both = np.concatenate([fit, adapt])
    known = both[np.isfinite(both) & (both > 0)]
    if not known.size:
        return None
    ends = words.data([float(known.min()) / 1.5, float(known.max()) * 1.5])
    order = np.argsort(fit, kind="stable")
    names = [labels[i] for i in order]
    x = vega.logarithmic("seconds", "seconds, logarithmic", ends)
    y = vega.rank("rank", scale={"domain": list(range(len(names)))}, axis=axis_of_names(names))
    tips = vega.tips(label="strategy", kind="what", seconds=("seconds", ".3~g"))
    layers = []
    for kind, seconds, style, shape in (("fit", fit, "blue", "circle"), ("adapt", adapt, "orange", "diamond")):
        rows = [
            row | {"kind": kind, "label": names[row["rank"]]}
            for row in records(rank=list(range(len(names))), seconds=seconds[order])
            if row["seconds"]
        ]
        layers.append(vega.layer(rows, vega.dots(style, 80, shape=shape), {"x": x, "y": y, "tooltip": tips}))
    rows = [(labels[i], words.number(fit[i]), words.number(adapt[i])) for i in order]
    return Figure(
        name="run_time",
        title="Seconds to fit and to adapt",
        spec={"height": 38 * len(names), "layer": layers},
        summary="Dot chart of run times: "
        + "; ".join(f"{name} {a} s to fit, {b} s to adapt" for name, a, b in rows)
        + ".",
        legend=(
            Entry("blue", "dot", "one fit with its tuning, mean over folds"),
            Entry("orange", "diamond", "to adapt to a fold's tasks and predict them, mean over folds"),
        ),
        note="On the machine where it was run: read differences of a factor, not of per cent.",
        table=Table("Run times in seconds", ("strategy", "fit", "adapt"), rows),
    )
