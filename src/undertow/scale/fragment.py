"""Whole tasks that lie together in a sorted file, and how they are read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from undertow._check import InputError
from undertow.tasks import GroupedTable
from undertow.tasks.columns import codes_of


class Fragment(NamedTuple):
    """Whole tasks that lie together in a sorted file."""

    file: str
    start: int
    """first row"""
    stop: int
    """row after the last"""
    first_task: int
    n_tasks: int
    columns: tuple[int, ...]
    """numbers of the feature columns"""
    names: tuple[str, ...]
    """of these columns, and of task and target, for messages"""


def read_fragment(fragment: Fragment) -> GroupedTable:
    """Return the rows of a fragment, numbered as in the source, files one after the other.

    Raises InputError with the row of the source where a value is not finite.
    """
    *features, task, target = fragment.names
    names = ["t", "r", "y", *(f"x{j}" for j in fragment.columns)]
    with pq.ParquetFile(fragment.file) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        first, last = np.searchsorted(starts, [fragment.start, fragment.stop - 1], side="right") - 1
        read = file.read_row_groups(list(range(first, last + 1)), columns=names, use_threads=False)
    read = read.slice(fragment.start - int(starts[first]), fragment.stop - fragment.start)
    codes, ids = codes_of(read.column("t"), task, "task column")
    numbers = read.column("r").to_numpy()
    x = np.empty((len(numbers), len(features)))
    for j, column in enumerate(fragment.columns):
        x[:, j] = read.column(f"x{column}").to_numpy()
    y = read.column("y").to_numpy()
    for values, name, role in ((y, target, "target"), *zip(x.T, features, ["feature"] * len(features), strict=True)):
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):
                continue
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(
                None,
                rule=f"{role} {name!r} is missing or infinite in row {int(numbers[bad].min())} (counted from 0, files "
                f"in order), and {len(bad) - 1} times more among the {len(values)} rows of the same part.",
                way_out="Drop or fill these rows first.",
            )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    return GroupedTable(x, y, offsets, ids, tuple(features), task, target, numbers)
