"""Finished blocks of a sweep on disk, and the settings that they belong to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from undertow._check import InputError
from undertow._kept_table import read_table, write_table
from undertow._write import write_bytes
from undertow.gradient.checkpoint import check_settings


class BlockFolder:
    """A folder with one Parquet file for each finished block; it is made here where there is none.

    Raises InputError when it is no folder, or belongs to a sweep with other settings.
    """

    def __init__(self, folder: Any, settings: dict[str, Any]) -> None:
        if not isinstance(folder, str | os.PathLike) or Path(folder).is_file():
            raise InputError("store", folder, "it must be a folder.")
        self.path = Path(folder)
        self.path.mkdir(parents=True, exist_ok=True)
        record = self.path / "sweep.json"
        if not record.exists():
            write_bytes(record, (json.dumps(settings, indent=1) + "\n").encode())
        check_settings("store", self.path, json.loads(record.read_text()), settings)

    def _file(self, index: int) -> Path:
        return self.path / f"block-{index:05d}.parquet"

    def read(self, index: int) -> pa.Table | None:
        """A finished block, or None where there is none, or a damaged one."""
        return read_table(self._file(index))

    def write(self, index: int, table: pa.Table) -> None:
        """Keep a finished block: in full, or not at all."""
        write_table(self._file(index), table)
