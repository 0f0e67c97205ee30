"""Options that commands on a table share, and arguments of the library as a command spells them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="A .csv, .parquet or .xlsx file, or a data set's name.")
]
TaskColumn = Annotated[
    str | None, typer.Option(metavar="COL", help="Column that names the task of each row; A,B joins two columns.")
]
TargetColumn = Annotated[str | None, typer.Option(metavar="COL", help="Column to predict.")]
Features = Annotated[str | None, typer.Option(metavar="A,B,...", help="Columns to predict from; left out: all others.")]
NSupport = Annotated[int, typer.Option(min=1, help="Rows that a new task brings.")]
Clip = Annotated[float, typer.Option(help="Largest standardised value of a feature; inf for no limit.")]
Categories = Annotated[
    str, typer.Option(help="Text among the features: raise (an error), or onehot (indicator columns).")
]
OnSmall = Annotated[
    str | None,
    typer.Option(
        help="Tasks with too few rows: raise (an error), or drop.", show_default="raise; drop for our data sets"
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        metavar="COL", help="Column, date or number, that orders a task's rows; its first rows are support rows."
    ),
]
TaskOrder = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        help="Column, date or number, that orders the tasks: adds errors of later tasks by fits to earlier ones.",
    ),
]
TargetKind = Annotated[
    str,
    typer.Option(help="Kind of target: number, two-valued, count (0, 1, 2, ...), or auto: recognised and printed."),
]
Weights = Annotated[
    str | None, typer.Option(metavar="COL", help="Column of row weights; the mean squared error is weighted by it too.")
]
WeightsAre = Annotated[
    str,
    typer.Option(help="Kind of weights: frequency (copies of a row) or precision (measurements behind a row)."),
]
RandomIntercept = Annotated[
    str,
    typer.Option(
        metavar="COL",
        help="Column of a second grouping, crossed with the tasks or above them: a second random intercept. outer: A "
        "of --task A,B; none: no second grouping.",
    ),
]
RandomSlopes = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Columns that tasks differ in by the mixed models; left out: all of them."),
]
Weighting = Annotated[
    str, typer.Option(help="What counts once in training and in errors: tasks (each task) or rows (each row).")
]
OnConstant = Annotated[str, typer.Option(help="Features with one value only: drop, keep or raise (an error).")]
OnMissing = Annotated[
    str, typer.Option(help="Missing values: refuse, drop (their rows), or mean (fill in the feature's mean).")
]
MaxLevels = Annotated[int, typer.Option(min=2, help="Most levels of a column of text that indicators are made of.")]
Categorical = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Columns of coded numbers to make indicators of, as of text.")
]
Formula = Annotated[
    str | None,
    typer.Option(
        metavar="'Y ~ X + (1 | G)'",
        help="Target, columns made of others, tasks and a second grouping, in place of --task, --target, --features; "
        "needs the extra 'formula'.",
    ),
]
Sep = Annotated[str | None, typer.Option(metavar="C", help="Separator of columns.", show_default="recognised")]
Decimal = Annotated[str | None, typer.Option(metavar="C", help="Decimal mark, . or ,", show_default="recognised")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds and draws.")]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="Number the tasks: no file holds an id of a task.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write an .html report; needs the extra 'report'.")]

# Argument of the library -> parameter of a command, where their names differ.
_NAMES = {"cv": "folds", "n_folds": "folds", "n_draws": "draws", "n_repeats": "repeats", "source": "table"}
# Of these None means no limit.
_LIMITS = ("clip", "time_limit")
# Commands whose settings stand in a file, under the names that the library has for them.
_OF_A_FILE = ("train",)


def spell(name: str, value: Any, command: Any) -> str:
    """Return an argument of the library, with its value, as the option of a click command.

    An argument that the command has no option for is said in plain words. value: None where it is not to be said.
    """
    if name == "min_rows" and value is not None:
        # A command asks for support rows; one row more is the least that a task needs.
        name, value = "n_support", value - 1
    of_name = {one.name: one for one in command.params}
    found = of_name.get(name) or of_name.get(_NAMES.get(name, ""))
    if found is not None and found.param_type_name == "argument":
        return repr(str(value)) if value is not None else str(found.metavar or name)
    if found is not None and isinstance(value, bool):
        return str(found.opts[0] if value else (found.secondary_opts or found.opts)[0])
    if found is not None:
        return str(found.opts[0]) + ("" if value is None else f" {_text(name, value)}")
    if command.name in _OF_A_FILE:
        return name if value is None else f"{name}={value!r}"
    # What is no name of an argument is an option, or a sentence.
    words = name.replace("_", " ") if name.isidentifier() else name
    return words if value is None else f"{words} {_text(name, value)}"


def _text(name: str, value: Any) -> str:
    """Return a value as it is typed, quoted where a shell or a reader would part it."""
    if name in _LIMITS and value == "None":
        return "inf"
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if re.fullmatch(r"[\w.,:/+-]+", text) else repr(text)
