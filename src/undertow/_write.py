"""Files that are replaced whole or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it takes that place when all went well, and is removed when not.

    What stood at ``path`` stays readable until then, and a write that breaks off leaves it as it was. The file is on
    the disk, not only in its cache, before it is renamed. What processes left that were killed while they wrote to
    ``path`` is removed.
    """
    path = Path(path)
    for left in parts(path.parent, path.name):
        if not _lives(int(left.suffixes[-2][1:])):
            left.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.filename in (None, str(beside)):
            # The user knows the file by its own name.
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def parts(folder: Path, name: str | None = None) -> list[Path]:
    """Return files of ``whole`` that are being written to a folder, or never will be. name: of one file alone."""
    found = folder.glob(f".{'' if name is None else glob.escape(name) + '.'}*.part") if folder.is_dir() else ()
    return [one for one in found if len(one.suffixes) > 1 and one.suffixes[-2][1:].isdecimal()]


def is_empty(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing that was written to its end."""
    return not folder.exists() or {*folder.iterdir()} <= {*parts(folder)}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole(path) as beside:
        beside.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8 whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_figure(figure: Any, folder: Path, name: str = "figure") -> None:
    """Write NAME.png and NAME.svg of a Matplotlib figure, each whole or not at all."""
    import matplotlib

    # The layout is found once for both files. With an engine, even one that does nothing, each would be drawn twice.
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        for kind in ("png", "svg"):
            # An SVG carries the date unless told otherwise; without it the same table gives the same file.
            with whole(folder / f"{name}.{kind}") as beside:
                figure.savefig(beside, format=kind, metadata={"Date": None} if kind == "svg" else None)
