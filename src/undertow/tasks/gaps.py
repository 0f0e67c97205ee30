"""Missing values of a table: refused with their counts, or their rows left out, or the columns' means put for them."""

from __future__ import annotations

import numpy as np

from undertow._check import InputError, Setting
from undertow._types import Features, RowFlags, SomeFlags, SomePlaces
from undertow.tasks.columns import MISSING
from undertow.tasks.encoding import Encoding
from undertow.tasks.reading import Reading
from undertow.tasks.wording import also, at_rows, in_words, missing_counts

# A column that is missing in a larger share of rows is left out, not the rows.
_MOST_ROWS = 0.5


def settle(
    encoding: Encoding, x: Features, others: dict[str, RowFlags], reading: Reading, said: list[str]
) -> tuple[SomePlaces, SomeFlags]:
    """Return the numbers of the rows to keep, and which of the features (p,); append to ``said`` what was done.

    x: NaN where a value is missing. others: whether a row lacks its task or its target, by what the message calls them.
    Raises InputError where values are missing and ``reading`` does not say what to do, and where no row is left.
    """
    columns = np.array(encoding.columns())
    named = list(dict.fromkeys(columns.tolist()))
    missing = {name: np.asarray(np.isnan(x[:, columns == name]).any(axis=1)) for name in named}
    missing = {name: flags for name, flags in missing.items() if flags.any()}
    shares = {name: float(flags.mean()) for name, flags in missing.items()}
    limit = 1.0 if reading.on_missing == "refuse" else _MOST_ROWS
    out = [name for name, share in shares.items() if share == 1 or share > limit]
    if out and reading.on_constant == "raise":
        rule = f"feature {out[0]!r} is missing in {'all ' if shares[out[0]] == 1 else ''}{missing[out[0]].sum()} rows."
        raise InputError(None, rule=rule, way_out="Leave the column out.")
    kept_columns = ~np.isin(columns, out)
    if out:
        counts = missing_counts({name: missing.pop(name) for name in out})
        if not kept_columns.any():
            rule = f"no features are left: of {len(x)} rows they are missing {in_words(counts)}."
            raise InputError(None, rule=rule, way_out="Choose other features.")
        said.append(f"features left out, missing in most rows: {in_words(counts)}")
    lacking = {what: flags for what, flags in others.items() if flags.any()}
    if reading.on_missing == "refuse" and (lacking or missing):
        _refuse(encoding, lacking, missing)
    gone = np.zeros(len(x), dtype=bool)
    for flags in lacking.values():
        gone |= flags
    if reading.on_missing == "drop":
        for flags in missing.values():
            gone |= flags
    of_lacking = {what: int(flags.sum()) for what, flags in lacking.items()}
    counts = of_lacking | missing_counts(missing)
    if gone.all():
        rule = f"no row is left of {len(x)}: missing are {in_words(counts)}."
        raise InputError("on_missing", reading.on_missing, rule, ("Choose other ", Setting("features"), "."))
    if gone.any():
        dropped = counts if reading.on_missing == "drop" else of_lacking
        said.append(f"{int(gone.sum())} of {len(x)} rows left out, missing: {in_words(dropped)}")
    filled = missing_counts({name: flags & ~gone for name, flags in missing.items() if (flags & ~gone).any()})
    if filled:
        said.append(f"means put for missing values: {in_words(filled)}")
    return np.flatnonzero(~gone), kept_columns


def _refuse(encoding: Encoding, lacking: dict[str, RowFlags], missing: dict[str, RowFlags]) -> None:
    named = {**lacking, **{f"feature {name!r}": flags for name, flags in missing.items()}}
    what, flags = next(iter(named.items()))
    text = what.startswith("task") or any(what == f"feature {name!r}" for name in encoding.levels)
    kinds = "null, NaN or empty text" if text else "null or NaN"
    counts = {what: int(one.sum()) for what, one in lacking.items()} | missing_counts(missing)
    raise InputError(
        None,
        rule=f"{what} is missing ({kinds}) {at_rows(flags)}{also(counts)}.",
        way_out=(
            MISSING.removesuffix("."),
            ", or give ",
            Setting("on_missing", "drop"),
            " or ",
            Setting("on_missing", "mean"),
            ", or leave columns out with ",
            Setting("features"),
            ".",
        ),
    )


def means_of(x: Features) -> np.ndarray:
    """Return the mean (p,) of the values that are there; 0 where none is."""
    there = ~np.isnan(x)
    return x.sum(axis=0, where=there) / np.maximum(there.sum(axis=0), 1)
