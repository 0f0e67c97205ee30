"""CSV and its relatives: which character parts columns, which one is the decimal mark, and how the text is encoded."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import pyarrow as pa

from undertow._check import InputError, Setting
from undertow.tasks.reading import Reading

# What is looked at to recognise a file's ways.
_SAMPLE = 1 << 18
# A small file is read as fast by one thread, and starts no pool of them.
_SMALL_FILE = 1 << 20

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_OTHER_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip", "Let its name end in .gz."),
    (b"PK\x03\x04", "is a zip archive or an Excel file", "Let its name end in .xlsx if it is one, or unpack it."),
    (b"PAR1", "is a Parquet file", "Let its name end in .parquet."),
    (b"\xd0\xcf\x11\xe0", "is an old Excel file (.xls)", "Save it as .xlsx or .csv."),
    (b"%PDF", "is a PDF file", "Export the table as .csv."),
)
_COMMA_DECIMAL = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_POINT_DECIMAL = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)\.\d+")
_PADDED = re.compile(r"0\d+")
_MARKED = {",": _COMMA_DECIMAL, ".": _POINT_DECIMAL}
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+")


class TextFile(NamedTuple):
    """How a text file is written."""

    path: Path
    names: list[str]
    sep: str
    decimal: str
    encoding: str
    said: tuple[str, ...]
    """what was recognised, where that is not the usual"""
    padded: dict[str, str]
    """columns with whole numbers that begin with 0, and one of these; of the first rows"""

    def read(self, **convert: Any) -> pa.Table:
        """Return the columns; ``convert`` as for pyarrow.csv.ConvertOptions."""
        from pyarrow import csv as arrow_csv

        large = self.path.stat().st_size > _SMALL_FILE
        given: Any = {
            "read_options": arrow_csv.ReadOptions(use_threads=large, encoding=self.encoding),
            # Quoted text may hold line breaks; without the option Arrow would cut blocks there.
            "parse_options": arrow_csv.ParseOptions(delimiter=self.sep, newlines_in_values=True),
        }
        options = partial(arrow_csv.ConvertOptions, decimal_point=self.decimal, **convert)
        if large and "column_types" not in convert:
            # Kinds that are guessed as the file is read keep all of its text until the end. Those of its first block,
            # given as if they were known, do not; guessed they would be the same unless a later block refutes them.
            try:
                with arrow_csv.open_csv(self.path, convert_options=options(), **given) as start:
                    kinds = start.schema
                return arrow_csv.read_csv(self.path, convert_options=options(column_types=kinds), **given)
            except pa.ArrowException:
                pass
        return arrow_csv.read_csv(self.path, convert_options=options(), **given)

    def n_rows(self) -> float:
        """Return how many rows there are, as the sizes of the file and of its first lines let expect."""
        sample, size = _first_bytes(self.path), self.path.stat().st_size
        if self.path.name.lower().endswith(".gz"):
            with self.path.open("rb") as file:
                file.seek(-4, os.SEEK_END)
                size = max(size, int.from_bytes(file.read(), "little"))
        return size * sample.count(b"\n") / len(sample)

    def about_names(self) -> str:
        """Return a sentence where the first line looks like one of values."""
        values = sum(re.fullmatch(r"[+-]?[\d.,]+", name) is not None for name in self.names)
        return " The first line of a file must name its columns." if 2 * values >= len(self.names) else ""

    def as_text(self, names: Sequence[str]) -> list[pa.ChunkedArray]:
        """Return columns as the file spells them."""
        table = self.read(include_columns=list(names), column_types=dict.fromkeys(names, pa.string()))
        return table.columns


def recognise(path: Path, reading: Reading) -> TextFile:
    """Return how a file is written, from its first lines and its name; ``reading`` may say so.

    Raises InputError for a file that is empty, of another kind, or not text, and OSError where it cannot be opened.
    """
    sample = _first_bytes(path)
    encoding = _encoding(path, sample)
    text = sample.decode({"UTF-16": "utf-16"}.get(encoding, encoding), errors="replace").removeprefix("\ufeff")
    if not text.strip():
        raise refused(path, " cannot be read: Empty CSV file.", "Check that it was copied in full.")
    sep = reading.sep or _separator(text, "\t" if ".tsv" in path.name.lower() else ",")
    rows = _rows(text, sep, 2000)
    if reading.sep is not None and len(rows[0]) == 1 and (found := _separator(text, sep)) != sep:
        rule = f"the columns of {path.name!r} are parted by {_SEPARATORS[found]}."
        raise InputError("sep", sep, rule, "Leave it out.")
    decimal = reading.decimal or ("." if sep == "," and not _quoted(text) else _decimal(rows[1:], sep))
    # Only in quotes can a cell hold the character that parts columns.
    shown = (cell.strip() for row in rows[1:] for cell in row)
    if reading.decimal == sep and not any(map(_MARKED[decimal].fullmatch, shown)):
        rule = f"{decimal!r} parts the columns of {path.name!r}, and no number holds it."
        raise InputError("decimal", decimal, rule, ("Leave it out, or give another ", Setting("sep"), "."))
    said = []
    usual = "\t" if ".tsv" in path.name.lower() else ","
    if reading.sep is None and sep != usual:
        said.append(f"columns parted by {_SEPARATORS[sep]}")
    if reading.decimal is None and decimal != ".":
        said.append("decimal commas")
    if encoding.startswith("utf-16"):
        said.append("UTF-16 text")
    names = rows[0] if rows else []
    cells = [(name, cell) for row in rows[1:] for name, cell in zip(names, row, strict=False)]
    padded = {name: cell for name, cell in reversed(cells) if _PADDED.fullmatch(cell)}
    return TextFile(path, names, sep, decimal, encoding, tuple(said), padded)


def _first_bytes(path: Path) -> bytes:
    zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            return file.read(_SAMPLE)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refused(path, f" cannot be read: {error}.", "Check that it is complete, and a gzip file.") from error


def _encoding(path: Path, sample: bytes) -> str:
    for mark, what, way_out in _OTHER_KINDS:
        if sample.startswith(mark):
            raise refused(path, f" {what}, whatever its name says.", way_out)
    for mark, name in _MARKS:
        if sample.startswith(mark):
            if name == "UTF-32":
                raise refused(path, " is UTF-32 text.", f"Convert it first: {_convert(path, 'UTF-32')}.")
            return "utf-16"
    start = sample[:4096]
    if b"\0" in start:
        for name, at in (("utf-16-le", 1), ("utf-16-be", 0)):
            if start[at::2].count(0) > 0.4 * len(start) / 2 and start[1 - at :: 2].count(0) == 0:
                return name
        raise refused(path, " holds NUL bytes: it is no text.", "Check what the file is; write it anew as CSV.")
    return "utf8"


def _convert(path: Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {quote(path.name)} > {quote(f'utf8-{path.name}')}"


def not_utf8(path: Path, what: str) -> InputError:
    """Return the error for text that is not UTF-8."""
    return refused(
        path,
        f": {what} is not UTF-8 text.",
        f"Convert the file first, for example with {_convert(path, 'LATIN1')}, or save it as UTF-8 in the program that "
        "wrote it.",
    )


def refused(path: Path, rule: str, way_out: str) -> InputError:
    """Return the error for a file that cannot be used."""
    return InputError(None, rule=f"{str(path)!r}{rule}", way_out=way_out)


def _rows(text: str, sep: str, most: int) -> list[list[str]]:
    """The first rows; the last one of a longer text may be cut, and is left out."""
    found = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=sep):
            if row:
                found.append(row)
            if len(found) > most:
                break
    except csv.Error:  # such as a cell of megabytes
        pass
    return found[:-1] if len(found) > 2 and len(text) >= _SAMPLE // 4 else found


def _separator(text: str, usual: str) -> str:
    """The character that parts most rows into as many columns as the header has."""
    best, score = usual, (0.0, 0)
    for sep in dict.fromkeys((usual, *_SEPARATORS)):
        rows = _rows(text, sep, 100)
        if not rows or len(rows[0]) < 2:
            continue
        alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        # Decimal commas part each row into as many pieces too, but into fewer.
        if (found := (round(alike, 1), len(rows[0]))) > score:
            best, score = sep, found
    return best


def _quoted(text: str) -> bool:
    return '"' in text


def _decimal(rows: list[list[str]], sep: str) -> str:
    """The decimal mark that the cells speak for."""
    cells = {cell.strip() for row in rows for cell in row}
    comma = {cell for cell in cells if _COMMA_DECIMAL.fullmatch(cell)}
    point = {cell for cell in cells if _POINT_DECIMAL.fullmatch(cell)}
    sure_comma = any(not _GROUPED.fullmatch(cell) for cell in comma)
    sure_point = any(not _GROUPED.fullmatch(cell) for cell in point)
    if sure_comma != sure_point:
        return "," if sure_comma else "."
    # "1,250" alone: a file parted by semicolons is so because of its decimal commas.
    return "," if comma and not point and sep != "," else "."


def uneven(path: Path, said: str) -> InputError | None:
    """Return the error for a line that has other columns than the first one, from what Arrow says of it, or None."""
    found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", said)
    if found is None:
        return None
    line, expected, got = found.groups()
    way_out = "Mend this line, or quote text that holds the character between columns."
    if expected == "1":
        way_out = "Remove what stands above the line that names the columns."
    return refused(path, f" cannot be read: line {line} has {got} columns, and the first line {expected}.", way_out)


def name_fault(path: Path, names: Sequence[str]) -> InputError | None:
    """Return the error for names of columns that are no text, or None."""
    if any("\ufffd" in name for name in names):
        return not_utf8(path, "a column name")
    if any("\0" in name for name in names):
        return refused(path, ": a column name holds NUL bytes.", "Write the file anew, without them.")
    return None
