"""Labels of tasks, levels and classes in a saved estimator, as arrays."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow.estimators.saved_checks import check_values

_TEXT_TIMES, _TEXT_SMALL = 8, 1 << 20


def pack_labels(labels: np.ndarray, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Put labels into the arrays: numbers as they are, text as UTF-8, dates as whole numbers."""
    if labels.dtype.kind in "iufb":
        arrays[name] = labels
        return {"kind": "array"}
    if labels.dtype.kind in "mM":
        arrays[name] = labels.astype(np.int64)
        return {"kind": labels.dtype.str}
    values = labels.tolist()
    if not all(isinstance(value, str) for value in values):
        raise InputError(None, rule=f"{name} hold a {type(values[0]).__name__}: numbers, text and dates can be saved.")
    each = [value.encode("utf-8", "surrogatepass") for value in values]
    arrays[f"{name}.text"] = np.frombuffer(b"".join(each), dtype=np.uint8)
    offsets = arrays[f"{name}.offsets"] = np.cumsum([0, *map(len, each)], dtype=np.int64)
    return {"kind": "objects" if labels.dtype == object or _sparse(values, int(offsets[-1])) else "text"}


def unpack_labels(stored: dict[str, Any], arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return the labels, all different; raises ValueError for what are none."""
    check_values(stored, {"kind": str}, name)
    kind = stored["kind"]
    if kind == "array":
        found = arrays[name]
    elif kind in ("objects", "text"):
        found = _texts(arrays[f"{name}.text"], arrays[f"{name}.offsets"], kind == "objects", name)
    else:
        found = arrays[name].view(np.dtype(kind))
        if found.dtype.kind not in "mM":
            raise ValueError(f"{name} of type {kind!r}")
    if found.ndim != 1 or len(set(found.tolist())) < len(found):
        raise ValueError(f"{name} that are not one of each")
    return found


def _texts(text: np.ndarray, offsets: np.ndarray, objects: bool, name: str) -> np.ndarray:
    if (
        text.ndim != 1
        or offsets.ndim != 1
        or offsets[0] != 0
        or offsets[-1] != len(text)
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError(f"{name} whose text is cut at other places than it has")
    data = text.tobytes()
    values = [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets.tolist())]
    if not objects and _sparse(values, len(data)):
        raise ValueError(f"{name} that would take far more memory than the file")
    return np.array(values, dtype=object if objects else np.str_)


def _sparse(values: list[str], size: int) -> bool:
    """Whether an array of text, which takes for each label what the longest one takes, is far larger than the text."""
    return 4 * max(map(len, values), default=0) * len(values) > _TEXT_TIMES * size + _TEXT_SMALL
