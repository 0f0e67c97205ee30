"""Values as JSON can hold them, and back: an infinity or NaN as its name; and their checksum."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: an infinity or NaN as its name."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else repr(float(value))
    return value


def checksum(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record of plain values, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def changed(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Return (name, value before, value now) of each setting that differs; those of a part are "part.name"."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = ((before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in sorted({*before, *now}))
        return [one for pair in pairs for one in changed(*pair)]
    return [] if before == now else [(name, before, now)]


def unplain(value: Any) -> Any:
    """Return the value that ``plain`` was given."""
    if isinstance(value, Mapping):
        return {k: unplain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [unplain(v) for v in value]
    return float(value) if isinstance(value, str) and value in ("inf", "-inf", "nan") else value
