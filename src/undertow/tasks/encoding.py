"""Text columns as indicators: the levels of one table, kept and applied to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from undertow._check import InputError
from undertow.tasks.columns import codes_of, is_category, numbers
from undertow.tasks.source import Source, open_source
from undertow.tasks.wording import at_rows, did_you_mean, some


@dataclass(frozen=True)
class Levels:
    """What ``read_table(categories="onehot")`` makes of text columns: an indicator of each level but the first."""

    known: dict[str, list[str]] = field(default_factory=dict)
    """text column -> its levels, sorted; the first has no indicator of its own"""
    unseen: dict[str, list[str]] = field(default_factory=dict)
    """text column -> those of its levels that no training row had, since the tasks with them were left out"""

    @classmethod
    def fit(cls, source: Any, columns: Sequence[str], rows: np.ndarray) -> Levels:
        """Return the levels of the text columns among ``columns``.

        rows: numbers of the rows that were kept. Indicators are made of all rows, before small tasks are left out.
        """
        opened = open_source(source)
        known: dict[str, list[str]] = {}
        unseen: dict[str, list[str]] = {}
        for name, column in zip(columns, opened.fetch(columns), strict=True):
            if not is_category(column):
                continue
            codes, labels = codes_of(column, name, "feature")
            known[name] = [str(level) for level in labels.tolist()]
            absent = np.setdiff1d(np.arange(len(labels)), codes[rows])
            if len(absent):
                unseen[name] = [known[name][i] for i in absent]
        return cls(known, unseen)

    def _indicators(self) -> dict[str, tuple[str, str]]:
        """Name of an indicator feature -> its column and level."""
        # A column of one level has an indicator of it; of more levels the first has none.
        return {
            f"{column}={level}": (column, level)
            for column, levels in self.known.items()
            for level in (levels[1:] if len(levels) > 1 else levels)
        }

    def columns_of(self, names: Sequence[str]) -> list[str]:
        """Return the column of a table (p,) that each feature is made of."""
        indicator = self._indicators()
        return [indicator[name][0] if name in indicator else name for name in names]

    def apply(self, opened: Source, names: Sequence[str], n_rows: int) -> np.ndarray:
        """Return features (R, p) of another table, NaN where a value is missing.

        names: (p,) of features. Raises InputError for columns that are missing or of another kind, and for levels that
        no training row had.
        """
        needed = list(dict.fromkeys(self.columns_of(names)))
        absent = [name for name in needed if name not in opened.names]
        if absent:
            hint = did_you_mean(absent[0], [name for name in opened.names if name not in needed])
            raise InputError(
                None,
                rule=f"{opened.label} lacks {len(absent)} of the {len(needed)} columns that the model reads: "
                f"{some(absent)}. The columns are {some(opened.names, 30)}.{hint}",
                way_out="Rename or add them.",
            )
        read = dict(zip(needed, opened.fetch(needed), strict=True))
        codes = {column: self._codes(opened, column, read[column]) for column in self.known if column in read}
        indicator, x = self._indicators(), np.empty((n_rows, len(names)))
        for j, name in enumerate(names):
            if name in indicator:
                column, level = indicator[name]
                x[:, j] = np.where(codes[column] < 0, np.nan, codes[column] == self.known[column].index(level))
            else:
                x[:, j] = values_or_nan(read[name], name, "feature")
        return x

    def _codes(self, opened: Source, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Number of each row's level (R,), -1 where it is missing."""
        text = text_of(opened, name, column)
        absent = self.unseen.get(name, [])
        number = {level: i for i, level in enumerate(self.known[name]) if level not in absent}
        strange = np.array([one is not None and one not in number for one in text], dtype=bool)
        if strange.any():
            refuse_strangers(sorted(set(text[strange].tolist())), strange, f"feature {name!r}", "level", list(number))
        return np.array([-1 if one is None else number[one] for one in text], dtype=np.int64)


def values_or_nan(column: pa.ChunkedArray, name: str, role: str) -> np.ndarray:
    """Return numbers (R,), NaN where a value is missing; InputError, with the rows, for an infinite one or no number.

    role: what the column ``name`` is, for the message.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return numbers(column, name, role, "Give the column that the model was fitted to.")
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    infinite = np.isinf(values)
    if infinite.any():
        rule = f"{role} {name!r} is infinite {at_rows(infinite)}."
        raise InputError(None, rule=rule, way_out="Drop or fill these rows first.")
    return values


def text_of(opened: Source, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as text (R,) of objects, None where a value is missing."""
    if opened.as_text is not None:
        # Numbers that Arrow made of text have lost its spelling.
        column = opened.as_text(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        values = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        rule = f"column {name!r} holds values of kind {column.type}: text is needed."
        raise InputError(None, rule=rule) from error
    return np.array([value or None for value in values], dtype=object)


def refuse_strangers(found: Any, strange: np.ndarray, what: str, role: str, known: list[Any]) -> None:
    """Raise InputError for levels or classes ``found`` in the rows ``strange`` (R,) that training had not."""
    raise InputError(
        None,
        rule=f"{what} holds {some(found)} {at_rows(strange)}: no {role} in training, which had {some(known, 12)}.",
        way_out="Change or leave out these rows.",
    )
