"""From Arrow columns to numbers: features and target as float64, categories as indicators, tasks as codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from undertow._check import InputError, Setting, Text
from undertow._types import Features, Ids, PerRow, RowNumbers
from undertow.tasks.wording import at_rows, some

# These functions are made at import, where a type checker cannot see them.
pc: Any = pyarrow.compute

_MISSING = "Drop or fill these rows first."


def is_category(column: pa.ChunkedArray) -> bool:
    """Whether a column holds labels and not numbers: text, or a categorical of any kind."""
    return pa.types.is_dictionary(column.type) or _is_text(column.type)


def numbers(column: pa.ChunkedArray, name: str, role: str, offers: Text) -> PerRow:
    """Return a column as (rows,) float64; raise InputError where it is not numeric or not finite.

    Booleans are 0 and 1; a categorical of numbers is its numbers. ``offers`` is the way out for text.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_temporal(kind):
        raise InputError(
            None,
            rule=f"{role} {name!r} holds dates or times ({kind}): a number is needed.",
            way_out="Convert it first, for example to days since a start, or to a year.",
        )
    if _is_text(kind):
        raise InputError(None, rule=f"{role} {name!r} {_about_text(column)}", way_out=offers)
    if pa.types.is_null(kind):
        rule = f"{role} {name!r} is missing in all {len(column)} rows."
        raise InputError(None, rule=rule, way_out="Leave the column out.")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        rule = f"{role} {name!r} holds values of kind {kind}: a number is needed."
        raise InputError(None, rule=rule, way_out="Leave it out, or unpack it.")
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return values
    bad = ~np.isfinite(values)
    if bad.any():
        missing = np.isnan(values)
        kinds = (("missing (null or NaN)", missing), ("infinite", bad & ~missing))
        what = " or ".join(kind for kind, where in kinds if where.any())
        raise InputError(None, rule=f"{role} {name!r} is {what} {at_rows(bad)}.", way_out=_MISSING)
    return values


def indicators(column: pa.ChunkedArray, name: str, max_levels: int) -> tuple[Features, list[str]]:
    """Return (rows, levels - 1) float64 indicators and their names, such as "sex=F".

    Levels are sorted and the first is dropped, so that the same values give the same columns from every kind
    of frame.
    """
    codes, levels = codes_of(column, name, "feature")
    if len(levels) > max_levels:
        spelled = all(_number(str(level)) is not None for level in levels)
        most = Setting("max_levels", len(levels))
        aside = " The levels look like numbers: convert the column to numbers if they are." if spelled else ""
        raise InputError(
            None,
            rule=f"feature {name!r} has {len(levels)} levels ({some(levels)}): one-hot columns are made for at most "
            f"{max_levels}.{aside}",
            way_out=("Leave it out of ", Setting("features"), ", merge rare levels, or use ", most, "."),
        )
    if len(levels) == 1:
        # Not dropped in silence: the rule about constant features decides.
        return np.ones((len(codes), 1)), [f"{name}={levels[0]}"]
    encoded = codes[:, None] == np.arange(1, len(levels))
    return encoded.astype(np.float64), [f"{name}={level}" for level in levels[1:].tolist()]


def codes_of(column: pa.ChunkedArray, name: str, role: str, *, optional: bool = False) -> tuple[RowNumbers, Ids]:
    """Return (rows,) int64 codes and (levels,) sorted labels.

    Raises InputError where a label is missing; where labels are ``optional`` a missing one has the code -1.
    """
    column = _plain(column)
    if isinstance(column.type, pa.BaseExtensionType):
        # Such as a pandas Period in an Arrow table: its numbers, counted from 1970, are labels as good as its dates.
        column = column.cast(column.type.storage_type)
    kind = column.type
    if pa.types.is_nested(kind) or "binary" in str(kind):
        rule = f"{role} {name!r} holds values of kind {kind}: a label must be text, a number or a date."
        raise InputError(None, rule=rule)
    missing = pc.is_null(column, nan_is_null=True) if pa.types.is_floating(kind) else column.is_null()
    if _is_text(kind):
        missing = pc.or_(missing, pc.fill_null(pc.equal(column, pa.scalar("", kind)), False))
    missing = np.asarray(missing.to_numpy()).astype(bool)
    if missing.any() and not optional:
        rule = f"{role} {name!r} is missing (null, NaN or empty text) {at_rows(missing)}."
        raise InputError(None, rule=rule, way_out=_MISSING)
    levels = pc.unique(column.filter(pa.array(~missing)))
    levels = levels.take(pc.sort_indices(levels))
    codes = np.asarray(pc.fill_null(pc.index_in(column, value_set=levels), -1).to_numpy()).astype(np.int64)
    labels = levels.to_numpy(zero_copy_only=False)
    return codes, np.array(labels.tolist(), dtype=np.str_) if labels.dtype == object else np.array(labels)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo dictionary encoding, and the kinds of text that compute functions do not know."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    return column


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _about_text(column: pa.ChunkedArray) -> str:
    """Tell text from numbers that are written as text, and from numbers with a few strangers among them."""
    unique = pc.unique(column.drop_null()).to_pylist()
    if not unique:
        return "is missing in all rows."
    strangers = [text for text in unique if _number(text) is None]
    if not strangers:
        return f"holds numbers stored as text ({some(unique, 3)}): convert it first, as with astype(float)."
    if 2 * len(strangers) < len(unique):
        bad = np.isin(np.array(column.to_pylist(), dtype=object), np.array(strangers, dtype=object))
        return (
            f"holds numbers, but also text ({some(strangers, 3)}) {at_rows(bad)}: mend or drop these rows, "
            "then convert it to numbers."
        )
    return f"holds text ({some(unique, 3)}): a number is needed."
