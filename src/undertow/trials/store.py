"""The folder of one experiment: its settings, its finished cells, and what is made of them."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy

from undertow._check import InputError
from undertow._kept_table import read_table, write_table
from undertow._plain import changed
from undertow._version import __version__
from undertow._write import is_empty, write_figure, write_text
from undertow.trials.config import ExperimentConfig
from undertow.trials.panel import Cell

TABLE, CONFIG, VERDICT, FINDING, FIGURES, DETAILS, CELLS = (
    "table.parquet",
    "config.json",
    "verdict.txt",
    "finding.json",
    ("figure.png", "figure.svg"),
    ("details.png", "details.svg"),
    "cells",
)


_RECORD = {"experiment": str, "config": dict, "versions": dict, "hash": str}
"""What is read of config.json, and of which type it must be."""


class Folder:
    """One experiment's results at ``path``.

    The files: config.json, cells/, table.parquet, figure.png and .svg, finding.json, verdict.txt, and of some
    experiments details.png and .svg. Each is written beside its place and then renamed, so that a file that is there is
    complete, whenever the process was stopped.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def open(self, name: str, config: ExperimentConfig, *, overwrite: bool = False) -> None:
        """Make the folder ready for this experiment and config; keep the cells of an earlier, unfinished call.

        Raises InputError when the folder holds another config's results or is not one of ours.
        """
        record = _record(name, config)
        if overwrite:
            self._clear()
        elif (found := self.read_record()) is not None:
            if found["hash"] != record["hash"]:
                raise InputError(
                    None,
                    rule=f"{self.path} holds results of other settings ({_difference(found, record)}).",
                    way_out="Choose another --out, or give --overwrite to replace them.",
                )
            (self.path / CELLS).mkdir(exist_ok=True)
            return
        elif not is_empty(self.path):
            raise InputError(
                None, rule=f"{self.path} is not empty and holds no {CONFIG}.", way_out="Choose another --out."
            )
        # The settings come first: a folder that has them is known as ours, whenever the process is stopped.
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / CONFIG, _json(record))
        (self.path / CELLS).mkdir(exist_ok=True)

    def read_record(self) -> dict[str, Any] | None:
        """What config.json says, or None where there is none."""
        path = self.path / CONFIG
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if any(not isinstance(record[key], kind) for key, kind in _RECORD.items()):
                raise TypeError
            return {key: record[key] for key in _RECORD}
        except (ValueError, LookupError, TypeError):
            raise InputError(
                None,
                rule=f"{path} cannot be read as settings.",
                way_out="Choose another --out, or give --overwrite.",
            ) from None

    def finished(self, cell: Cell) -> pa.Table | None:
        """The cell's table, or None where it is still to be computed."""
        return read_table(self._cell_path(cell))

    def keep(self, cell: Cell, table: pa.Table) -> None:
        """Store a finished cell."""
        write_table(self._cell_path(cell), table)

    def has_cell(self, cell: Cell) -> bool:
        """Whether the cell is stored."""
        return self._cell_path(cell).is_file()

    def read_table(self) -> pa.Table | None:
        """The collected table, or None where the experiment is not complete."""
        return read_table(self.path / TABLE)

    def write_table(self, table: pa.Table) -> None:
        """Store the collected table."""
        write_table(self.path / TABLE, table)

    def write_report(
        self, figure: Any, verdict: list[str], finding: dict[str, Any], details: Any | None = None
    ) -> None:
        """Store the figure, and a second one where there is one, as PNG and SVG; the verdict and the finding."""
        write_figure(figure, self.path)
        if details is not None:
            write_figure(details, self.path, "details")
        write_text(self.path / VERDICT, "\n".join(verdict) + "\n")
        write_text(self.path / FINDING, _json(finding))

    def _cell_path(self, cell: Cell) -> Path:
        return self.path / CELLS / f"{cell.key}.parquet"

    def _clear(self) -> None:
        """Remove our files only: the folder may be somebody's home."""
        for name in (CONFIG, TABLE, VERDICT, FINDING, *FIGURES, *DETAILS):
            (self.path / name).unlink(missing_ok=True)
        for pattern in ("*.parquet", ".*.part"):
            for path in (self.path / CELLS).glob(pattern):
                path.unlink(missing_ok=True)


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def _record(name: str, config: ExperimentConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    text = json.dumps({"experiment": name, "config": settings, "undertow": __version__}, sort_keys=True)
    return {
        "experiment": name,
        "config": settings,
        "seed": config.seed,
        "versions": {
            "undertow": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
        "hash": hashlib.sha256(text.encode()).hexdigest(),
    }


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if found["experiment"] != wanted["experiment"]:
        return f"experiment {found['experiment']!r} there, {wanted['experiment']!r} now"
    found_now = changed(found["config"], wanted["config"])
    if not found_now:
        return f"undertow {found['versions'].get('undertow')} there, {wanted['versions']['undertow']} now"
    return "; ".join(f"{key}: {_short(old)} there, {_short(new)} now" for key, old, new in found_now[:4])


def _short(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, list) else repr(value)
