"""Tables of finished work on disk: whole, or not there; and never other numbers than were written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from undertow._write import write_bytes

_CHECKSUM = b"sha256"


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all, with a checksum of its content."""
    kept = {**(table.schema.metadata or {}), _CHECKSUM: _checksum(table)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(kept), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> pa.Table | None:
    """Return a table of ``write_table``; None where there is none, or a damaged one, which is to be made again."""
    if not path.is_file():
        return None
    try:
        # From memory, so that the file is not held open while another call replaces it. One thread: it is small.
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
        kept = dict(table.schema.metadata or {})
        if kept.pop(_CHECKSUM, None) != _checksum(table):
            return None
    except (pa.ArrowException, OSError, ValueError):
        return None
    return table.replace_schema_metadata(kept or None)


def _checksum(table: pa.Table) -> bytes:
    """Of names, types and values: bytes would differ where a value is missing, and by how a table is cut."""
    columns = [
        (field.name, str(field.type), column.to_pylist())
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return hashlib.sha256(repr(columns).encode()).hexdigest().encode()
