"""Cells kept on disk as they are finished: one line of JSON each, so that an end at any moment loses only one cell."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from undertow._plain import checksum
from undertow._version import __version__
from undertow.comparison.cell import Cell, Plan
from undertow.comparison.worker import cell_of
from undertow.tasks import GroupedTable


class KeptCells:
    """The file of finished cells of one comparison; cells of other data, settings or versions are passed over."""

    def __init__(self, path: Path, table: GroupedTable, plan: Plan, limit: float | None) -> None:
        self._path, self._key = path, _key(table, plan)
        self._limit = np.inf if limit is None else limit
        self._cells: dict[tuple[int, int, str], Cell] = {}
        self._ends_well = True
        if path.is_file():
            text = path.read_bytes()
            self._ends_well = text.endswith(b"\n") or not text
            for line in text.splitlines():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            made = values.pop("checksum")
            if made != checksum(values):
                return  # damaged: fitted again
            key, limit = values.pop("key"), values.pop("limit")
            cell = cell_of(values)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return  # a line that was cut off when the process ended
        # A fit that was too slow, or failed otherwise, gets another chance where there is more time.
        if key == self._key and (not cell.left_out or self._limit <= (np.inf if limit is None else limit)):
            self._cells[cell.repeat, cell.fold, cell.rival] = cell

    def get(self, repeat: int, fold: int, rival: str) -> Cell | None:
        """The finished cell, or None."""
        return self._cells.get((repeat, fold, rival))

    def add(self, cell: Cell) -> None:
        """Write a finished cell."""
        limit = None if np.isinf(self._limit) else self._limit
        line: dict[str, Any] = {"key": self._key, "limit": limit, **asdict(cell)}
        line["checksum"] = checksum(line)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("" if self._ends_well else "\n") + json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._ends_well = True


def _key(table: GroupedTable, plan: Plan) -> str:
    """Hash of all that a cell depends on: of the ids, their order counts only, and that is the rows' order."""
    made = hashlib.sha256(json.dumps([__version__, plan, table.in_order, table.weights_are]).encode())
    more = [one for one in (table.weights, table.moments, table.levels) if one is not None]
    for array in (table.x, table.y, table.offsets, table.rows, *more):
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()[:32]
