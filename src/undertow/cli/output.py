"""What the commands print: consoles that take text as it is, tables that lose no digit, folders checked beforehand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
# Characters of a line of text.
_LINE = 110
SCREEN = 24
"""Lines that a terminal shows at once, where it is no larger than it has to be"""


def escape_what_cannot_be_shown() -> None:
    """Print a character that the terminal's encoding lacks as an escape such as \\u03c3, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console that prints names of columns and files as they are: "load [kg]" is no markup, ":a:" no emoji."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def say(*texts: str) -> None:
    """Print sentences, each in lines that a terminal shows whole, with no word cut."""
    to = console(soft_wrap=True)
    for text in texts:
        for line in _lines(text, to):
            to.print(line)


def height(texts: Sequence[str]) -> int:
    """Return how many lines ``say`` prints these in."""
    to = console(soft_wrap=True)
    return sum(len(_lines(text, to)) for text in texts)


def _lines(text: str, to: Console) -> list[str]:
    from textwrap import wrap

    limited = to.is_terminal or "COLUMNS" in os.environ
    width = min(to.width, _LINE) if limited else _LINE
    return wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def count(n: int, one: str) -> str:
    """Return a number of things in words: "1 task", "2 tasks"."""
    return f"{n} {one}" if n == 1 else f"{n} {one}s"


def show_table(to: Console, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, numbers to the right; on a terminal too narrow for it, a line for each row.

    Titles come first; a row's first cell is its name. No cell is ever cut.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    # A pipe has no width: there a table is as wide as it needs to be.
    limited = to.is_terminal or "COLUMNS" in os.environ
    needed = sum(widths) + _GAP * (len(widths) - 1)
    if limited and needed > to.width:
        to.print(f"{titles[0]}:")
        for name, *cells in rows:
            named = (f"{title} {cell}" for title, cell in zip(titles[1:], cells, strict=True) if cell)
            to.print(f"  {name}: {', '.join(named)}")
        return
    for cells in (titles, *rows):
        parts = [
            " " * (width - cell_len(cell)) + cell if i else cell + " " * (width - cell_len(cell))
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        to.print((" " * _GAP).join(parts).rstrip(), style="bold" if cells is titles else None)


def check_file(path: Path, argument: str, suffixes: tuple[str, ...]) -> None:
    """Raise InputError unless a file of one of these kinds can be written at ``path``, the value of an argument."""
    from undertow._check import InputError

    *others, last = suffixes
    either = f"{', '.join(others)} or {last}" if others else last
    if path.suffix.lower() not in suffixes:
        raise InputError(argument, path, f"the name must end in {either}.")
    if path.is_dir():
        raise InputError(argument, path, "this is a directory.", "Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(argument, path, f"there is no directory {path.parent}.", "Make it first.")
    if path.exists() and not path.is_file():
        raise InputError(argument, path, "it is a pipe or a device.", "Give the name of a file.")
    _try_writing(path.parent, argument, path)


def check_folder(path: Path) -> None:
    """Raise InputError where the folder ``path`` neither is there nor can be made, without making it."""
    from undertow._check import InputError, Setting

    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    another = ("Choose another ", Setting("out"), ".")
    if not place.is_dir():
        raise InputError("out", path, f"{place} is a file and not a directory.", another)
    _try_writing(place, "out", path)


def _try_writing(folder: Path, argument: str, value: Path) -> None:
    """Raise InputError where no file can be written to a folder: before an hour of work, not after it."""
    import tempfile

    from undertow._check import InputError

    try:
        # Where the system can, a file without a name, which is gone however the process ends.
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"a")
    except OSError as error:
        rule = f"{error.strerror or error} in {folder}."
        raise InputError(argument, value, rule, "Choose another place.") from error


def write_parquet(file: Path, table: Any) -> None:
    """Write an Arrow table whole or not at all."""
    import pyarrow.parquet as pq

    from undertow._write import whole

    with whole(file) as beside:
        pq.write_table(table, beside)
