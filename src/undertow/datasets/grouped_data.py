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
    """A table whose rows belong to tasks, with what is known about it. ``tasks.read_table`` takes it as it is.

    Examples
    --------
    >>> import undertow as ut
    >>> data = ut.datasets.load_radon()
    >>> data.units["log.radon"], ut.tasks.read_table(data).n_tasks
    ('natural log of radon activity, pCi/L', 85)
    """

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
    """Return the names that ``load`` knows, sorted.

    Examples
    --------
    >>> import undertow as ut
    >>> ut.datasets.names()
    ('gapminder', 'mathachieve', 'parkinsons', 'radon')
    """
    return tuple(sorted(RECORDS))


def load(name: str) -> GroupedData:
    """Return the data set called ``name``; raise InputError that lists the names where there is none.

    Examples
    --------
    >>> import undertow as ut
    >>> ut.datasets.load("radon").task
    'county'
    """
    if name not in RECORDS:
        near = get_close_matches(str(name).lower(), RECORDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError("name", name, "there is no such data set.", f"Choose one of {', '.join(names())}.{hint}")
    # Late, so that a list of names does not wait for Arrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = RECORDS[name]
    roles = record["task"], record["target"]
    data = pa.BufferReader(files("undertow.datasets").joinpath(f"{name}.parquet").read_bytes())
    # Threads for so few rows gain nothing, and can abort a process that ends at once; pq.read_table imports pandas.
    table = pq.ParquetFile(data).read(use_threads=False)
    features = tuple(column for column in table.column_names if column not in roles)
    rest: dict[str, Any] = record | {"units": MappingProxyType(record["units"])}
    return GroupedData(name, table, features=features, **rest)


def load_mathachieve() -> GroupedData:
    """Return mathematics achievement of 7,185 pupils; a task is one of 160 schools.

    Examples
    --------
    >>> import undertow as ut
    >>> data = ut.datasets.load_mathachieve()
    >>> data.task, data.target, data.features[:3]
    ('school', 'MathAch', ('SES', 'minority', 'female'))
    >>> data.table.num_rows
    7185
    """
    return load("mathachieve")


def load_radon() -> GroupedData:
    """Return log radon in 919 homes; a task is one of 85 counties of Minnesota, of 1 to 116 homes.

    Examples
    --------
    >>> import undertow as ut
    >>> data = ut.datasets.load_radon()
    >>> data.task, data.target, data.features
    ('county', 'log.radon', ('first_floor', 'log_uranium'))
    >>> data.table.num_rows
    919
    """
    return load("radon")


def load_gapminder() -> GroupedData:
    """Return life expectancy, 1952 to 2007 every fifth year; a task is one of 142 countries.

    Examples
    --------
    >>> import undertow as ut
    >>> data = ut.datasets.load_gapminder()
    >>> data.task, data.target, data.features
    ('country', 'lifeExp', ('year', 'log_pop', 'log_gdp'))
    >>> data.table.num_rows
    1704
    """
    return load("gapminder")


def load_parkinsons() -> GroupedData:
    """Return motor UPDRS from 2,946 voice recordings; a task is one of 42 patients. Every second recording is kept.

    Examples
    --------
    >>> import undertow as ut
    >>> data = ut.datasets.load_parkinsons()
    >>> data.task, data.target, data.features[:3]
    ('patient', 'motor_UPDRS', ('test_time', 'log_Jitter(%)', 'log_Jitter(Abs)'))
    >>> data.table.num_rows
    2946
    """
    return load("parkinsons")
