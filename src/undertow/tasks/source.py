"""Open a table wherever it is: a data frame, an Arrow table, a CSV or a Parquet file.

Frames go through narwhals, so neither pandas nor polars is imported here. Every source ends as named Arrow
columns.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import narwhals as nw
import pyarrow as pa
import pyarrow.compute

from undertow._check import InputError, Setting
from undertow.tasks.wording import did_you_mean, some

# These functions are made at import, where a type checker cannot see them.
pc: Any = pyarrow.compute

# A small file is read as fast by one thread, and starts no pool of them.
_SMALL_FILE = 1 << 20

_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


class Source(NamedTuple):
    """Named columns that are fetched when asked for."""

    label: str
    """what the table is called in messages"""
    names: list[str]
    fetch: Callable[[Sequence[str]], list[pa.ChunkedArray]]
    index_names: tuple[str, ...] = ()
    """names of a pandas index, which is no column"""
    as_text: Callable[[str], pa.ChunkedArray] | None = None
    """a column as the file spells it, where the kind of a column was guessed from its text"""

    def labels(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the fetched column of task ids, as text where numbers would merge ids that the file tells apart.

        "01" and "1" are one number, and so are whole numbers of many digits that only float64 holds.
        """
        kind = column.type
        if self.as_text is None or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            return column
        text = self.as_text(name)
        pattern = r"^\s*-?0[0-9]" if pa.types.is_integer(kind) else r"^\s*-?(0[0-9]|[0-9]{17,}\s*$)"
        return text if pc.any(pc.match_substring_regex(text, pattern)).as_py() else column

    def require(self, name: Any, role: str) -> None:
        """Raise InputError unless ``name`` is a column."""
        if name in self.names:
            return
        if name in self.index_names:
            way_out = f"It is the index of the frame: use frame.reset_index() to make {name!r} a column."
        else:
            way_out = f"The columns are {some(self.names, 30)}.{did_you_mean(str(name), self.names)}"
        raise InputError(role, name, f"{self.label} has no such column.", way_out)

    def others(self, *named: str) -> list[str]:
        """Return the columns that are not ``named``; raise InputError where one has no name."""
        # pandas keeps an index under such a name in Parquet, and takes it for no column when it reads the
        # file.
        rest = [name for name in self.names if name not in named and not name.startswith("__index_level_")]
        if any(not name.strip() for name in rest):
            raise InputError(
                None,
                rule=f"{self.label} has a column without a name, which may be row numbers that were saved with it.",
                way_out=(
                    "Leave it out by naming the columns you want with ",
                    Setting("features"),
                    ", or save the table without row numbers (in pandas: index=False).",
                ),
            )
        return rest


def open_source(source: Any) -> Source:
    """Return the columns of ``source``; raise InputError where it is no table, or cannot be read."""
    if isinstance(source, str | os.PathLike):
        opened = _open_file(Path(source))
    elif isinstance(source, pa.Table | pa.RecordBatch):
        opened = _of_arrow(source, "the table")
    else:
        opened = _open_frame(source)
    twice = sorted({name for name in opened.names if opened.names.count(name) > 1})
    if twice:
        raise InputError(
            None,
            rule=f"{opened.label} has more than one column named {some(twice)}: names must be unique.",
            way_out="Rename or drop one.",
        )
    return opened


def _of_arrow(table: Any, label: str) -> Source:
    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        return [_chunked(table.column(name)) for name in names]

    return Source(label, list(table.schema.names), fetch)


def _chunked(column: Any) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _open_frame(frame: Any) -> Source:
    if nw.dependencies.is_pandas_like_dataframe(frame):
        # Before narwhals sees the frame: its own messages about names do not say what to do.
        names = list(frame.columns)
        if not all(isinstance(name, str) for name in names):
            other = next(name for name in names if not isinstance(name, str))
            raise InputError(
                None,
                rule=f"the frame has a column named {other!r}: column names must be text.",
                way_out="Use frame.columns = [str(c) for c in frame.columns].",
            )
        if len(set(names)) < len(names):
            return Source("the frame", names, lambda _: [])
    try:
        native: Any = nw.from_native(frame)
    except TypeError:
        if hasattr(frame, "__arrow_c_stream__"):
            try:
                return _of_arrow(pa.table(frame), "the table")
            except (pa.ArrowException, TypeError):
                pass
        raise InputError(
            None,
            rule=f"a source of type {type(frame).__name__} is no table.",
            way_out=f"Give a pandas, polars or Arrow table, or the path of a file that ends in {', '.join(_SUFFIXES)}.",
        ) from None
    if isinstance(native, nw.LazyFrame):
        native = native.collect()
    if not isinstance(native, nw.DataFrame):
        rule = f"a source of type {type(frame).__name__} is one column."
        raise InputError(None, rule=rule, way_out="Give the whole frame.")

    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        return [_chunked(_frame_column(native[name], name)) for name in names]

    index_names = tuple(str(name) for name in getattr(getattr(frame, "index", None), "names", ()) if name is not None)
    return Source("the frame", list(native.columns), fetch, index_names)


def _frame_column(series: nw.Series[Any], name: str) -> Any:
    try:
        column = series.to_arrow()
        if not isinstance(column.type, pa.BaseExtensionType):
            return column
        # A kind of pandas' own, such as Period: no function of Arrow knows it, but it has a spelling.
        missing = series.is_null().to_list()
        return pa.array([None if null else str(value) for value, null in zip(series, missing, strict=True)])
    except (pa.ArrowException, OverflowError, TypeError):
        values = series.to_list()
    try:
        # Python integers beyond 64 bits have no Arrow type, but they have a float.
        if all(value is None or isinstance(value, int) for value in values):
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    except OverflowError:
        pass
    raise InputError(
        None,
        rule=f"column {name!r} mixes kinds of values ({', '.join(_kinds(values))}): a column must be all numbers or "
        "all text.",
        way_out=f"Convert it first, for example with frame[{name!r}].astype(str), or leave it out.",
    ) from None


def _kinds(values: list[Any]) -> list[str]:
    first = {type(value).__name__: value for value in reversed(values) if value is not None}
    return [f"{kind} such as {value!r}" for kind, value in sorted(first.items())]


def _open_file(path: Path) -> Source:
    name = path.name.lower()
    if not name.endswith(_SUFFIXES):
        raise _refused(path, f": the name of a table file must end in {', '.join(_SUFFIXES)}.", "Convert the file.")
    if not path.exists():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside)
        raise _refused(
            path, ": there is no such file.", f"{near} The working directory is {str(Path.cwd())!r}.".strip()
        )
    if path.is_dir():
        raise _refused(path, " is a directory.", "Give one file.")
    return _read_parquet(path) if name.endswith(".parquet") else _read_text(path)


def _readable(path: Path, read: Callable[[], Any]) -> Any:
    """Return ``read()``; where the file is not what its name says, raise InputError."""
    try:
        return read()
    except UnicodeError:
        raise _not_utf8(path, "a column name") from None
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        way_out = "Check that the file is complete and that its name says what it holds; text must be UTF-8."
        raise _refused(path, f" cannot be read: {first}.", way_out) from error


def _not_utf8(path: Path, what: str) -> InputError:
    old, new = quote(path.name), quote(f"utf8-{path.name}")
    return _refused(
        path,
        f": {what} is not UTF-8 text.",
        f"Convert the file first, for example with iconv -f LATIN1 -t UTF-8 {old} > {new}, or save it as UTF-8 in the "
        "program that wrote it.",
    )


def _refused(path: Path, rule: str, way_out: str) -> InputError:
    return InputError(None, rule=f"{str(path)!r}{rule}", way_out=way_out)


def _refuse_other_separator(path: Path, separator: str) -> None:
    """Raise InputError where the first line is parted by another character than the name of the file says."""
    import gzip

    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            first = file.readline(1 << 16).decode("utf-8", errors="replace")
    except (OSError, EOFError, zlib.error):
        return  # said when the table is read
    if separator in first:
        return
    for other, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")):
        if other in first:
            commas = "commas" if separator == "," else "tabs"
            as_other = "name it .tsv." if other == "\t" else "name it .csv." if other == "," else "as .parquet."
            raise _refused(
                path,
                f": the columns are parted by {word}, and in a file of this name it must be {commas}.",
                f"Save it with {commas} (and with a point in decimal numbers), or {as_other}",
            )


def _threads(path: Path) -> bool:
    return path.stat().st_size > _SMALL_FILE


def _read_parquet(path: Path) -> Source:
    import pyarrow.parquet as pq

    def read(names: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(names), use_threads=_threads(path))

    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        # One read for all columns, so that the file is passed over once.
        table = _readable(path, lambda: read(names))
        return [table.column(name) for name in names]

    schema = _readable(path, lambda: pq.read_schema(path))
    return Source(repr(path.name), list(schema.names), fetch)


def _read_text(path: Path) -> Source:
    from pyarrow import csv

    separator = "\t" if ".tsv" in path.name.lower() else ","

    def read(**convert: Any) -> pa.Table:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=_threads(path)),
            # Quoted text may hold line breaks; without the option Arrow would cut blocks there.
            parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(**convert),
        )

    def as_text(name: str) -> pa.ChunkedArray:
        return _readable(path, lambda: read(include_columns=[name], column_types={name: pa.string()})).column(0)

    _refuse_other_separator(path, separator)
    table = _readable(path, read)
    opened = _readable(path, lambda: _of_arrow(table, repr(path.name)))

    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        columns = opened.fetch(names)
        for name, column in zip(names, columns, strict=True):
            # Arrow takes text for bytes where it is not UTF-8.
            if pa.types.is_binary(column.type):
                raise _not_utf8(path, f"column {name!r}")
        return columns

    return opened._replace(fetch=fetch, as_text=as_text)
