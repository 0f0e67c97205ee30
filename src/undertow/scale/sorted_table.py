"""Rows sorted by task in one Parquet file, made once by DuckDB out of core, and read again by whole tasks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from undertow._check import InputError
from undertow._memory import said
from undertow._types import Counts, Ids, Numbers
from undertow._write import write_text
from undertow.scale import source as sources
from undertow.scale.fragment import Fragment, read_fragment
from undertow.scale.memory import Ceiling
from undertow.tasks import GroupedTable, TableNote
from undertow.tasks.columns import codes_of
from undertow.tasks.labels import said_alike

# These functions are made at import, where a type checker cannot see them.
pc: Any = pyarrow.compute

_FILE, _ABOUT = "sorted.parquet", "table.json"
# Row groups are read whole; a footer of more than a few thousand of them is slow to read.
_GROUP_BYTES, _MOST_GROUPS = 4 << 20, 2000
# Beside the sorted rows DuckDB writes parts of them that do not fit in its memory.
_DISK_FACTOR = 2.2
# Labels of more tasks are not compared with each other.
_MOST_COMPARED = 100_000


@dataclass(frozen=True, eq=False)
class SortedTable:
    """A table sorted by task: make it with ``sort``. Letters: R rows, m tasks, p features.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"shop": np.tile(np.arange(20), 10), "price": rng.standard_normal(200)})
    >>> frame["sales"] = frame["price"] + rng.standard_normal(20)[frame["shop"]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_csv(f"{folder}/sales.csv", index=False)
    ...     table = ut.scale.sort(f"{folder}/sales.csv", "shop", "sales", folder=f"{folder}/sorted")
    ...     few = table.grouped(np.array([0, 3]), size=1 << 20)
    >>> few
    GroupedTable(2 tasks (shop) of 10 to 10 rows, 20 rows, 1 features, target sales)
    """

    file: Path
    task: str
    """name of the task column"""
    target: str
    """name of the target column"""
    features: tuple[str, ...]
    """(p,) names of the feature columns"""
    columns: tuple[int, ...]
    """(p,) their numbers in the file"""
    levels: dict[str, list[str]]
    """text column -> the levels that indicators were made of, sorted; the first has none"""
    ids: Ids
    """(m,) what the tasks are called, sorted"""
    counts: Counts
    """(m,) rows of each task"""

    @property
    def n_rows(self) -> int:
        """Number of rows, R."""
        return int(self.counts.sum())

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return len(self.ids)

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return len(self.features)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return 8 * (self.n_features + 3)

    @cached_property
    def offsets(self) -> Numbers:
        """(m + 1,) row at which each task starts."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def __repr__(self) -> str:
        return (
            f"SortedTable({self.n_tasks} tasks ({self.task}), {self.n_rows} rows, {self.n_features} features, target "
            f"{self.target}, in {str(self.file)!r})"
        )

    def keep(self, features: Iterable[int]) -> SortedTable:
        """Return the table with some of its features, by number."""
        kept = list(features)
        names, columns = ([one[j] for j in kept] for one in (self.features, self.columns))
        return replace(self, features=tuple(names), columns=tuple(columns))

    def fragments(self, size: int) -> list[Fragment]:
        """Return fragments of whole tasks, of about ``size`` bytes of rows each; a larger task has its own."""
        rows = max(1, size // self.row_bytes)
        cuts = np.flatnonzero(np.diff(self.offsets[:-1] // rows)) + 1
        tasks = np.concatenate([[0], cuts, [self.n_tasks]])
        names, file, at = (*self.features, self.task, self.target), str(self.file), self.offsets
        return [
            Fragment(file, int(at[a]), int(at[b]), int(a), int(b - a), self.columns, names) for a, b in pairwise(tasks)
        ]

    def grouped(self, tasks: Numbers, size: int) -> GroupedTable:
        """Return some tasks, by number, as a table in memory; fragments of ``size`` bytes are read one by one."""
        chosen = np.zeros(self.n_tasks, dtype=bool)
        chosen[tasks] = True
        offsets = np.concatenate([[0], np.cumsum(self.counts[chosen])])
        n_rows, at = int(offsets[-1]), 0
        x, y, numbers = np.empty((n_rows, self.n_features)), np.empty(n_rows), np.empty(n_rows, dtype=np.int64)
        for fragment in self.fragments(size):
            own = chosen[fragment.first_task : fragment.first_task + fragment.n_tasks]
            if not own.any():
                continue
            read = read_fragment(fragment)
            kept = np.repeat(own, read.counts)
            part = slice(at, at + int(kept.sum()))
            x[part], y[part], numbers[part] = read.x[kept], read.y[kept], read.rows[kept]
            at = part.stop
        return GroupedTable(x, y, offsets, self.ids[chosen], self.features, self.task, self.target, numbers)


def sort(
    source: Any,
    task: str,
    target: str,
    features: Iterable[str] | None = None,
    *,
    folder: str | os.PathLike[str],
    memory: Any = "2GB",
    categories: str = "raise",
    max_levels: int = 50,
) -> SortedTable:
    """Sort a table by task into a folder, out of core; a folder that holds the same table sorted is taken as it is.

    The folder takes about 8 (p + 3) bytes for each row, and as much again while DuckDB sorts; InputError, with the
    numbers, where the disk has less, and for columns that cannot be used.

    Parameters
    ----------
    source
        a folder or glob of Parquet or CSV files, paths, or a DuckDB relation.
    task, target, features, memory
        as in ``fit``.
    folder
        where the sorted table is kept.
    categories, max_levels
        as in ``fit``.

    Returns
    -------
    SortedTable
        sizes, names and places of the sorted rows; ``fragments`` reads them.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"shop": np.tile(np.arange(20), 10), "price": rng.standard_normal(200)})
    >>> frame["sales"] = frame["price"] + rng.standard_normal(20)[frame["shop"]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_csv(f"{folder}/sales.csv", index=False)
    ...     table = ut.scale.sort(f"{folder}/sales.csv", "shop", "sales", folder=f"{folder}/sorted")
    >>> table.n_tasks, table.features
    (20, ('price',))
    """
    sources.require()
    import duckdb

    ceiling = Ceiling.of(memory)
    sources.checked_names(task, target, categories, "raise")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect(
        config={"memory_limit": f"{ceiling.sorting // 1000}kB", "temp_directory": str(place / "spill")}
    )
    try:
        opened = sources.open_source(con, source, task)
        wanted = sources.chosen_features(opened, task, target, features)
        levels = sources.levels_of(con, opened, wanted, max_levels) if categories == "onehot" else {}
        columns, names = sources.columns_sql(opened, wanted, levels)
        outcome = sources.number_sql(opened, target, "target")
        about = _about(opened, source, task, target, columns, names)
        if not _is_there(place, about):
            _sort(con, opened, place, task, outcome, columns)
            write_text(place / _ABOUT, json.dumps({**about, "sha256": _checksum(place / _FILE)}))
    except duckdb.Error as error:
        raise sources.unreadable("the table", error) from error
    except RuntimeError as error:
        if "interrupted" in str(error):  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        con.close()
        shutil.rmtree(place / "spill", ignore_errors=True)
    ids, counts = _tasks(place / _FILE, task, ceiling)
    if len(ids) <= _MOST_COMPARED and (note := said_alike(ids, task)):
        warnings.warn(note, TableNote, stacklevel=2)
    return SortedTable(place / _FILE, task, target, tuple(names), tuple(range(len(names))), levels, ids, counts)


def _about(opened: sources.Source, source: Any, task: str, target: str, columns: Any, names: Any) -> dict[str, Any]:
    """What the sorted file depends on, as JSON holds it."""
    stats = [(os.path.abspath(file), os.stat(file)) for file in opened.files]
    query = None if opened.files else str(source.sql_query())
    files = [[file, one.st_size, one.st_mtime_ns] for file, one in stats]
    return {"files": files, "query": query, "task": task, "target": target, "columns": columns, "names": names}


def _is_there(place: Path, about: dict[str, Any]) -> bool:
    """Whether the folder holds this table, sorted and undamaged; InputError where it holds another."""
    try:
        found = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        made = found.pop("sha256", None)
    except (OSError, ValueError, AttributeError):
        return False
    if found != about:
        raise InputError(
            "work",
            place,
            "the folder holds the sorted rows of another table, of other columns, or of files that have changed since.",
            "Choose another folder, or empty this one.",
        )
    return (place / _FILE).is_file() and made == _checksum(place / _FILE)


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sort(con: Any, opened: sources.Source, place: Path, task: str, outcome: str, columns: list[str]) -> None:
    own = sources.quoted(task)
    if opened.files and opened.text:
        # Numbers are ids as numbers, unless the file tells some apart that are one number, such as "01" and "1".
        plain = f"regexp_full_match({own}, '0|-?[1-9][0-9]{{0,17}}')"
        n_rows, numbers = con.execute(f"SELECT count(*), bool_and({plain}) FROM {opened.sql}").fetchone()
        own = f"CAST({own} AS BIGINT)" if numbers else own
    elif opened.n_rows is None:
        n_rows = con.execute(f"SELECT count(*) FROM {opened.sql}").fetchone()[0]
    else:
        n_rows = opened.n_rows
    if not n_rows:
        raise InputError(None, rule=f"{opened.label} has no rows: there is nothing to learn from.")
    row = 8 * (len(columns) + 3)
    needed, free = n_rows * row * _DISK_FACTOR, shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            "work",
            place,
            f"to sort {n_rows} rows takes {said(needed)} on disk, and {said(free)} are free there.",
            "Give a folder on another disk, or fewer features.",
        )
    group = max(_GROUP_BYTES // row, n_rows // _MOST_GROUPS)
    group = max(2048, group // 2048 * 2048)
    read = ", ".join(f"{sql} AS x{j}" for j, sql in enumerate(columns))
    numbered = f"SELECT {own} AS t, row_number() OVER () - 1 AS r, {outcome} AS y, {read} FROM {opened.sql}"
    beside = place / f".{_FILE}.part"
    con.execute(
        f"COPY (SELECT * FROM ({numbered}) ORDER BY t, r) TO {sources.quoted_text(str(beside))} "
        f"(FORMAT parquet, ROW_GROUP_SIZE {group}, COMPRESSION snappy)"
    )
    os.replace(beside, place / _FILE)


def _tasks(path: Path, task: str, ceiling: Ceiling) -> tuple[Ids, Counts]:
    """Ids and numbers of rows of the tasks of a sorted file."""
    ids, counts, size = [], [], 0
    for column in _task_column(path):
        starts = np.concatenate([[0], np.flatnonzero(pc.not_equal(column[1:], column[:-1]).to_numpy(False)) + 1])
        if column.null_count:
            # A missing id has no neighbour that it could differ from.
            codes_of(pa.chunked_array([column]), task, "task column")
        _, own = codes_of(pa.chunked_array([column.take(pa.array(starts))]), task, "task column")
        rows = np.diff(np.append(starts, len(column)))
        if ids and ids[-1][-1] == own[0]:
            counts[-1][-1] += rows[0]
            own, rows = own[1:], rows[1:]
        if len(own):
            ids.append(own)
            counts.append(rows)
        size += own.nbytes + rows.nbytes
        if size > ceiling.tasks:
            raise InputError(
                "memory",
                ceiling.total,
                f"the names and sizes of the first {sum(map(len, ids))} tasks take {said(size)} already, and "
                f"{said(ceiling.tasks)} of the ceiling are for all.",
                "Allow more memory.",
            )
    return np.concatenate(ids), np.concatenate(counts)


def _task_column(path: Path) -> Iterator[pa.Array]:
    with pq.ParquetFile(path) as file:
        for i in range(file.metadata.num_row_groups):
            column = file.read_row_group(i, columns=["t"], use_threads=False).column(0)
            yield column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
