"""The rows of a new table as ``undertow predict`` takes them: what is refused, what is predicted, what is written."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from undertow._check import InputError, Setting, did_you_mean
from undertow._write import whole
from undertow.cli.new_table import NewTable, as_spelled, as_typed, write_csv
from undertow.cli.output import check_file
from undertow.cli.saved_model import Columns
from undertow.tasks import labels
from undertow.tasks.source import Source
from undertow.tasks.task_columns import split_names, task_names
from undertow.tasks.wording import some

_OUT = (".csv", ".parquet")
_ADDED = ("prediction", "n_adapted")
_ENDS = ("low", "high")
_PROBABILITY = "probability"


def added_columns(
    estimator: Any, new: NewTable, interval: float | None, classes: tuple[str, ...]
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Columns that the command adds, and the number of rows that each row's task adapted on."""
    with warnings.catch_warnings():
        # Ids that look like known ones are named in words of this command.
        warnings.filterwarnings("ignore", message=".* spelled almost as known ones", category=UserWarning)
        found, n_adapted = predictions(estimator, new, interval, probability=bool(classes))
    if classes:
        return _likelier(found[:, 0], classes), n_adapted
    names = ("prediction", *_ENDS)
    return dict(zip(names, (_as_column(estimator, column) for column in found.T), strict=False)), n_adapted


def refuse_other_kinds(model: Path, table: Path) -> None:
    """Raise InputError for folders, and for a model and a table that were swapped."""
    way_out = "Write: undertow predict model.safetensors new_table.csv"
    if model.suffix.lower() in (".csv", ".tsv", ".parquet", ".xlsx", ".gz"):
        raise InputError(None, rule=f"{str(model)!r} is a table, and the model comes first.", way_out=way_out)
    if table.suffix.lower() == ".safetensors":
        raise InputError(None, rule=f"{str(table)!r} is a model, and the new table comes second.", way_out=way_out)
    for role, file in (("model", model), ("new table", table)):
        if file.is_dir():
            raise InputError(None, rule=f"The {role} {str(file)!r} is a directory.", way_out="Give one file.")


def check_columns(estimator: Any, model: Path, names: list[str], columns: Columns) -> None:
    """Raise InputError where a column has no role, or two."""
    if columns.task is None:
        raise InputError(
            None,
            rule=f"{model} does not say which column holds the tasks.",
            way_out=("Give ", Setting("task"), " COL."),
        )
    if not hasattr(estimator, "classes_") and estimator.model_.n_targets > 1:
        raise InputError(
            None,
            rule=f"{model} predicts {estimator.model_.n_targets} targets, and this command one.",
            way_out="Load it in Python with undertow.estimators.load.",
        )
    encoding = columns.encoding(names)
    if list(encoding.columns_made) != names:
        raise InputError("model", model, "its formula makes other columns than it was fitted to.", "Save it again.")
    read = encoding.columns()
    for role, column in (("task", columns.task), ("target", columns.target)):
        if column in read:
            rule = f"it is a feature of the model, and cannot be the {role} column too."
            raise InputError(role, column, rule, "Choose another.")
    if columns.task == columns.target:
        both = (Setting("task"), " and ", Setting("target"), f" are both {columns.task!r}: they must be two columns.")
        raise InputError(None, rule=both)


def require_tasks(opened: Source, model: Path, columns: Columns) -> None:
    """Raise InputError where the table lacks a column of tasks that the model, and nobody else, has named."""
    assert columns.task is not None  # it has been checked
    for name in task_names(opened.names, columns.task):
        if name not in opened.names:
            rule = f"{opened.label} has no column {name!r}, in which {model} has the tasks."
            there = f". The columns are {some(opened.names, 30)}.{did_you_mean(name, opened.names)}"
            raise InputError(None, rule=rule, way_out=("Name another with ", Setting("task"), there))


def refuse_clash(opened: Source, interval: float | None, columns: Columns) -> None:
    """Raise InputError where the table has a column that the command adds, or an interval makes no sense."""
    if columns.classes and interval is not None:
        rule = "the target has two values, and what is predicted is a probability."
        raise InputError("interval", interval, rule, "Leave it out.")
    added = (*_ADDED, *(() if interval is None else _ENDS), *((_PROBABILITY,) if columns.classes else ()))
    clash = [name for name in added if name in opened.names]
    if clash:
        rule = f"{opened.label} has a column {clash[0]!r} already, and the command adds one."
        raise InputError(None, rule=rule, way_out="Rename it.")


def _likelier(found: np.ndarray, classes: tuple[str, ...]) -> dict[str, pa.Array]:
    """The likelier of two labels in each row (R,), and the probability of the second; null where none is predicted."""
    likelier = [None if one is None else classes[one >= 0.5] for one in found.tolist()]
    return {"prediction": pa.array(likelier, pa.string()), _PROBABILITY: pa.array(found.tolist(), pa.float64())}


def _as_column(estimator: Any, found: np.ndarray) -> pa.Array:
    """Predictions as Arrow keeps them, in the kind of the targets."""
    kind = estimator.classes_.dtype if hasattr(estimator, "classes_") else np.dtype(np.float64)
    return pa.array(found.tolist(), pa.from_numpy_dtype(kind) if kind.kind in "iufb" else pa.string())


def feature_names(estimator: Any, model: Path, features: str | None) -> list[str]:
    """Names of the columns that the model reads, in its order."""
    given = None if features is None else split_names((), features)
    own = getattr(estimator, "feature_names_in_", None)
    if own is not None:
        if given is not None:
            raise InputError("features", given, f"{model} knows its features by name.", "Leave the option out.")
        # Rows are handed over as arrays, with the columns in the model's order.
        del estimator.feature_names_in_
        return [str(name) for name in own]
    p = estimator.n_features_in_
    if given is None:
        raise InputError(
            None,
            rule=f"{model} was fitted to an array of {p} columns without names.",
            way_out=("Say with ", Setting("features"), " A,B,... which columns these are, in the same order."),
        )
    if len(given) != p or len(set(given)) < p:
        raise InputError("features", given, f"these are {len(set(given))} columns: {model} was fitted to {p}.")
    return given


def out_file(table: Path, out: Path | None, overwrite: bool) -> Path:
    """Where the predictions go; InputError where that cannot be, or where something would be lost."""
    stem = re.sub(r"(\.csv|\.tsv|\.parquet|\.xlsx)?(\.gz)?$", "", table.name)
    suffix = ".parquet" if table.suffix == ".parquet" else ".csv"
    file = Path(f"{stem}-predictions{suffix}") if out is None else out
    check_file(file, "out", _OUT)
    if file.exists() and table.exists() and file.samefile(table):
        raise InputError("out", file, "this is the table itself.", "Choose another name.")
    if file.exists() and not overwrite:
        way_out = ("Choose another name, or give ", Setting("overwrite"), ".")
        raise InputError("out", file, "the file is there already.", way_out)
    return file


def known_tasks(estimator: Any, new: NewTable, as_new: bool) -> np.ndarray:
    """Whether the estimator knows each task (m,) of the new table; with ``as_new`` it is made to forget its own."""
    if as_new:
        estimator.publish(estimator.model_.without_tasks())
    model = estimator.model_
    if not model.knows_tasks:
        return np.zeros(len(new.ids), dtype=bool)
    return labels.places(model.task_ids, new.ids) >= 0


def predictions(
    estimator: Any, new: NewTable, interval: float | None = None, probability: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Prediction of each row (R, 1), None where it has a target or lacks a feature, and rows adapted on (R,).

    With ``interval`` (R, 3): also the ends of the interval that is to hold this share of new rows. probability: of the
    larger of two values, in place of the prediction.
    A task that the estimator knows keeps what it was fitted to, and its rows here are added. Rows without a task are
    predicted by the common weights.
    """
    has_task = new.codes >= 0
    support = np.flatnonzero(new.complete & new.labelled & has_task)
    query = new.complete & ~new.labelled
    n_adapted = np.append(np.bincount(new.codes[support], minlength=len(new.ids)), 0)[new.codes]
    if len(support):
        assert new.y is not None  # rows have a target
        weights = None if new.weights is None else new.weights[support]
        groups, of_level = new.ids[new.codes[support]], None if new.levels is None else new.levels[support]
        estimator = estimator.adapt(new.x[support], new.y[support], weights, groups=groups, levels=of_level)
    found = np.full((len(new.codes), 1 if interval is None else 3), None, dtype=object)
    for rows, groups in ((query & has_task, new.ids), (query & ~has_task, None)):
        if rows.any():
            of_rows = None if groups is None else groups[new.codes[rows]]
            of_level = None if new.levels is None else new.levels[rows]
            if probability:
                where = None if groups is None else labels.places(estimator.model_.task_ids, groups)[new.codes[rows]]
                values = estimator.model_.probabilities(new.x[rows], where)
            else:
                values = estimator.predict(new.x[rows], of_rows, interval=interval, levels=of_level)
            for j, column in enumerate([values] if interval is None else values):
                # A model of one target may keep a second axis for it.
                found[rows, j] = column.ravel().tolist()
    return found, n_adapted


def write_rows(
    opened: Source, file: Path, task: str, new: NewTable, found: dict[str, pa.Array], n_adapted: np.ndarray
) -> None:
    """Write the rows with the columns that are added, at once or not at all."""
    csv = file.suffix.lower() == ".csv"
    rows = as_spelled(opened) if csv else as_typed(opened, task, new.task_labels)
    for name, values in (found | {"n_adapted": pa.array(n_adapted)}).items():
        rows = rows.append_column(name, values)
    with whole(file) as beside:
        if csv:
            write_csv(rows, beside, opened)
        else:
            pq.write_table(rows, beside)
