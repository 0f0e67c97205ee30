"""Each task's stable interval: steps at rates between 0 and 2/lambda_max shrink the error along every direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from undertow.report import words
from undertow.report.charts import vega
from undertow.report.figure import Entry, Figure, Table, evenly, records

_MANY = 200


class Stability(NamedTuple):
    """The figure, and how many tasks are stable at the chosen adapt rate."""

    figure: Figure
    n_stable: int
    n_tasks: int
    n_unlimited: int
    """tasks whose support rows are all 0: any rate is stable"""


def stable_rates(
    limits: np.ndarray, scale: float, adapt_rate: float, task_ids: np.ndarray, rows: np.ndarray, task: str
) -> Stability | None:
    """Figure of the limits (m,), raw, in spectral units, with the adapt rate (spectral) marked; None without any.

    task_ids, rows: (m,) name and number of rows of each task. task: what the task column is called.
    """
    spectral = np.asarray(limits, dtype=np.float64) / scale
    known = np.isfinite(spectral) & (spectral > 0)
    if not known.any():
        return None
    order = np.flatnonzero(known)[np.argsort(spectral[known], kind="stable")]
    values = spectral[order]
    m = len(values)
    names, counts = [str(one) for one in task_ids[order]], rows[order]
    level = 100 * np.arange(1, m + 1) / m
    n_stable = int((np.asarray(limits) / scale > adapt_rate).sum()) if adapt_rate > 0 else 0
    ends = words.data(_ends(values, adapt_rate))
    x = vega.logarithmic("limit", "largest stable rate, in units of 1/λmax", ends)
    y = vega.number(
        "level", scale={"domain": [0, 100]}, axis={"title": "tasks with a limit up to here, %", "tickCount": 5}
    )
    tips = vega.tips(task="task", rows=("rows", ","), limit=("largest stable rate (spectral)", ".3~f"))
    look = vega.dots("blue", 45 if m <= _MANY else 18, opacity=0.8, aria=False)
    tasks = records(limit=values, level=level, task=names, rows=counts)
    layers, legend = [vega.layer(tasks, look, {"x": x, "y": y, "tooltip": tips})], [Entry("blue", "dot", "a task")]
    if adapt_rate > 0:
        chosen = {"type": "rule", "style": "orange", "strokeWidth": 2}
        layers.append(vega.layer([{"limit": words.data(adapt_rate)}], chosen, {"x": x}))
        legend.append(Entry("orange", "rule", f"chosen adapt rate, {words.rate(adapt_rate)}"))
    figure = Figure(
        name="stability",
        title="Largest stable rate of each task",
        spec={"height": 240, "layer": layers},
        summary=(
            f"Cumulative dot chart of the largest stable rate of {words.count(m, 'task')}, in spectral units: from "
            f"{words.number(values[0])} to {words.number(values[-1])}, median {words.number(np.median(values))}."
        ),
        legend=tuple(legend),
        note="In order of the limit, on a logarithmic axis. Steps overshoot in a task left of the line.",
        table=_table(names, counts, values, task),
    )
    return Stability(figure, n_stable, len(limits), int(np.isposinf(spectral).sum()))


def _ends(values: np.ndarray, adapt_rate: float) -> np.ndarray:
    low, high = values[0], values[-1]
    if adapt_rate > 0:
        low, high = min(low, adapt_rate), max(high, adapt_rate)
    room = max((high / low) ** 0.04, 1.05)
    return np.array([low / room, high * room])


def _table(names: list[str], counts: np.ndarray, values: np.ndarray, task: str) -> Table:
    kept = evenly(len(values), _MANY)
    note = "" if len(kept) == len(values) else f"{len(kept)} of {len(values):,} tasks, evenly spread in this order."
    return Table(
        "Largest stable rate of each task, least first",
        (task, "rows", "largest stable rate (spectral)"),
        [(names[i], f"{counts[i]:,}", words.number(values[i])) for i in kept],
        note,
    )
