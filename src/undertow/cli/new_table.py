"""A new table as a saved model needs it: its features by name, tasks, and the target where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from undertow._check import InputError, Setting
from undertow.cli.saved_model import Columns
from undertow.tasks.columns import codes_of
from undertow.tasks.encoding import Levels, refuse_strangers, text_of, values_or_nan
from undertow.tasks.source import Source, open_source
from undertow.tasks.wording import at_rows


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
    """(R,) number of each row's task, -1 where it is missing"""
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
    codes, ids = codes_of(labels, columns.task, "task column", optional=True)
    if not len(codes):
        raise InputError(None, rule=f"{opened.label} has no rows: there is nothing to predict.")
    levels = Levels(columns.levels, columns.unseen)
    x = levels.apply(opened, names, len(codes))
    complete = np.asarray(~np.isnan(x).any(axis=1))
    if not complete.all() and on_missing == "raise":
        _refuse_missing(x, levels.columns_of(names))
    y, labelled = None, np.zeros(len(codes), dtype=bool)
    if columns.target is not None and columns.target in opened.names:
        y, labelled = _target(opened, columns.target, classes)
    return opened, NewTable(x, complete, y, labelled, codes, ids, labels)


def _refuse_missing(x: np.ndarray, columns: list[str]) -> None:
    missing = np.isnan(x)
    first = int(np.flatnonzero(missing.any(axis=0))[0])
    number = len({columns[j] for j in np.flatnonzero(missing.any(axis=0))})
    more = f" ({number} features have missing values)" if number > 1 else ""
    raise InputError(
        None,
        rule=f"feature {columns[first]!r} is missing (null or NaN) {at_rows(missing[:, first])}{more}: the model "
        "needs every feature.",
        way_out=(
            "Fill or leave out these rows, or give ",
            Setting("on_missing", "skip"),
            ", which leaves their prediction empty.",
        ),
    )


def _target(opened: Source, name: str, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Targets (R,) and which are there (R,)."""
    column = opened.fetch([name])[0]
    if classes is None or classes.dtype.kind in "iufb":
        values = values_or_nan(column, name, "target")
        labelled = ~np.isnan(values)
        if classes is None:
            return values, labelled
        strange = labelled & ~np.isin(values, classes)
        if strange.any():
            refuse_strangers(np.unique(values[strange]), strange, f"target {name!r}", "class", classes.tolist())
        return np.where(labelled, values, classes[0]).astype(classes.dtype), labelled
    text = text_of(opened, name, column)
    known = [str(one) for one in classes]
    strange = np.array([one is not None and one not in known for one in text], dtype=bool)
    if strange.any():
        refuse_strangers(sorted(set(text[strange].tolist())), strange, f"target {name!r}", "class", known)
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
