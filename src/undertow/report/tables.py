"""Tables that both reports have: the data, the settings, the versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._version import __version__
from undertow.report import words
from undertow.report.figure import Table
from undertow.tasks import GroupedTable, Standard

FEATURES = 200
"""Most columns that a table lists."""


def data(raw: GroupedTable, standard: Standard | None) -> Table:
    """The table that was read, in figures."""
    counts = raw.counts
    rows = [
        ("tasks", f"{raw.n_tasks:,} (column {raw.task})"),
        ("rows", f"{raw.n_rows:,}"),
        ("rows of a task", _spread(counts)),
        ("features", f"{raw.n_features:,}"),
        ("target", raw.target),
        ("target, mean", words.number(float(raw.y.mean()), 4)),
        ("target, standard deviation", words.number(float(np.std(raw.y)), 4)),
        ("tasks left out for too few rows", f"{raw.n_left_out:,}"),
    ]
    if standard is not None:
        rows.append(("feature values clipped", _clipped(standard, raw)))
    return Table("The data", ("", "value"), rows, words=(0, 1))


def features(raw: GroupedTable, standard: Standard | None) -> Table:
    """Features with mean, spread and the number of clipped values."""
    mean, std = raw.x.mean(axis=0), raw.x.std(axis=0)
    clipped = None if standard is None else standard.clipped(raw.x)
    rows = [
        (name, words.number(float(mean[i]), 4), words.number(float(std[i]), 4))
        + (() if clipped is None else (f"{clipped[i]:,}",))
        for i, name in enumerate(raw.feature_names[:FEATURES])
    ]
    columns = ("feature", "mean", "standard deviation", *(() if clipped is None else ("values clipped",)))
    left = raw.n_features - len(rows)
    return Table("Features", columns, rows, f"{left:,} more features are not listed." if left else "")


def settings(values: Mapping[str, Any]) -> Table:
    """The settings of a run, as they were given."""
    return Table("Settings", ("setting", "value"), [(str(k), words.plain(v)) for k, v in values.items()], words=(0, 1))


def versions(*others: str) -> Table:
    """Versions of what computed the figures and drew the charts; ``others`` where they are installed."""
    rows = [("undertow", __version__), ("Python", platform.python_version())]
    for name in ("numpy", "scipy", "scikit-learn", *others, "vl-convert-python"):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return Table("Versions", ("package", "version"), rows, words=(0, 1))


def rows_of(raw: GroupedTable, task_ids: np.ndarray, what: str) -> np.ndarray:
    """Number of rows (k,) of some tasks of the table. Raises InputError, saying ``what`` has others, where it has."""
    place = {task: i for i, task in enumerate(raw.ids.tolist())}
    tasks = np.asarray(task_ids).tolist()
    missing = [task for task in tasks if task not in place]
    if missing:
        rule = f"{what} other tasks than the table's, first {missing[0]!r}."
        raise InputError(None, rule=rule, way_out="Give the table that was used.")
    return raw.counts[[place[task] for task in tasks]]


def _spread(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,} in each" if low == high else f"{low:,} to {high:,}, median {np.median(counts):g}"


def _clipped(standard: Standard, raw: GroupedTable) -> str:
    if np.isinf(standard.clip):
        return "no limit was set"
    n = int(standard.clipped(raw.x).sum())
    part = f", {words.share(n / raw.x.size)} of all" if n else ""
    return f"{n:,} at {standard.clip:g} standard deviations{part}"
