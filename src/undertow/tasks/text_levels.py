"""Levels of text columns: their names, the indicators that are made of them, and levels that training had not."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow._check import InputError, Setting, Text
from undertow._types import RowNumbers
from undertow.tasks import labels
from undertow.tasks.columns import codes_of, is_category, spells_numbers
from undertow.tasks.reading import Reading
from undertow.tasks.source import Source
from undertow.tasks.wording import at_rows, some


def spelled(found: np.ndarray) -> list[str]:
    """Levels as text."""
    return (
        [labels.plain(one) for one in found.tolist()] if found.dtype.kind not in "mM" else [str(one) for one in found]
    )


def takes_indicators(column: Any, reading: Reading, decimal: str) -> bool:
    """Whether a column is taken as levels: text that spells no numbers, if asked for, or a constant to be dropped."""
    if not is_category(column):
        return False
    if reading.categories == "onehot":
        return not spells_numbers(column, decimal)
    return (
        reading.on_constant == "drop" and len(column.unique().drop_null()) == 1 and not spells_numbers(column, decimal)
    )


def levels_of(opened: Source, name: str, max_levels: int) -> tuple[list[str], RowNumbers]:
    """Return the levels in their order, and the number of each row's level (R,), -1 where it is missing."""
    codes, found = codes_of(opened.fetch([name])[0], name, "feature", optional=True)
    known = spelled(found)
    if len(known) > max_levels:
        numeric = all(labels.is_number(level) for level in known)
        aside = " The levels look like numbers: convert the column to numbers if they are." if numeric else ""
        raise InputError(
            None,
            rule=f"feature {name!r} has {len(known)} levels ({some(known)}): one-hot columns are made for at most "
            f"{max_levels}.{aside}",
            way_out=(
                "Leave it out of ",
                Setting("features"),
                ", merge rare levels, use ",
                Setting("max_levels", len(known)),
                ", or, where it groups the rows, make it the column of ",
                Setting("random_intercept"),
                " (a second grouping beside the tasks) or of ",
                Setting("task"),
                ".",
            ),
        )
    return known, codes


def indicators(codes: RowNumbers, n_levels: int) -> np.ndarray:
    """Return (R, levels - 1) indicators, NaN in rows without a level; of one level its own, which is constant."""
    first = 1 if n_levels > 1 else 0
    x = (codes[:, None] == np.arange(first, n_levels)).astype(np.float64)
    x[codes < 0] = np.nan
    return x


def refuse_strangers(
    found: Any,
    strange: np.ndarray,
    what: str,
    role: str,
    known: list[Any],
    way_out: Text = "Change or leave out these rows.",
) -> None:
    """Raise InputError for levels or classes ``found`` in the rows ``strange`` (R,) that training had not."""
    rule = f"{what} holds {some(found)} {at_rows(strange)}: no {role} in training, which had {some(known, 12)}."
    near = spelled_almost(known, found)
    raise InputError(None, rule=f"{rule} Spelled almost alike: {near}." if near else rule, way_out=way_out)


def spelled_almost(known: list[Any], found: Any) -> str:
    """Return "'Urban' and 'urban', ...": new labels and known ones that differ by case or spaces; empty for none."""
    pairs = labels.look_alikes(np.array(known), np.array(found))
    return ", ".join(f"{one!r} and {other!r}" for one, other in pairs[:4])
