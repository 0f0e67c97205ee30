"""Open a table wherever it is: a data frame, an Arrow table, a CSV, Parquet or Excel file.

Frames go through narwhals, so neither pandas nor polars is imported here. Every source ends as named Arrow
columns.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import narwhals as nw
import pyarrow as pa
import pyarrow.compute

from undertow._check import InputError, Setting, did_you_mean, files_near
from undertow._memory import require_to_read
from undertow.tasks.reading import Reading
from undertow.tasks.text_file import TextFile, name_fault, not_utf8, recognise, refused, uneven
from undertow.tasks.wording import some

# These functions are made at import, where a type checker cannot see them.
pc: Any = pyarrow.compute

# A small file is read as fast by one thread, and starts no pool of them.
_SMALL_FILE = 1 << 20
# Bytes of columns that are fetched together.
_AT_ONCE = 1 << 24

_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_SUFFIXES = (*_TEXT, ".parquet", ".xlsx")


class Source(NamedTuple):
    """Named columns that are fetched when asked for."""

    label: str
    """what the table is called in messages"""
    names: list[str]
    fetch: Callable[[Sequence[str]], list[pa.ChunkedArray]]
    index_names: tuple[str, ...] = ()
    """names of a pandas index, which is no column"""
    exact: Callable[[str], pa.ChunkedArray] | None = None
    """a column with the labels that a source tells apart, where ``fetch`` may give numbers that do not"""
    text: TextFile | None = None
    """how a text file is written"""
    n_rows: int = 0
    """rows of a file whose columns are read when they are fetched; 0 for columns that are in memory"""
    decimal: str = "."
    """the decimal mark of numbers that are spelled as text"""

    def each(self, names: Sequence[str]) -> Iterator[pa.ChunkedArray]:
        """Columns one after the other; of a large file few are in memory at a time."""
        at_once = max(1, _AT_ONCE // (8 * self.n_rows)) if self.n_rows else len(names)
        for start in range(0, len(names), at_once):
            yield from self.fetch(names[start : start + at_once])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was recognised about a text file, where that is not the usual."""
        if self.text is None or not self.text.said:
            return ()
        return (f"recognised in {self.label}: {', '.join(self.text.said)}",)

    def labels(self, name: str) -> pa.ChunkedArray:
        """Return a column of labels, as text where numbers would merge labels that the source tells apart."""
        return self.fetch([name])[0] if self.exact is None else self.exact(name)

    def require(self, name: Any, role: str) -> None:
        """Raise InputError unless ``name`` is a column."""
        if name in self.names:
            return
        if name in self.index_names:
            way_out = f"It is the index of the frame: use frame.reset_index() to make {name!r} a column."
        else:
            way_out = f"The columns are {some(self.names, 30)}.{did_you_mean(str(name), self.names)}"
            if self.text is not None:
                way_out += self.text.about_names()
        raise InputError(role, name, f"{self.label} has no such column.", way_out)

    def others(self, *named: str | None) -> list[str]:
        """Return the columns that are not ``named``; raise InputError where one has no name."""
        # pandas keeps an index under such a name in Parquet, and takes it for no column when it reads the
        # file.
        rest = [name for name in self.names if name not in named and not name.startswith("__index_level_")]
        if any(not name.strip() for name in rest):
            rule = f"{self.label} has a column without a name, which may be row numbers that were saved with it."
            saved = ", or save the table without row numbers (in pandas: index=False)."
            way_out = ("Leave it out by naming the columns you want with ", Setting("features"), saved)
            raise InputError(None, rule=rule, way_out=way_out)
        return rest


def open_source(source: Any, reading: Reading | None = None) -> Source:
    """Return the columns of ``source``; raise InputError where it is no table, or cannot be read."""
    reading = reading or Reading()
    if isinstance(source, str | os.PathLike):
        opened = _open_file(Path(source), reading)
    elif isinstance(source, pa.Table | pa.RecordBatch):
        opened = _of_arrow(source, "the table")
    else:
        opened = _open_frame(source)
    if opened.text is None:
        if reading.sep is not None:
            rule = f"{opened.label} is no text file: nothing separates its columns."
            raise InputError("sep", reading.sep, rule, "Leave it out.")
        opened = opened._replace(decimal=reading.decimal or ".")
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

    def exact(name: str) -> pa.ChunkedArray:
        return _chunked(_frame_column(native[name], name, exact=True))

    return Source("the frame", list(native.columns), fetch, index_names, exact)


def _frame_column(series: nw.Series[Any], name: str, exact: bool = False) -> Any:
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
        # Python integers beyond 64 bits have no Arrow type, but they have a spelling and a float.
        if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
            if exact:
                return pa.array([None if value is None else str(value) for value in values])
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    except OverflowError:
        pass
    way_out = f"Convert it first, for example with frame[{name!r}].astype(str), or leave it out."
    raise _mixed(name, values, way_out) from None


def _mixed(name: str, values: list[Any], way_out: str) -> InputError:
    kinds = ", ".join(_kinds(values))
    rule = f"column {name!r} mixes kinds of values ({kinds}): a column must be all numbers or all text."
    return InputError(None, rule=rule, way_out=way_out)


def _kinds(values: list[Any]) -> list[str]:
    first = {type(value).__name__: value for value in reversed(values) if value is not None}
    return [f"{kind} such as {value!r}" for kind, value in sorted(first.items())]


def _open_file(path: Path, reading: Reading) -> Source:
    name = path.name.lower()
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise refused(path, ": there is no such file.", files_near(path)) from None
    except (OSError, ValueError) as error:
        raise refused(path, f": {getattr(error, 'strerror', None) or error}.", "Give the path of a file.") from error
    if stat.S_ISDIR(kind):
        raise refused(path, " is a directory.", "Give one file.")
    if not name.endswith(_SUFFIXES):
        raise refused(path, f": the name of a table file must end in {', '.join(_SUFFIXES)}.", "Convert the file.")
    if not stat.S_ISREG(kind):
        # A table is read more than once, and a pipe may never end.
        raise refused(path, " is no file on a disk (a pipe or a device).", "Write the table to a file first.")
    if name.endswith(".parquet"):
        return _open_parquet(path)
    return _open_excel(path) if name.endswith(".xlsx") else _open_text(path, reading)


def _readable(path: Path, read: Callable[[], Any]) -> Any:
    """Return ``read()``; where the file is not what its name says, raise InputError."""
    try:
        return read()
    except PermissionError as error:
        raise refused(path, " may not be read (permission denied).", "Ask for the right to, or copy it.") from error
    except UnicodeError:
        raise not_utf8(path, "a column name or a value") from None
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0].replace("\0", "\\0")
        way_out = "Check that the file is complete and that its name says what it holds; text must be UTF-8."
        if (fault := uneven(path, first)) is not None:
            raise fault from error
        raise refused(path, f" cannot be read: {first[:300].rstrip('.')}.", way_out) from error


def _open_parquet(path: Path) -> Source:
    import pyarrow.parquet as pq

    def read(names: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(names), use_threads=path.stat().st_size > _SMALL_FILE)

    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        table = _readable(path, lambda: read(names))
        return [table.column(name) for name in names]

    def about() -> tuple[list[str], int]:
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names), file.metadata.num_rows

    names, n_rows = _readable(path, about)
    return Source(repr(path.name), names, fetch, n_rows=n_rows)


def _open_text(path: Path, reading: Reading) -> Source:
    text: TextFile = _readable(path, lambda: recognise(path, reading))
    if fault := name_fault(path, text.names):
        raise fault
    require_to_read(repr(path.name), _readable(path, text.n_rows), len(text.names))
    table = _readable(path, text.read)
    opened = _readable(path, lambda: _of_arrow(table, repr(path.name)))

    def fetch(names: Sequence[str]) -> list[pa.ChunkedArray]:
        columns = opened.fetch(names)
        for name, column in zip(names, columns, strict=True):
            # Arrow takes text for bytes where it is not UTF-8.
            if pa.types.is_binary(column.type):
                raise not_utf8(path, f"column {name!r}")
        return columns

    def exact(name: str) -> pa.ChunkedArray:
        column = fetch([name])[0]
        if not pa.types.is_string(column.type):
            spelled = _readable(path, lambda: text.as_text([name]))[0]
            column = spelled_labels(column, spelled)
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\0")).as_py():
            raise refused(path, f": column {name!r} holds NUL bytes.", "Write the file anew, without them.")
        return column

    return opened._replace(fetch=fetch, exact=exact, text=text, decimal=text.decimal)


def spelled_labels(column: pa.ChunkedArray, text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return labels as they were guessed from ``text`` where that is one to one, and else the text itself.

    "01" and "1" are one number, "true" and "TRUE" one truth value, and whole numbers of many digits one float.
    """
    kind = column.type
    # -0.0 and 0.0 are one number.
    values = pc.unique(pc.add(column, 0.0).drop_null() if pa.types.is_floating(kind) else column.drop_null())
    spelled = pc.unique(pc.if_else(column.is_null(), None, text).drop_null())
    # Leading zeros, and digits that a float rounds off, mean something, even where they tell no two labels apart.
    pattern = r"^\s*[+-]?0[0-9]" if pa.types.is_integer(kind) else r"^\s*[+-]?(0[0-9]|[0-9]{16,})"
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    telling = number and pc.any(pc.match_substring_regex(spelled, pattern)).as_py()
    if len(values) == len(spelled) and not telling:
        return column
    return pc.if_else(column.is_null(), pa.scalar(None, pa.string()), text)


def _open_excel(path: Path) -> Source:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        rule = ": Excel files need a package that is not installed."
        raise refused(
            path, rule, "Install it with: pip install 'undertow[excel]', or save the table as .csv."
        ) from error

    def read() -> tuple[list[Any], list[list[Any]]]:
        try:
            book = load_workbook(path, read_only=True, data_only=True)
            rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
            book.close()
        except PermissionError:
            raise
        except Exception as error:  # the library raises what its parsers raise
            raise OSError(f"no Excel file that can be read ({type(error).__name__})") from error
        rows = [row for row in rows if any(value is not None for value in row)]
        if not rows:
            raise refused(path, ": the first sheet is empty.", "Put the table on the first sheet.")
        width = max(i + 1 for row in rows for i, value in enumerate(row) if value is not None)
        return rows[0][:width], [row[:width] + [None] * (width - len(row)) for row in rows[1:]]

    header, rows = _readable(path, read)
    names = ["" if name is None else str(name) for name in header]

    def fetch(wanted: Sequence[str]) -> list[pa.ChunkedArray]:
        return [_chunked(_cells([row[names.index(name)] for row in rows], name)) for name in wanted]

    return Source(repr(path.name), names, fetch)


def _cells(values: list[Any], name: str) -> pa.Array:
    """Cells of a sheet, where whole numbers may stand among others."""
    values = [None if isinstance(value, str) and not value.strip() else value for value in values]
    if any(isinstance(value, float) for value in values):
        values = [float(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError):
        raise _mixed(name, values, "Make all cells of the column numbers, or all text.") from None


def column_names(source: Any, reading: Reading) -> list[str]:
    """Return the names of a source's columns; of a text file without reading its rows."""
    if isinstance(source, str | os.PathLike) and str(source).lower().endswith(_TEXT) and Path(source).is_file():
        return _readable(Path(source), lambda: recognise(Path(source), reading)).names
    return open_source(source, reading).names
