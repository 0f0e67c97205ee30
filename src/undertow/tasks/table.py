"""From a grouped table to tasks: read_table for all of it, from_table for one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting, Text
from undertow._types import Features
from undertow.tasks import drawing
from undertow.tasks.columns import codes_of, indicators, is_category, numbers
from undertow.tasks.grouped import GroupedTable
from undertow.tasks.source import Source, open_source
from undertow.tasks.wording import some


def read_table(
    source: Any,
    task: str | None = None,
    target: str | None = None,
    features: Iterable[str] | None = None,
    *,
    categories: str = "raise",
    max_levels: int = 50,
    on_constant: str = "raise",
    min_rows: int = 1,
    on_small: str = "raise",
) -> GroupedTable:
    """Return a table's rows as arrays sorted by task, or raise InputError with the fault and the way out.

    source: a pandas, polars or Arrow table, the path of a file (.csv, .csv.gz, .tsv, .tsv.gz, .parquet), or a
        record with attributes ``table``, ``task``, ``target`` (such as those of undertow.datasets), which
        then are the defaults.
    task: the column that says which task a row belongs to: text, whole numbers, categories, dates.
    target: the column to predict, numeric.
    features: the columns to predict from; None for all others. Numbers and booleans; a categorical of numbers
        counts as its numbers.
    categories: what to do with text among the features. "raise" names it; "onehot" makes an indicator column
        "sex=F" for each level but the first, of text and of categoricals alike.
    max_levels: most levels that "onehot" accepts in one column.
    on_constant: what to do with a feature that has one value only: "raise", "drop" or "keep".
    min_rows, on_small: what to do with tasks of fewer than ``min_rows`` rows: "raise" or "drop".

    Missing or infinite values are never filled: InputError gives their row numbers. A CSV file does not say what is
    text: a task column with ids such as "01" is read as text, so that "01" and "1" stay two tasks.
    """
    min_rows = _check.whole_number(min_rows, "min_rows")
    asked = Setting("min_rows", min_rows)
    return _read(source, task, target, features, categories, max_levels, on_constant, asked, on_small)


def _read(
    source: Any,
    task: str | None,
    target: str | None,
    features: Iterable[str] | None,
    categories: str,
    max_levels: int,
    on_constant: str,
    asked: Setting,
    on_small: str,
) -> GroupedTable:
    """Return what read_table does; ``asked`` is what asks for rows of each task, ``min_rows`` or ``n_support``."""
    _check.one_of(categories, "categories", ("raise", "onehot"))
    _check.one_of(on_constant, "on_constant", ("raise", "drop", "keep"))
    max_levels = _check.whole_number(max_levels, "max_levels", minimum=2)
    source, task, target, features = _with_defaults(source, task, target, features)
    opened = open_source(source)
    chosen = _choose(opened, task, target, features)
    labels, outcome, *columns = opened.fetch([task, target, *chosen])
    labels = opened.labels(task, labels)
    if len(labels) == 0:
        raise InputError(None, rule=f"{opened.label} has no rows: there is nothing to learn from.")

    codes, ids = codes_of(labels, task, "task column")
    y = numbers(outcome, target, "target", "Encode it as numbers first.")
    x, names = _features(columns, chosen, categories, max_levels)
    table = GroupedTable.from_codes(x, y, codes, ids, tuple(names), task, target)
    large = drawing.enough_rows(table.counts, ids, asked, on_small, n_query=asked.name == "n_support")
    table = replace(table.select(large), n_left_out=len(ids) - len(large))
    return table if on_constant == "keep" else _without_constants(table, on_constant)


def from_table(
    frame: Any,
    task: str | None = None,
    target: str | None = None,
    n_support: int = 5,
    seed: Any = 0,
    features: Iterable[str] | None = None,
    n_query: int | None = None,
    *,
    dtype: Any = np.float64,
    categories: str = "raise",
    max_levels: int = 50,
    on_constant: str = "raise",
    on_small: str = "raise",
) -> TaskBatch:
    """Return one batch with a random choice of ``n_support`` support rows for each task of a table.

    Features and target are the raw values: nothing is standardised and no intercept is added. To have both,
    write ``read_table(...).standardized()[0].with_intercept().draw(...)``. Arguments are those of read_table
    and of GroupedTable.draw; tasks with fewer than n_support + 1 rows raise InputError, or are left out by
    on_small="drop".
    """
    n_support = _check.whole_number(n_support, "n_support")
    _check.one_of(on_small, "on_small", ("raise", "drop"))
    # Small tasks come before features: in a table of one row every feature is constant, which is not what is wrong.
    asked = Setting("n_support", n_support)
    table = _read(frame, task, target, features, categories, max_levels, on_constant, asked, on_small)
    return table.draw(n_support, seed, n_query, dtype=dtype, on_small=on_small)


def _with_defaults(source: Any, task: Any, target: Any, features: Any) -> tuple[Any, str, str, Any]:
    """Take what is not said from a record that knows its task and target columns."""
    own_task, own_target = getattr(source, "task", None), getattr(source, "target", None)
    # A data frame with a column "task" has an attribute of that name too, but it is no text.
    if isinstance(own_task, str) and isinstance(own_target, str) and hasattr(source, "table"):
        task, target = task or own_task, target or own_target
        features = getattr(source, "features", None) if features is None else features
        source = source.table
    for value, role, what in (
        (task, "task", "says which task a row belongs to"),
        (target, "target", "is to be predicted"),
    ):
        if value is None:
            raise InputError(role, None, "it is not given.", f"Name the column that {what}.")
        if not isinstance(value, str):
            raise InputError(role, value, "it must be the name of one column, as text.")
    return source, task, target, features


def _choose(opened: Source, task: str, target: str, features: Any) -> list[str]:
    """Return the feature columns after checking every name."""
    opened.require(task, "task")
    opened.require(target, "target")
    if task == target:
        raise InputError("target", target, ("it is also the column of ", Setting("task"), ": they must differ."))
    if isinstance(features, str):
        raise InputError("features", features, f"it must be a list of column names, such as [{features!r}].")
    try:
        chosen = opened.others(task, target) if features is None else list(features)
    except TypeError:
        raise InputError("features", features, "it must be a list of column names, such as ['age'].") from None
    if not chosen:
        raise InputError(
            None,
            rule=f"no features are left: {opened.label} has the columns {some(opened.names, 30)}.",
            way_out=("Name with ", Setting("features"), " at least one besides task and target."),
        )
    for name in chosen:
        opened.require(name, "features")
        if name in (task, target):
            rule = f"it holds {name!r}, which is the {'task' if name == task else 'target'}."
            raise InputError("features", chosen, rule, "Leave it out.")
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise InputError("features", chosen, f"it holds {some(twice)} more than once.", "Name each column once.")
    return chosen


def _features(
    columns: Sequence[pa.ChunkedArray], names: Sequence[str], categories: str, max_levels: int
) -> tuple[Features, list[str]]:
    """Return (R, p) features and their names."""
    onehot = categories == "onehot"
    offers: Text = ""
    if not onehot:
        choice, wanted = Setting("categories", "onehot"), Setting("features")
        offers = ("Use ", choice, " for indicator columns, or name the columns you want with ", wanted, ".")
    parts: list[np.ndarray] = []
    expanded: list[str] = []
    for column, name in zip(columns, names, strict=True):
        if onehot and is_category(column):
            part, part_names = indicators(column, name, max_levels)
        else:
            part, part_names = numbers(column, name, "feature", offers), [name]
        parts.append(part)
        expanded += part_names
    twice = sorted({name for name in expanded if expanded.count(name) > 1})
    if twice:
        rule = f"one-hot columns and others are both named {some(twice)}."
        raise InputError(None, rule=rule, way_out="Rename the columns of the table.")
    x = np.empty((len(columns[0]), len(expanded)))
    at = 0
    for part in parts:
        width = 1 if part.ndim == 1 else part.shape[1]
        x[:, at : at + width] = part.reshape(len(x), width)
        at += width
    return x, expanded


def _without_constants(table: GroupedTable, on_constant: str) -> GroupedTable:
    constant = table.x.max(axis=0) == table.x.min(axis=0)
    if not constant.any():
        return table
    named = ", ".join(f"{table.feature_names[j]!r} is {table.x[0, j]:g}" for j in np.flatnonzero(constant)[:5])
    if on_constant == "raise":
        raise InputError(
            "on_constant",
            on_constant,
            f"{constant.sum()} of {table.n_features} features have one value in all rows ({named}): they tell nothing.",
            (
                "Drop them with ",
                Setting("on_constant", "drop"),
                ", or keep them with ",
                Setting("on_constant", "keep"),
                ".",
            ),
        )
    if constant.all():
        rule = f"no features are left after dropping constant ones ({named})."
        raise InputError(None, rule=rule, way_out="Choose other features.")
    kept = np.flatnonzero(~constant)
    return replace(table, x=table.x[:, kept], feature_names=tuple(table.feature_names[j] for j in kept))
