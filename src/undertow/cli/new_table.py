"""A new table as a saved model needs it: its features by name, tasks, and the target where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from undertow._check import InputError
from undertow.cli.saved_model import Columns
from undertow.tasks.columns import codes_of, numbers
from undertow.tasks.source import Source, open_source
from undertow.tasks.wording import at_rows, did_you_mean, some

_SKIP = "or give --on-missing skip, which leaves their prediction empty"


class NewTable(NamedTuple):
    """Letters: R rows, m tasks, p features."""

    x: np.ndarray
    """(R, p) features of the model, in its order; what stands in a row that is not complete means nothing"""
    complete: np.ndarray
    """(R,) whether all features of a row are there"""
    y: np.ndarray | None
    """(R,) targets or labels; None where the table has no such column"""
    labelled: np.ndarray
    """(R,) whether a row's target is there"""
    codes: np.ndarray
    """(R,) number of each row's task"""
    ids: np.ndarray
    """(m,) tasks, sorted"""
    task_labels: pa.ChunkedArray
    """(R,) the task column as it was read: as text where numbers would merge ids"""


def read_new(
    file: Path, names: list[str], columns: Columns, classes: np.ndarray | None, on_missing: str
) -> tuple[Source, NewTable]:
    """Return the opened file and what a model with these features reads in it.

    names: features of the model. columns: task and target column, and levels of text columns. classes: of a classifier.
    Raises InputError for columns that are missing or of another kind, for levels and classes that were not there in
    training, and, unless ``on_missing`` is "skip", for missing values among the features.
    """
    opened = open_source(file)
    assert columns.task is not None  # the command has asked for it
    opened.require(columns.task, "task")
    labels = opened.labels(columns.task, opened.fetch([columns.task])[0])
    codes, ids = codes_of(labels, columns.task, "task column")
    if not len(codes):
        raise InputError(f"{opened.label} has no rows: there is nothing to predict.")
    x, read = _features(opened, names, columns, len(codes))
    complete = np.asarray(~np.isnan(x).any(axis=1))
    if not complete.all() and on_missing == "raise":
        _refuse_missing(x, read)
    y, labelled = None, np.zeros(len(codes), dtype=bool)
    if columns.target is not None and columns.target in opened.names:
        y, labelled = _target(opened, columns.target, classes)
    return opened, NewTable(x, complete, y, labelled, codes, ids, labels)


def _indicators(levels: dict[str, list[str]]) -> dict[str, tuple[str, str]]:
    """Name of an indicator feature -> its column and level."""
    # A column of one level has an indicator of it; of more levels the first has none.
    return {
        f"{column}={level}": (column, level)
        for column, known in levels.items()
        for level in (known[1:] if len(known) > 1 else known)
    }


def columns_of(names: list[str], levels: dict[str, list[str]]) -> list[str]:
    """Return the column of a table (p,) that each of a model's features is made of."""
    indicator = _indicators(levels)
    return [indicator[name][0] if name in indicator else name for name in names]


def _features(opened: Source, names: list[str], trained: Columns, n_rows: int) -> tuple[np.ndarray, list[str]]:
    """Features (R, p) with NaN where a value is missing, and the column of the table that each was made of."""
    levels, indicator = trained.levels, _indicators(trained.levels)
    columns = columns_of(names, levels)
    needed = list(dict.fromkeys(columns))
    absent = [name for name in needed if name not in opened.names]
    if absent:
        hint = did_you_mean(absent[0], [name for name in opened.names if name not in needed])
        raise InputError(
            f"{opened.label} lacks {len(absent)} of the {len(needed)} columns that the model reads: {some(absent)}. "
            f"The columns are {some(opened.names, 30)}.{hint} Rename or add them."
        )
    read = dict(zip(needed, opened.fetch(needed), strict=True))
    x = np.empty((n_rows, len(names)))
    codes = {
        column: _level_codes(opened, column, read[column], levels[column], trained.unseen.get(column, []))
        for column in levels
        if column in read
    }
    for j, name in enumerate(names):
        if name in indicator:
            column, level = indicator[name]
            x[:, j] = np.where(codes[column] < 0, np.nan, codes[column] == levels[column].index(level))
        else:
            x[:, j] = _values(read[name], name, "feature")
    return x, columns


def _values(column: pa.ChunkedArray, name: str, role: str) -> np.ndarray:
    """Numbers (R,), NaN where a value is missing; InputError, with the rows, where one is infinite or no number."""
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
        raise InputError(f"{role} {name!r} is infinite {at_rows(infinite)}. Drop or fill these rows first.")
    return values


def _text(opened: Source, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """A column as text (R,) of objects, None where a value is missing."""
    if opened.as_text is not None:
        # Numbers that Arrow made of text have lost its spelling.
        column = opened.as_text(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        values = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} holds values of kind {column.type}: text is needed.") from error
    return np.array([value or None for value in values], dtype=object)


def _level_codes(opened: Source, name: str, column: pa.ChunkedArray, known: list[str], unseen: list[str]) -> np.ndarray:
    """Number of each row's level (R,), -1 where it is missing."""
    text = _text(opened, name, column)
    number = {level: i for i, level in enumerate(known) if level not in unseen} | {None: -1}
    _refuse_strangers(text, number, f"feature {name!r}", "level", [level for level in known if level not in unseen])
    return np.array([number[one] for one in text], dtype=np.int64)


def _refuse_strangers(text: np.ndarray, known: Any, what: str, role: str, names: list[str]) -> None:
    strange = np.array([one not in known for one in text], dtype=bool)
    if strange.any():
        found = sorted(set(text[strange].tolist()))
        raise InputError(
            f"{what} holds {some(found)} {at_rows(strange)}: no {role} in training, which had {some(names, 12)}. "
            "Change or leave out these rows."
        )


def _refuse_missing(x: np.ndarray, columns: list[str]) -> None:
    missing = np.isnan(x)
    first = int(np.flatnonzero(missing.any(axis=0))[0])
    number = len({columns[j] for j in np.flatnonzero(missing.any(axis=0))})
    more = f" ({number} features have missing values)" if number > 1 else ""
    raise InputError(
        f"feature {columns[first]!r} is missing (null or NaN) {at_rows(missing[:, first])}{more}: the model "
        f"needs every feature. Fill or leave out these rows, {_SKIP}."
    )


def _target(opened: Source, name: str, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Targets (R,) and which are there (R,)."""
    column = opened.fetch([name])[0]
    if classes is None or classes.dtype.kind in "iufb":
        values = _values(column, name, "target")
        labelled = ~np.isnan(values)
        if classes is None:
            return values, labelled
        strange = labelled & ~np.isin(values, classes)
        if strange.any():
            raise InputError(
                f"target {name!r} holds {some(np.unique(values[strange]))} {at_rows(strange)}: no class in training, "
                f"which had {some(classes, 12)}. Change or leave out these rows."
            )
        return np.where(labelled, values, classes[0]).astype(classes.dtype), labelled
    text = _text(opened, name, column)
    known = [str(one) for one in classes]
    _refuse_strangers(text, {*known, None}, f"target {name!r}", "class", known)
    labelled = np.array([one is not None for one in text], dtype=bool)
    return np.array([known[0] if one is None else one for one in text], dtype=classes.dtype), labelled


def as_spelled(file: Path) -> pa.Table:
    """Return all columns as text: of a text file as it spells them, so that nothing is changed on the way through."""
    if file.name.lower().endswith(".parquet"):
        table = _read_parquet(file)
        columns = []
        for column in table.columns:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            plain = not pa.types.is_nested(column.type) and "binary" not in str(column.type)
            columns.append(column.cast(pa.string()) if plain else column)
        return pa.table(columns, names=table.column_names)
    from pyarrow import csv

    # The same rules as those by which open_source reads the file, but for the types.
    separator = "\t" if ".tsv" in file.name.lower() else ","
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    names = open_source(file).names
    kinds = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return csv.read_csv(file, parse_options=parse, convert_options=kinds)


def as_typed(file: Path, task: str, labels: pa.ChunkedArray) -> pa.Table:
    """Return all columns with their types, and the task column as it was read."""
    if file.name.lower().endswith(".parquet"):
        return _read_parquet(file)
    opened = open_source(file)
    columns = opened.fetch(opened.names)
    columns[opened.names.index(task)] = labels
    return pa.table(columns, names=opened.names)


def _read_parquet(file: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        return opened.read()


def write_csv(table: pa.Table, file: Path) -> None:
    """Write a table as CSV, quoting only where it must be: Arrow would quote all text."""
    import csv

    with file.open("w", encoding="utf-8", newline="") as to:
        writer = csv.writer(to, lineterminator="\n")
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=1 << 16):
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
