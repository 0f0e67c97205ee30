"""What the commands print: consoles that take text as it is, tables that lose no digit, folders checked beforehand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2


def escape_what_cannot_be_shown() -> None:
    """Print a character that the terminal's encoding lacks as an escape such as \\u03c3, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console that prints names of columns and files as they are: "load [kg]" is no markup, ":a:" no emoji."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    """Print a sentence: on a terminal with its words whole, into a pipe as one line."""
    to = console()
    to.print(text, soft_wrap=not to.is_terminal)


def show_table(to: Console, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, numbers to the right; on a terminal too narrow for it, a line for each row.

    Titles come first; a row's first cell is its name. No cell is ever cut.
    """
    from rich.table import Table

    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    # A pipe has no width: there a table is as wide as it needs to be.
    limited = to.is_terminal or "COLUMNS" in os.environ
    needed = sum(widths) + _GAP * len(widths)
    if limited and needed > to.width:
        to.print(f"{titles[0]}:")
        for name, *cells in rows:
            named = (f"{title} {cell}" for title, cell in zip(titles[1:], cells, strict=True) if cell)
            to.print(f"  {name}: {', '.join(named)}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A console prints no wider than itself.
    to.width = max(needed, to.width)
    to.print(table, width=to.width, crop=False)


def check_file(path: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Raise InputError unless a file of one of these kinds can be written at ``path``."""
    from undertow._check import InputError

    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: the name must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}.")
    if path.is_dir():
        raise InputError(f"{option} {path}: this is a directory. Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no directory {path.parent}. Make it first.")


def check_folder(path: Path) -> None:
    """Raise InputError where the folder ``path`` neither is there nor can be made, without making it."""
    from undertow._check import InputError

    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"--out {path}: {place} is a file and not a directory. Choose another --out.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out {path}: Permission denied in {place}. Choose another --out.")
