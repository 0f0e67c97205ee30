"""GroupedData, and the functions that load one from the package's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from undertow._check import InputError
from undertow.datasets.records import RECORDS


@dataclass(frozen=True, eq=False)
class GroupedData:
    """A table whose rows belong to tasks, with what is known about it. ``tasks.read_table`` takes it as it is."""

    name: str
    """what ``load`` calls it"""
    table: Any
    """the rows, a pyarrow.Table with the columns task, features, target"""
    task: str
    """the column that says which task a row belongs to"""
    target: str
    """the column to predict"""
    features: tuple[str, ...]
    """the columns to predict from"""
    units: Mapping[str, str]
    """unit or meaning of each column"""
    source: str
    """where the rows come from"""
    licence: str
    """on which terms they may be used; the full text is in LICENSES.md beside the files"""
    description: str
    """what it is about, and what was done to the rows"""

    def __repr__(self) -> str:
        return (
            f"GroupedData({self.name}: {self.table.num_rows} rows, task {self.task}, target {self.target}, "
            f"{len(self.features)} features; {self.licence})"
        )


def names() -> tuple[str, ...]:
    """Return the names that ``load`` knows, sorted."""
    return tuple(sorted(RECORDS))


def load(name: str) -> GroupedData:
    """Return the data set called ``name``; raise InputError that lists the names where there is none."""
    if name not in RECORDS:
        near = get_close_matches(str(name).lower(), RECORDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError("name", name, "there is no such data set.", f"Choose one of {', '.join(names())}.{hint}")
    # Late, so that a list of names does not wait for Arrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = RECORDS[name]
    data = pa.BufferReader(files("undertow.datasets").joinpath(f"{name}.parquet").read_bytes())
    # Threads for so few rows gain nothing, and can abort a process that ends at once.
    table = pq.read_table(data, use_threads=False)
    features = tuple(column for column in table.column_names if column not in (record.task, record.target))
    return GroupedData(
        name,
        table,
        record.task,
        record.target,
        features,
        MappingProxyType(dict(record.units)),
        record.source,
        record.licence,
        record.description,
    )


def load_mathachieve() -> GroupedData:
    """Return mathematics achievement of 7,185 pupils; a task is one of 160 schools."""
    return load("mathachieve")


def load_radon() -> GroupedData:
    """Return log radon in 919 homes; a task is one of 85 counties of Minnesota, of 1 to 116 homes."""
    return load("radon")


def load_gapminder() -> GroupedData:
    """Return life expectancy, 1952 to 2007 every fifth year; a task is one of 142 countries."""
    return load("gapminder")


def load_parkinsons() -> GroupedData:
    """Return motor UPDRS from 2,946 voice recordings; a task is one of 42 patients. Every second recording is kept."""
    return load("parkinsons")
