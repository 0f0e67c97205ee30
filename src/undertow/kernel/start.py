"""The model before training, f0: everything depends on the targets only through y - f0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.kernel.blocks import real_rows, real_targets

Start: TypeAlias = Callable[[np.ndarray], Any] | tuple[Any, Any]
"""A function of rows (n, p) that returns (n,), or values at the support rows (m, n_t) and the query rows (m, n_v)."""


def values_at(f0: Any, x: np.ndarray) -> np.ndarray:
    """Values (n,) of the function f0 at rows x (n, p), or InputError."""
    start = np.asarray(f0(x), dtype=np.float64)
    if start.shape != (len(x),):
        raise InputError(
            None, rule=f"f0 gives shape {start.shape} at {len(x)} rows: it must be ({len(x)},), one number a row."
        )
    _check.finite(start, "f0")
    return start


def subtracted(batch: TaskBatch, f0: Any) -> TaskBatch:
    """Return the same tasks with y - f0 for targets (0 where a row is not real), or raise InputError."""
    if f0 is None:
        return batch
    if not callable(f0) and (not isinstance(f0, tuple | list) or len(f0) != 2):
        raise InputError(
            None,
            rule=f"f0 is of type {type(f0).__name__}: it must be a function, or a pair of arrays (support, query).",
        )
    targets = {}
    for n, kind in enumerate(("support", "query")):
        y, mask = real_targets(batch, kind), getattr(batch, f"{kind}_mask")
        if callable(f0):
            x = real_rows(batch, kind)
            start = values_at(f0, x.reshape(-1, x.shape[-1])).reshape(y.shape)
        else:
            start = np.asarray(f0[n], dtype=np.float64)
            if start.shape != y.shape:
                raise InputError(None, rule=f"f0 of the {kind} rows has shape {start.shape}: it must be {y.shape}.")
            start = start if mask is None else np.where(mask, start, 0.0)
            _check.finite(start, f"f0 of the {kind} rows")
        targets[f"{kind}_y"] = y - start if mask is None else np.where(mask, y - start, 0.0)
    return batch._replace(**targets)
