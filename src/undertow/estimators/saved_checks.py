"""What a model file may hold: types of its values and arrays, and numbers that can be. ValueError where it does not."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

MOST = 10**6
"""Most steps of a rule, and most draws: a file that says more would be worked at for ever."""

INFINITE = ("train_rates", "meta_loss", "condition")
"""Last parts of the names of arrays that may hold infinities."""

VALUES: dict[str, Any] = {
    "n_features_in_": int,
    "n_clipped_": int,
    "n_tasks_": int,
    "train_rate_": float | None,
    "adapt_rate_": float | None,
    "train_rate_spectral_": float | None,
    "adapt_rate_spectral_": float | None,
    "scale_": float,
    "strategy_": str,
    "ridge_": float | None,
    "steps_": int | None,
    "n_draws_": int,
    "weight_unit_": float,
    "curve_": str,
    "curve_errors_": dict[str, float],
    "by_time_": dict[str, float],
}
"""Attributes of a fitted estimator that are kept as they are."""

_WHOLE = ("offsets", "outcome", "tasks", "rank", "rows")
_WHOLE += ("features", "roots", "targets", "feature", "left", "right")
_LABELS = ("task_ids", "classes", "level_ids")
# In the precision of the rows that the estimator was fitted to.
_OF_ROWS = ("omega", "unadapted", "task_omega", "task_rows.factor", "one_task.factor")

_ABOVE_0 = ("standard.spread", "standard.target_spread", "uncertainty.noise")
_FROM_0 = (
    "levels.variances",
    "uncertainty.expected_mse",
    "held_out.mse",
    "held_out.weights",
    "held_out.rows",
    "task_rows.totals",
    "one_task.totals",
)


def conform(value: Any, kind: Any, name: str) -> None:
    """Raise ValueError unless a value is of a type, and all that it holds of the types inside.

    kind: a plain type, a union, a list, tuple or dict of some type, or a record with annotated fields. A whole number
    is a float too; nothing else is of two types.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, types.UnionType):
        if not any(_is(value, one, name) for one in inner):
            raise ValueError(f"a {type(value).__name__} for {name!r}")
        return
    allowed: Any = (int, float) if kind is float else origin or kind
    fits: bool = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"a {type(value).__name__} for {name!r}")
    if kind is float and isinstance(value, int) and abs(value) > 1 << 53:
        raise ValueError(f"a whole number of {len(str(abs(value)))} digits for {name!r}")
    held: Any = value
    if origin is dict:
        for key, one in held.items():
            conform(key, inner[0], name)
            conform(one, inner[1], f"{name}.{key}")
    elif origin in (list, tuple):
        for i, one in enumerate(held):
            conform(one, inner[0], f"{name}.{i}")
    elif is_dataclass(kind) or issubclass(kind, tuple):
        # What is annotated is a field: records are dataclasses and named tuples.
        for field, one in get_type_hints(kind).items():
            conform(getattr(held, field), one, f"{name}.{field}")


def check_values(stored: Any, kinds: Mapping[str, Any], name: str) -> None:
    """Raise ValueError unless these are values under the names of ``kinds``, all of them, each of its type."""
    conform(stored, dict[str, Any], name)
    if strange := stored.keys() ^ kinds.keys():
        raise ValueError(f"{name!r} with or without {', '.join(sorted(strange))}")
    for key, kind in kinds.items():
        conform(stored[key], kind, f"{name}.{key}")


def _is(value: Any, kind: Any, name: str) -> bool:
    try:
        conform(value, kind, name)
    except ValueError:
        return False
    return True


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError for an array of another type than its name says, or with numbers that cannot be."""
    for name, value in arrays.items():
        last, kind = name.rsplit(".", 1)[-1], value.dtype.kind
        if name in _LABELS:
            sound = kind in "iufb"
        elif last in _WHOLE:
            sound = value.dtype == np.int64
        elif last == "text":
            sound = value.dtype == np.uint8
        elif last == "covariance":
            sound = kind in "iuf"  # of a rule, as the user gave it
        elif name in _OF_ROWS:
            sound = kind == "f" and value.dtype == arrays["omega"].dtype
        else:
            sound = value.dtype == np.float64
        if not sound:
            raise ValueError(f"{name!r} of type {value.dtype}")
        if kind == "f" and not (np.isfinite(value) if last not in INFINITE else ~np.isnan(value)).all():
            raise ValueError(f"values in {name!r} that are not finite")
        if name in _ABOVE_0 and not (value > 0).all():
            raise ValueError(f"values in {name!r} that are not above 0")
        if name in _FROM_0 and (value < 0).any():
            raise ValueError(f"values in {name!r} that are below 0")


def check_shape(array: np.ndarray, expected: tuple[int, ...], name: str) -> None:
    """Raise ValueError for an array of another shape."""
    if array.shape != expected:
        raise ValueError(f"{name!r} of shape {array.shape} where {expected} is needed")


def check_squares(gram: np.ndarray, axes: str, name: str) -> None:
    """Raise ValueError where sums of squares are below 0; ``axes``: their diagonal, as ``numpy.einsum`` has it."""
    if (np.einsum(axes, gram) < 0).any():
        raise ValueError(f"sums of squares below 0 in {name!r}")


def whole(value: Any, name: str, least: int = 0) -> int:
    """Return a whole number from ``least`` to MOST; ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise ValueError(f"{name}={str(value)[:40]}")
    return value
