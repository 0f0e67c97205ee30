"""From a grouped table to tasks: read_table for all of it, from_table for one batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting, Text
from undertow._memory import require_to_read
from undertow.tasks import drawing
from undertow.tasks.copies import said_copies
from undertow.tasks.encoding import Encoding
from undertow.tasks.formula import Formula
from undertow.tasks.gaps import means_of, settle
from undertow.tasks.grouped import GroupedTable
from undertow.tasks.labels import numbered, said_alike, said_alike_levels
from undertow.tasks.reading import Reading, TableNote
from undertow.tasks.restarting import find_restart
from undertow.tasks.row_columns import moments_in_time, row_weights, said_codes, said_row_numbers, weighted
from undertow.tasks.source import Source, open_source
from undertow.tasks.targets import read_target
from undertow.tasks.task_columns import task_codes, task_names
from undertow.tasks.wording import some


def read_table(
    source: Any,
    task: str | Sequence[str] | None = None,
    target: str | None = None,
    features: Iterable[str] | None = None,
    *,
    min_rows: int = 1,
    on_small: str = "raise",
    **options: Any,
) -> GroupedTable:
    """Return a table's rows as arrays sorted by task, or raise InputError with the fault and the way out.

    Parameters
    ----------
    source
        a pandas, polars or Arrow table, the path of a file (.csv, .csv.gz, .tsv, .tsv.gz, .parquet; .xlsx with the
        extra "excel"), or a record with attributes ``table``, ``task``, ``target`` (such as those of
        undertow.datasets), which then are the defaults.
    task
        the column that says which task a row belongs to: text, whole numbers, categories, dates. Several columns,
        such as ["school", "class"] or "school,class", are one id, "school 3, class 1": for ids that start anew in
        each school. Where ids seem to do so and one column alone is named, a note says it (``restarting``).
    target
        the column to predict: numbers, or labels of two values with target_kind="two-valued".
    features
        the columns to predict from; None for all others. Numbers and booleans; a categorical of numbers counts as
        its numbers, a date as its days since 1970-01-01.
    min_rows, on_small
        what to do with tasks of fewer than ``min_rows`` rows: "raise" or "drop".
    options
        formula, sep, decimal, categories, categorical, max_levels, on_missing, order, task_order, weights,
        weights_are, target_kind, random_intercept, on_constant, anonymous, as in ``Reading``.

    Notes
    -----
    What is done to the table is said by a ``TableNote`` warning each, and kept in ``notes``. Labels are compared as a
    text file spells them: "01" and "1", or "true" and "TRUE", stay two tasks, and labels that differ by case, spaces or
    leading zeros only are named.

    Examples
    --------
    >>> import undertow as ut
    >>> ut.tasks.read_table(ut.datasets.load_radon())
    GroupedTable(85 tasks (county) of 1 to 116 rows, 919 rows, 2 features, target log.radon)
    """
    asked = Setting("min_rows", _check.whole_number(min_rows, "min_rows"))
    return _noted(_read(source, task, target, features, Reading.of(options), asked, on_small))


def from_table(
    frame: Any,
    task: str | Sequence[str] | None = None,
    target: str | None = None,
    n_support: int = 5,
    seed: Any = 0,
    features: Iterable[str] | None = None,
    *,
    on_small: str = "raise",
    **options: Any,
) -> TaskBatch:
    """Return one batch with a random choice of ``n_support`` support rows for each task of a table.

    Features and target are the raw values: nothing is standardised and no intercept is added. To have both,
    write ``read_table(...).standardized()[0].with_intercept().draw(...)``. Arguments are those of read_table
    and of GroupedTable.draw; tasks with fewer than n_support + 1 rows raise InputError, or are left out by
    on_small="drop".

    Parameters
    ----------
    frame, task, target, features
        as in ``read_table``.
    n_support
        support rows of every task.
    seed
        of the draw, as in ``GroupedTable.draw``.
    on_small
        a task needs n_support + 1 rows: "raise" names those that have fewer, "drop" leaves them out.
    options
        those of ``Reading``, by name.

    Examples
    --------
    >>> import undertow as ut
    >>> ut.tasks.from_table(ut.datasets.load_gapminder(), n_support=4, seed=0).query_x.shape
    (142, 8, 3)
    """
    n_support = _check.whole_number(n_support, "n_support")
    _check.one_of(on_small, "on_small", ("raise", "drop"))
    # Small tasks come before features: in a table of one row every feature is constant, which is not what is wrong.
    asked = Setting("n_support", n_support)
    table = _noted(_read(frame, task, target, features, Reading.of(options), asked, on_small))
    return table.draw(n_support, seed, on_small=on_small)


def _noted(table: GroupedTable) -> GroupedTable:
    for note in table.notes:
        warnings.warn(note, TableNote, stacklevel=3)
    return table


def _read(
    source: Any, task: Any, target: Any, features: Any, reading: Reading, asked: Setting, on_small: str
) -> GroupedTable:
    """Return what read_table does; ``asked`` is what asks for rows of each task, ``min_rows`` or ``n_support``."""
    formula = None if reading.formula is None else Formula.parse(reading.formula)
    if formula is not None:
        source = source.table if _has_roles(source) else source
        task, target, features, reading = formula.roles(task, target, features, reading)
    source, task, target, features = _with_defaults(source, task, target, features)
    opened = open_source(source, reading)
    for name in () if formula is None else formula.columns:
        opened.require(name, "formula")
    tasks = task_names(opened.names, task)
    for role in ("order", "task_order", "weights"):
        if getattr(reading, role) == target:
            raise InputError(role, target, "it is the target, which is to be predicted.", "Name another column.")
    second = _second(opened, tasks, target, reading)
    chosen = _choose(opened, tasks, target, features, reading.weights, second)
    for name in reading.categorical:
        if name not in chosen:
            opened.require(name, "categorical")
            raise InputError("categorical", list(reading.categorical), f"{name!r} is no feature.", "Leave it out.")
    require_to_read(opened.label, opened.n_rows, len(chosen) + 2)
    codes, ids = task_codes(opened, tasks)
    if len(codes) == 0:
        raise InputError(None, rule=f"{opened.label} has no rows: there is nothing to learn from.")
    require_to_read(opened.label, len(codes), len(chosen) + 2)
    outcome = read_target(opened, target, reading.target_kind)
    if outcome.classes and reading.random_intercept == "outer":
        second = []  # of classes there is none, and nobody has asked for it
    restart = find_restart(opened, _unnamed(opened, tasks, target, reading), codes, outcome.values)
    hint: dict[str, Text] = {}
    if restart is not None:
        both = Setting("task", [restart.column, *tasks])
        named = f" Ids of {','.join(tasks)!r} may start anew in each: join them with "
        hint[restart.column] = (named, both, ".")
    encoding, x, notes = Encoding.fit(opened, chosen, reading, hint)
    # Columns that were read are given back to the system, which Arrow would keep for more.
    pa.default_memory_pool().release_unused()
    said = [*opened.notes]
    if restart is not None:
        said.append(restart.said(tasks, target))
    spelled = [f"{target!r}: {outcome.said}"] * bool(outcome.said) + list(notes)
    if spelled:
        said.append("read as numbers: " + "; ".join(spelled[:6]) + ("; ..." if len(spelled) > 6 else ""))
    said += said_alike_levels(encoding.levels)
    if features is None:
        said += said_row_numbers(x, encoding.features)
        said += said_codes(opened, x, encoding.features, encoding.dates)
    name = ",".join(tasks)
    others = {f"task column {name!r}": codes < 0, f"target {target!r}": np.isnan(outcome.values)}
    moments = None if reading.order is None else moments_in_time(opened, reading.order)
    if moments is not None:
        others[f"order {reading.order!r}"] = np.isnan(moments)
    came = None if reading.task_order is None else moments_in_time(opened, reading.task_order, "task_order")
    if came is not None:
        others[f"task_order {reading.task_order!r}"] = np.isnan(came)
    weights = None if reading.weights is None else row_weights(opened, reading.weights)
    if weights is not None:
        others[f"weights {reading.weights!r}"] = np.isnan(weights)
    of_level, level_ids = task_codes(opened, second) if second else (codes, ids)
    if second:
        others[f"random_intercept {','.join(second)!r}"] = of_level < 0
    kept, columns = settle(encoding, x, others, reading, said)
    if weights is not None:
        kept = weighted(kept, weights, reading, said)
    if moments is not None:
        kept = kept[np.argsort(moments[kept], kind="stable")]
        said.append(f"the first rows of each {','.join(tasks)} by {reading.order} are its support rows")
    named = tuple(np.array(encoding.features, dtype=object)[columns].tolist())
    # A copy that changes nothing is left out: of a large table it is what a machine may lack.
    x = x if columns.all() else x[:, columns]
    x = x if len(kept) == len(x) and moments is None else x[kept]
    table = GroupedTable.from_codes(x, outcome.values[kept], codes[kept], ids, named, name, target)
    del x
    several = tuple(tasks) if len(tasks) > 1 else ()
    table = replace(table, rows=kept[table.rows], in_order=moments is not None, task_columns=several)
    table = replace(table, target_kind=outcome.kind, classes=outcome.classes)
    if weights is not None:
        table = replace(
            table, weights=weights[table.rows], weights_are=reading.weights_are, weights_from=reading.weights
        )
    if came is not None:
        table = replace(table, moments=came[table.rows])
    if second:
        used = of_level[table.rows]
        table = replace(table, levels=level_ids[used], levels_from=tuple(second))
        there = level_ids[np.unique(used)]
        said.append(f"a random intercept for {len(there)} levels of {','.join(second)}")
        said += said_alike_levels({} if reading.anonymous else {",".join(second): there})
    lost = np.flatnonzero(table.counts == 0)
    if len(lost):
        which = "" if reading.anonymous else f": {some(ids[lost])}"
        said.append(f"{len(lost)} of {len(ids)} tasks lost with these rows{which}")
        table = table.select(table.counts > 0)
    note = said_alike(ids, name)
    note = note.partition(": ")[0] if reading.anonymous else note
    n_query = int(asked.name == "n_support")
    large = drawing.enough_rows(table.counts, table.ids, asked, on_small, n_query, note)
    if len(large) < table.n_tasks:
        table = replace(table.select(large), n_left_out=table.n_tasks - len(large))
    means = means_of(table.x)
    if (gaps := np.isnan(table.x)).any():
        table = replace(table, x=np.where(gaps, means, table.x))
    if formula is not None:
        encoding, x = encoding.of_formula(formula, table.feature_names, table.x, table.rows)
        formula = replace(formula, random_slopes=encoding.slopes_of(formula, table.feature_names, table.x))
        table = replace(table, x=x, feature_names=encoding.columns_made, formula=formula)
    table = _without_constants(table, reading.on_constant, said)
    said += [note] * bool(note) + said_copies(table)
    encoding = encoding.restricted(table.feature_names, dict(zip(named, means, strict=True)), opened, table.rows)
    if reading.anonymous:
        table = replace(table, ids=numbered(table.n_tasks))
    return replace(table, notes=tuple(said), encoding=encoding)


def _with_defaults(source: Any, task: Any, target: Any, features: Any) -> tuple[Any, Any, str, Any]:
    """Take what is not said from a record that knows its task and target columns."""
    if _has_roles(source):
        task, target = task or source.task, target or source.target
        features = getattr(source, "features", None) if features is None else features
        source = source.table
    for value, role, what in (
        (task, "task", "says which task a row belongs to"),
        (target, "target", "is to be predicted"),
    ):
        if value is None:
            raise InputError(role, None, "it is not given.", f"Name the column that {what}.")
        if not isinstance(value, str) and not (role == "task" and _are_names(value)):
            raise InputError(role, value, "it must be the name of one column, as text.")
    return source, task, target, features


def _has_roles(source: Any) -> bool:
    own = getattr(source, "task", None), getattr(source, "target", None)
    # A data frame with a column "task" has an attribute of that name too, but it is no text.
    return all(isinstance(one, str) for one in own) and hasattr(source, "table")


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(one, str) for one in value)


def _unnamed(opened: Source, tasks: Sequence[str], target: str, reading: Reading) -> list[str]:
    """Columns without a role of their own."""
    return [
        name for name in opened.names if name.strip() and name not in (*tasks, target, reading.order, reading.weights)
    ]


def _second(opened: Source, tasks: Sequence[str], target: str, reading: Reading) -> list[str]:
    """Columns of the second grouping; none where there is none."""
    name = reading.random_intercept
    if name is None or (name == "outer" and name not in opened.names):
        return list(tasks[:-1]) if name else []
    opened.require(name, "random_intercept")
    for role, taken in (("task", list(tasks) if len(tasks) == 1 else []), ("target", [target])):
        if name in taken:
            raise InputError("random_intercept", name, f"it is the {role}.", "Name another column.")
    return [name]


def _choose(
    opened: Source, tasks: Sequence[str], target: str, features: Any, weights: str | None, second: Sequence[str]
) -> list[str]:
    """Return the feature columns after checking every name."""
    for name in tasks:
        opened.require(name, "task")
    opened.require(target, "target")
    if target in tasks:
        raise InputError("target", target, ("it is also the column of ", Setting("task"), ": they must differ."))
    if len(set(tasks)) < len(tasks):
        raise InputError("task", list(tasks), "it names a column more than once.")
    if isinstance(features, str):
        raise InputError("features", features, f"it must be a list of column names, such as [{features!r}].")
    try:
        chosen = opened.others(*tasks, target, weights, *second) if features is None else list(features)
    except TypeError:
        raise InputError("features", features, "it must be a list of column names, such as ['age'].") from None
    if not chosen:
        roles = {**dict.fromkeys(second, "random intercept"), weights: "weights", target: "target"}
        roles |= dict.fromkeys(tasks, "task")
        taken = ", ".join(f"{name!r} is the {role}" for name, role in roles.items() if name is not None)
        raise InputError(
            None,
            rule=f"no features are left: {opened.label} has the columns {some(opened.names, 30)}, of which {taken}.",
            way_out=("Name with ", Setting("features"), " at least one besides these."),
        )
    for name in chosen:
        opened.require(name, "features")
        if name in (*tasks, target, weights, *second):
            role = "target" if name == target else "task" if name in tasks else "column of weights"
            role = "column of the random intercept" if name in second and name not in tasks else role
            rule = f"it holds {name!r}, which is the {role}."
            raise InputError("features", chosen, rule, "Leave it out.")
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise InputError("features", chosen, f"it holds {some(twice)} more than once.", "Name each column once.")
    return chosen


def _without_constants(table: GroupedTable, on_constant: str, said: list[str]) -> GroupedTable:
    if on_constant == "keep":
        return table
    constant = table.x.max(axis=0) == table.x.min(axis=0)
    if not constant.any():
        return table
    named = ", ".join(f"{table.feature_names[j]!r} is {table.x[0, j]:g}" for j in np.flatnonzero(constant)[:5])
    if on_constant == "raise":
        raise InputError(
            "on_constant",
            on_constant,
            f"{constant.sum()} of {table.n_features} features have one value in all rows ({named}): they say nothing.",
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
    said.append(f"left out, since they have one value in all rows: {named}{', ...' if constant.sum() > 5 else ''}")
    kept = np.flatnonzero(~constant)
    return replace(table, x=table.x[:, kept], feature_names=tuple(table.feature_names[j] for j in kept))
