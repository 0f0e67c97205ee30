"""How much memory is left, and a refusal in one sentence before a table takes more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from undertow._check import InputError, Text

# Memory that a table takes while it is read over its size, at least; measured by benchmarks/load.py.
_TO_READ = 2.2
# Names of a control group's limit, use, and files that are only kept while there is room, in both versions.
_OF_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

OUT_OF_CORE = "Fit it out of core: undertow fit FOLDER_OR_GLOB --memory 2GB, or undertow.scale.fit."
"""The way out where a table is too large to be held."""


def said(size: int | float) -> str:
    """Return a number of bytes as it is said: 1.9 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def available(root: Path = Path("/")) -> int | float:
    """Return the bytes that are left: what the system can give, or what the control groups of this process leave of it.

    Infinity where neither is said, as on other systems than Linux. root: where /proc and /sys are.
    """
    free = _entry(root / "proc/meminfo", "MemAvailable:")
    return min([math.inf if free is None else 1024 * free, *(_left(one) for one in _groups(root))])


def table_bytes(n_rows: int | float, n_features: int) -> int | float:
    """Return the size of a table with its tasks and target: 8 bytes for each number."""
    return 8 * n_rows * (n_features + 2)


def require(needed: int | float, what: str, way_out: Text = OUT_OF_CORE) -> None:
    """Raise InputError where ``needed`` bytes are more than are left. what: takes them, with the sizes it has."""
    left = available()
    if needed > left:
        rule = f"{what} takes about {said(needed)} of memory, and {said(max(left, 0))} are left."
        raise InputError(None, rule=rule, way_out=way_out)


def require_to_read(label: str, n_rows: int | float, n_columns: int) -> None:
    """Raise InputError where so many rows do not fit into memory while they are read. label: what the table is called.

    n_columns: with those of task and target.
    """
    about = "" if isinstance(n_rows, int) else "about "
    what = f"{label} has {about}{n_rows:,.0f} rows of {n_columns} columns: to read it"
    require(_TO_READ * table_bytes(n_rows, n_columns - 2), what)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that limit the memory of this process."""
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, place = line.split(":", 2)
        if not kinds or "memory" in kinds.split(","):
            top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
            own = top / place.strip().lstrip("/")
            yield from (one for one in (own, *own.parents) if one.is_relative_to(top))


def _left(group: Path) -> int | float:
    for most, used, cached in _OF_GROUPS:
        try:
            left = int((group / most).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        return left + (_entry(group / "memory.stat", cached) or 0)
    return math.inf


def _entry(file: Path, name: str) -> int | None:
    return next((int(line.split()[1]) for line in _lines(file) if line.split()[:1] == [name]), None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
