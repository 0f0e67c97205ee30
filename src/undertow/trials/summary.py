"""From the runs to one row for each point: means, standard errors, every theory that exists there, and z."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import special

from undertow._check import InputError
from undertow.trials.optimum import empirical_optimum, just_below_zero
from undertow.trials.panel import Panel
from undertow.trials.reference import METHODS, best_theory, theory_column, theory_optimum

METADATA = b"undertow"
ESTIMATES = ("raw", "conditional")


def collect(panels: Sequence[Panel], tables: Sequence[pa.Table], seed: int) -> pa.Table:
    """One row for each panel and point.

    Columns: panel, n_query_rows (N), train_rate, adapt_rate, runs; for each estimate its _mean, _se (standard error
    over runs), _median with the ends of its 97.5 % interval, _median_low and _median_high, and _z (distance of the
    mean from ``theory`` in standard errors, null where the mean is infinite); theory_exact, theory_leading,
    theory_next_order, theory_equivalent (null where that method does not exist); theory (the best of them),
    theory_method and theory_error (its stated relative error of the loss).
    The schema's metadata holds each panel's optima: measured ones with intervals, and theory's.
    """
    cells = pa.concat_tables(tables)
    parts, optima = [], {}
    for panel in panels:
        rows = _of_panel(cells, panel.name)
        losses = {name: _by_run(panel, rows, name) for name in ESTIMATES}
        parts.append(_points(panel, losses))
        if panel.seek_optimum:
            optima[panel.name] = {
                "swept": panel.swept,
                "theory": theory_optimum(panel),
                **{name: empirical_optimum(panel.rates, loss, seed).as_dict() for name, loss in losses.items()},
                "below_zero": just_below_zero(panel.rates, losses["conditional"]),
            }
    table = pa.concat_tables(parts)
    return table.replace_schema_metadata({METADATA: json.dumps({"optima": optima}).encode()})


def optima_of(table: pa.Table, panel: str) -> dict[str, Any]:
    """What ``collect`` stored for a panel: swept, the optima theory, raw and conditional, and below_zero.

    below_zero: the loss given the inputs at the negative rate next to 0 against that at 0 (see ``just_below_zero``).
    """
    return json.loads((table.schema.metadata or {})[METADATA])["optima"][panel]


def rows_of(table: pa.Table, panel: str) -> dict[str, np.ndarray]:
    """The panel's columns as arrays; null becomes NaN."""
    part = _of_panel(table, panel)
    return {name: part[name].to_numpy(zero_copy_only=False) for name in part.column_names}


def _of_panel(table: pa.Table, panel: str) -> pa.Table:
    return table.filter(pa.array(table["panel"].to_numpy() == panel))


def _by_run(panel: Panel, rows: pa.Table, name: str) -> np.ndarray:
    """(runs, points); rows may arrive in any order of cells."""
    points = len(panel.grid[0])
    if rows.num_rows != panel.runs * points:
        raise InputError(
            None,
            rule=f"panel {panel.name!r} has {rows.num_rows} rows: {panel.runs} runs of {points} points make "
            f"{panel.runs * points}. The cells are not those of this config.",
            way_out="Run again with overwrite.",
        )
    order = np.argsort(rows["run"].to_numpy(), kind="stable")
    return rows[name].to_numpy()[order].reshape(panel.runs, points)


def _points(panel: Panel, losses: dict[str, np.ndarray]) -> pa.Table:
    train, adapt = panel.grid
    columns: dict[str, Any] = {
        "panel": [panel.name] * train.size,
        "n_query_rows": np.full(train.size, panel.design.n_query_rows),
        "train_rate": train,
        "adapt_rate": adapt,
        "runs": np.full(train.size, panel.runs),
    }
    best, method, error = best_theory(panel)
    for name, loss in losses.items():
        mean, se = loss.mean(axis=0), loss.std(axis=0, ddof=1) / np.sqrt(panel.runs)
        low, high = median_interval(loss, 0.975)
        columns |= {f"{name}_mean": mean, f"{name}_se": se, f"{name}_median": np.median(loss, axis=0)}
        columns |= {f"{name}_median_low": low, f"{name}_median_high": high}
        columns[f"{name}_z"] = _nullable(np.where(np.isfinite(best), (mean - best) / se, np.nan))
    for name in METHODS:
        columns[f"theory_{name}"] = _nullable(theory_column(panel, name))
    columns |= {
        "theory": _nullable(best),
        "theory_method": pa.array(method, pa.string()),
        "theory_error": _nullable(error),
    }
    return pa.table(columns)


def median_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval of each column's median, (k,), from values (runs, k): order statistics, whatever the law.

    The ends are infinite where there are too few runs for this level.
    """
    runs = len(values)
    # The most values that may be left out at each end.
    cut = int((special.bdtr(np.arange(runs), runs, 0.5) <= (1 - level) / 2).sum())
    if cut == 0:
        return np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
    ordered = np.sort(values, axis=0)
    return ordered[cut - 1], ordered[runs - cut]


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)
