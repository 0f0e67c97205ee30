"""From Arrow columns to numbers: features and target as float64, tasks and levels as codes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from undertow._check import InputError, Text
from undertow._types import Ids, PerRow, RowNumbers
from undertow.tasks import spelled
from undertow.tasks.wording import at_rows, some

# These functions are made at import, where a type checker cannot see them.
pc: Any = pyarrow.compute

MISSING = "Drop or fill these rows first."
"""The way out where rows lack what must be there."""

# Squares of larger numbers, summed, have no float; those of smaller ones are 0.
_LARGEST, _SMALLEST = 1e150, 1e-150
# Units of Arrow's times in a day.
_A_DAY = {"s": 86400, "ms": 86400e3, "us": 86400e6, "ns": 86400e9}


class NumberColumn(NamedTuple):
    """A column as numbers."""

    values: PerRow
    """(R,) NaN where a value is missing"""
    said: str = ""
    """how it was read where that is not obvious, as part of a sentence"""


def is_category(column: pa.ChunkedArray) -> bool:
    """Whether a column holds labels and not numbers: text, or a categorical of any kind."""
    return pa.types.is_dictionary(column.type) or _is_text(column.type)


def spells_numbers(column: pa.ChunkedArray, decimal: str) -> bool:
    """Whether text spells numbers or dates in more than plain digits, which may be codes."""
    column = _plain(column)
    return _is_text(column.type) and _spelled(column, decimal, dates=True) is not None


def numbers(
    column: pa.ChunkedArray, name: str, role: str, offers: Text = "", *, decimal: str = ".", dates: bool = False
) -> NumberColumn:
    """Return a column as float64; raise InputError where it is not numeric, or holds an infinite or huge number.

    Booleans are 0 and 1; a categorical of numbers is its numbers; text may spell numbers with thousands separators and
    percent signs; with ``dates`` these are days since 1970-01-01. offers: the way out for text.
    """
    column = _plain(column)
    kind, said = column.type, ""
    if pa.types.is_null(kind):
        return NumberColumn(np.full(len(column), np.nan))
    if pa.types.is_temporal(kind):
        if not dates:
            raise InputError(
                None,
                rule=f"{role} {name!r} holds dates or times ({kind}): a number is needed.",
                way_out="Convert it first, for example to days since a start, or to a year.",
            )
        values, said = _days(column)
    elif _is_text(kind):
        found = _spelled(column, decimal, dates)
        if found is None:
            rule, way_out = _about_text(column, offers)
            raise InputError(None, rule=f"{role} {name!r} {rule}", way_out=way_out)
        values, said = found
    elif pa.types.is_boolean(kind):
        values = np.asarray(column.cast(pa.uint8()).cast(pa.float64()).to_numpy())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    else:
        rule = f"{role} {name!r} holds values of kind {kind}: a number is needed."
        raise InputError(None, rule=rule, way_out="Leave it out, or unpack it.")
    _refuse_sizes(values, name, role)
    return NumberColumn(values, said)


def _refuse_sizes(values: PerRow, name: str, role: str) -> None:
    """Raise InputError for infinite numbers, and for those whose squares are out of a float's range."""
    with np.errstate(all="ignore"):
        most = np.nanmax(np.abs(values), initial=0.0)
    if most == np.inf:
        rule = f"{role} {name!r} is infinite {at_rows(np.isinf(values))}."
        raise InputError(None, rule=rule, way_out=MISSING)
    if most > _LARGEST or 0 < most < _SMALLEST:
        size = "large" if most > 1 else "small"
        rule = f"{role} {name!r} goes up to {most:.3g}: its squares are too {size} to compute with."
        raise InputError(None, rule=rule, way_out="Change its unit, or take its logarithm.")


def _days(column: pa.ChunkedArray) -> tuple[PerRow, str]:
    kind, said = column.type, "dates, as days since 1970-01-01"
    if pa.types.is_interval(kind):
        raise InputError(None, rule=f"columns of kind {kind} have no length in days.", way_out="Convert it first.")
    if pa.types.is_time(kind):
        said = "times of day, as parts of a day"
    elif pa.types.is_duration(kind):
        said = "durations, in days"
    a_day = 1 if pa.types.is_date32(kind) else _A_DAY[getattr(kind, "unit", "ms")]
    whole = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return np.asarray(whole.cast(pa.float64(), safe=False).to_numpy()) / a_day, said


def _spelled(column: pa.ChunkedArray, decimal: str, dates: bool) -> tuple[PerRow, str] | None:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    texts = encoded.dictionary.to_pylist()
    found = spelled.read_numbers(texts, decimal)
    if found is None and dates:
        found = spelled.read_dates(texts)
    if found is None:
        return None
    codes = np.asarray(pc.fill_null(encoded.indices, len(texts)).to_numpy(zero_copy_only=False))
    return np.array([*found.values, np.nan])[codes], found.said


def codes_of(column: pa.ChunkedArray, name: str, role: str, *, optional: bool = False) -> tuple[RowNumbers, Ids]:
    """Return (rows,) int64 codes and (levels,) sorted labels.

    Raises InputError where labels are numbers of so many digits that floats cannot tell them apart, and where one is
    missing; where labels are ``optional`` a missing one has the code -1.
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
        raise InputError(None, rule=rule, way_out=MISSING)
    if pa.types.is_floating(kind):
        column = _float_labels(column, name, role)
    levels = pc.unique(column.filter(pa.array(~missing)))
    levels = levels.take(pc.sort_indices(levels))
    codes = np.asarray(pc.fill_null(pc.index_in(column, value_set=levels), -1).to_numpy()).astype(np.int64)
    codes[missing] = -1
    labels = levels.to_numpy(zero_copy_only=False)
    refuse_nul(labels, f"{role} {name!r}")
    return codes, np.array(labels.tolist(), dtype=np.str_) if labels.dtype == object else np.array(labels)


def _float_labels(column: pa.ChunkedArray, name: str, role: str) -> pa.ChunkedArray:
    """Labels in floats: -0.0 is 0.0, and neighbours that a float may have merged are refused."""
    values = np.asarray(column.to_numpy())
    refuse_merged(values, f"{role} {name!r}")
    return pa.chunked_array([pa.array(values + values.dtype.type(0), from_pandas=True)])


def whole_labels(values: Iterable[int]) -> Ids:
    """Return whole numbers of any size as labels: as 64-bit numbers where all fit, and else as text."""
    listed = list(values)
    for kind in (np.int64, np.uint64):
        if all(np.iinfo(kind).min <= one <= np.iinfo(kind).max for one in listed):
            return np.array(listed, dtype=kind)
    return np.array([str(one) for one in listed])


def refuse_merged(values: np.ndarray, what: str) -> None:
    """Raise InputError where whole numbers in floats have so many digits that neighbours are one float."""
    if values.dtype.kind != "f":
        return
    limit = 2 ** (np.finfo(values.dtype).nmant + 1)
    with np.errstate(all="ignore"):
        merged = np.abs(values) > limit
    if merged.any():
        raise InputError(
            None,
            rule=f"{what} holds numbers above {limit:.0f} in {values.dtype} (such as {values[merged][0]:.0f}), which "
            "cannot distinguish neighbours: two tasks may have become one.",
            way_out="Read the ids as whole numbers or as text from the start.",
        )


def refuse_nul(labels: np.ndarray, what: str) -> None:
    """Raise InputError for text that ends in a NUL character, which an array of text does not keep."""
    if labels.dtype != object:
        return
    cut = [one for one in labels.tolist() if (isinstance(one, str) and "\0" in one) or isinstance(one, bytes)]
    if cut:
        rule = f"{what} holds {cut[0]!r}: a label must be text without NUL characters, a number or a date."
        raise InputError(None, rule=rule, way_out="Write the ids anew, without them, or decode them.")


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


def _about_text(column: pa.ChunkedArray, offers: Text) -> tuple[str, Text]:
    """Rule and way out for text, numbers that are written as text, and numbers with a few strangers among them."""
    unique = pc.unique(column.drop_null()).to_pylist()
    if not unique:
        return "is missing in all rows.", offers
    strangers = [text for text in unique if _number(text) is None]
    if not strangers:
        return f"holds numbers stored as text ({some(unique, 3)}): convert it first, as with astype(float).", offers
    if 2 * len(strangers) < len(unique):
        bad = np.isin(np.array(column.to_pylist(), dtype=object), np.array(strangers, dtype=object))
        rule = f"holds numbers, but also text ({some(strangers, 3)}) {at_rows(bad)}."
        return rule, "Mend these cells, or leave them empty where the number is not known."
    if all(re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}", text) for text in unique):
        return f"holds dates ({some(unique, 3)}) whose day and month are ambiguous.", "Write them as 2020-12-31."
    return f"holds text ({some(unique, 3)}): a number is needed.", offers
