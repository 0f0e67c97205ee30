"""``undertow predict``: a saved model adapted to each task of a new table, and its predictions for the other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertow.cli.options import Decimal, Sep

_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .safetensors file: from fit --save, or Python.")]
_Table = Annotated[Path, typer.Argument(metavar="NEW_TABLE", help="A .csv or .parquet file.")]
_Task = Annotated[str | None, typer.Option(metavar="COL", help="Column of the tasks.", show_default="the model's")]
_Target = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of known targets; may be absent.", show_default="the model's"),
]
_Features = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Columns to read, for a model that was fitted without names of columns."),
]
_Weights = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of row weights; may be absent.", show_default="the model's"),
]
_Interval = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Add low and high, which hold this share of new rows, such as 0.9."),
]
_AsNew = Annotated[bool, typer.Option("--as-new", help="Treat every task as a new one.")]
_OnMissing = Annotated[str, typer.Option(help="Missing features: refuse, drop (no prediction), or mean (of training).")]
_OnUnseen = Annotated[
    str, typer.Option(help="New levels of text: refuse, skip (no prediction), or base (the first level).")
]
_File = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file.", show_default="NAME-predictions")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")]


def predict(
    model: _Model,
    table: _Table,
    task: _Task = None,
    target: _Target = None,
    features: _Features = None,
    weights: _Weights = None,
    interval: _Interval = None,
    as_new: _AsNew = False,
    on_missing: _OnMissing = "refuse",
    on_unseen: _OnUnseen = "refuse",
    sep: Sep = None,
    decimal: Decimal = None,
    out: _File = None,
    overwrite: _Overwrite = False,
) -> None:
    """Adapt a saved model to the tasks of a new table, and predict the rows whose target is not known.

    Each task adapts on its rows that have a target; a task of training keeps its training rows too.
    A new task without such a row is predicted by the common weights.

    All rows come out in their order, with a prediction and n_adapted, the number of rows that its task adapted on.
    With --interval also low and high, wider for a task without labelled rows.

    Example: undertow predict model.safetensors new_shops.csv --interval 0.9
    """
    from undertow import _check
    from undertow.choice.uncertainty import checked_level
    from undertow.cli import predict_rows as rows
    from undertow.cli.new_table import read_new
    from undertow.cli.output import say
    from undertow.cli.own_table import reading_of
    from undertow.cli.predict_words import about_model, about_rows
    from undertow.cli.saved_model import load_model
    from undertow.tasks import Reading
    from undertow.tasks.source import open_source

    _check.one_of(on_missing, "on_missing", ("refuse", "drop", "mean"))
    _check.one_of(on_unseen, "on_unseen", ("refuse", "skip", "base"))
    rows.refuse_other_kinds(model, table)
    estimator, columns = load_model(model)
    names = rows.feature_names(estimator, model, features)
    reading = Reading(**reading_of({"sep": sep, "decimal": decimal}))
    columns = columns._replace(task=task or columns.task, target=target or columns.target)
    columns = columns._replace(weights=weights or columns.weights)
    rows.check_columns(estimator, model, names, columns)
    if interval is not None:
        checked_level(interval)
    opened = open_source(table, reading)
    for name, role in ((target, "target"), (weights, "weights")):
        # The model's own columns may be absent; one that was asked for is a slip.
        if name is not None:
            opened.require(name, role)
    if task is None:
        rows.require_tasks(opened, model, columns)
    new = read_new(opened, estimator, names, columns, on_missing, on_unseen)
    rows.refuse_clash(opened, interval, columns)
    file = rows.out_file(table, out, overwrite)
    said = about_model(model, estimator, len(names))
    known = rows.known_tasks(estimator, new, as_new)
    added, n_adapted = rows.added_columns(estimator, new, interval, columns.classes)
    assert columns.task is not None  # it has been checked
    rows.write_rows(opened, file, columns.task, new, added, n_adapted)
    for line in (*said, *about_rows(estimator, names, columns, opened, new, n_adapted, known)):
        say(line)
    typer.echo(f"file: {file}")
