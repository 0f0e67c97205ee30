"""A new table as a saved model needs it: its features by name, tasks, and the target where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from undertow._check import InputError
from undertow.cli.saved_model import Columns
from undertow.tasks import labels
from undertow.tasks.columns import codes_of, numbers
from undertow.tasks.row_columns import row_weights
from undertow.tasks.source import Source
from undertow.tasks.task_columns import task_codes, task_names
from undertow.tasks.text_levels import refuse_strangers
from undertow.tasks.wording import at_rows

_NO_LEVEL = "(missing)"


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
    task_labels: pa.ChunkedArray | None
    """(R,) the task column as it was read: as text where numbers would merge ids; None where there are several"""
    notes: tuple[str, ...]
    """what was done to rows that lack something"""
    weights: np.ndarray | None = None
    """(R,) weights of rows; None where the table has no such column, and rows that are adapted on weigh alike"""
    levels: np.ndarray | None = None
    """(R,) level of each row in the model's second grouping, as text; None where it has none"""


def read_new(
    opened: Source, estimator: Any, names: list[str], columns: Columns, on_missing: str, on_unseen: str
) -> NewTable:
    """Return what a model with features ``names`` reads in an opened table.

    columns: task and target column, and how columns become features. on_missing, on_unseen: as for ``Encoding.apply``.
    Raises InputError for columns that are missing or of another kind, and for classes that were not there in training.
    """
    assert columns.task is not None  # the command has asked for it
    tasks = task_names(opened.names, columns.task)
    for name in tasks:
        opened.require(name, "task")
    named = columns.task_columns if len(columns.task_columns) == len(tasks) else None
    codes, ids = task_codes(opened, tasks, called=named)
    if not len(codes):
        raise InputError(None, rule=f"{opened.label} has no rows: there is nothing to predict.")
    standard = estimator.model_.standard
    means = tuple(standard.centre[: standard.n_inputs].tolist())
    encoding = columns.encoding(names, means)
    x, complete, notes, _ = encoding.apply(opened, on_missing=on_missing, on_unseen=on_unseen)
    y, labelled = None, np.zeros(len(codes), dtype=bool)
    if columns.target is not None and columns.target in opened.names:
        classes = np.array(columns.classes) if columns.classes else getattr(estimator, "classes_", None)
        y, labelled = _target(opened, columns.target, classes)
        if classes is not None and columns.classes:
            y = (y == classes[1]).astype(np.float64)
    task_labels = opened.labels(tasks[0]) if len(tasks) == 1 else None
    weights = None
    if columns.weights is not None and columns.weights in opened.names:
        weights = _weights(opened, columns.weights, complete & labelled & (codes >= 0))
    levels = None
    if estimator.model_.levels is not None:
        levels = _levels(opened, columns, tasks, len(codes))
    return NewTable(x, complete, y, labelled, codes, ids, task_labels, notes, weights, levels)


def _levels(opened: Source, columns: Columns, tasks: list[str], n_rows: int) -> np.ndarray:
    """Levels (R,) as text, a word for one that is missing."""
    names = called = columns.random_intercept
    if len(tasks) == len(columns.task_columns) and columns.task_columns[: len(names)] == names:
        # Columns of tasks may have other names here.
        names = tuple(tasks[: len(names)])
    for name in names:
        opened.require(name, "random_intercept")
    if not names:
        return np.full(n_rows, _NO_LEVEL)
    codes, ids = task_codes(opened, names, called=called)
    texts = [labels.plain(one) for one in labels.values(ids)]
    return np.array([*texts, _NO_LEVEL])[codes]


def _weights(opened: Source, name: str, needed: np.ndarray) -> np.ndarray:
    """Weights (R,), which must be there in the rows (R,) that are adapted on."""
    found = row_weights(opened, name)
    missing = needed & np.isnan(found)
    if missing.any():
        rule = f"weights {name!r} are missing {at_rows(missing)}, which have a target."
        raise InputError(None, rule=rule, way_out="Fill them, or leave the column out: rows then weigh alike.")
    return found


def _target(opened: Source, name: str, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Targets (R,) and which are there (R,)."""
    if classes is None:
        offers = "Give the column that the model was fitted to."
        values = numbers(opened.fetch([name])[0], name, "target", offers, decimal=opened.decimal).values
        return values, ~np.isnan(values)
    codes, found = codes_of(opened.labels(name), name, "target", optional=True)
    place = np.append(labels.places(classes, found), 0)[codes]
    labelled = codes >= 0
    strange = labelled & (place < 0)
    if strange.any():
        new = np.unique(found[codes[strange]]).tolist()
        refuse_strangers(new, strange, f"target {name!r}", "class", classes.tolist())
    return classes[np.where(labelled, place, 0)], labelled


def as_spelled(opened: Source) -> pa.Table:
    """Return all columns as text: of a text file as it spells them, so that nothing is changed on the way through."""
    if opened.text is not None:
        return pa.table(opened.text.as_text(opened.names), names=opened.names)
    columns = []
    for column in opened.fetch(opened.names):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        plain = not pa.types.is_nested(column.type) and "binary" not in str(column.type)
        columns.append(column.cast(pa.string()) if plain else column)
    return pa.table(columns, names=opened.names)


def as_typed(opened: Source, task: str, task_labels: pa.ChunkedArray | None) -> pa.Table:
    """Return all columns with their types, and the task column as it was read."""
    columns = opened.fetch(opened.names)
    if task_labels is not None:
        columns[opened.names.index(task)] = task_labels
    return pa.table(columns, names=opened.names)


def write_csv(table: pa.Table, file: Path, opened: Source) -> None:
    """Write a table as CSV, quoting only where it must be: Arrow would quote all text.

    Columns are parted as in the text file that was read, and numbers have its decimal mark.
    """
    import csv

    text = opened.text
    sep = ";" if text is not None and text.sep == ";" else ","
    with file.open("w", encoding="utf-8", newline="") as to:
        writer = csv.writer(to, lineterminator="\n", delimiter=sep)
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=1 << 16):
            columns = [column.to_pylist() for column in batch.columns]
            if opened.decimal == ",":
                columns = [
                    [repr(one).replace(".", ",") if isinstance(one, float) else one for one in column]
                    for column in columns
                ]
            writer.writerows(zip(*columns, strict=True))
