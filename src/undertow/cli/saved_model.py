"""Model files of the commands: a saved estimator, with the columns of the table it was fitted to as its notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from undertow._check import InputError
from undertow.estimators.base import MetaEstimator
from undertow.estimators.saved_checks import conform
from undertow.estimators.saving import load, read_notes, save
from undertow.tasks import Encoding, GroupedTable
from undertow.tasks.made import Made

_KEY = "table"


class Columns(NamedTuple):
    """What a command has to know of the table that a model was fitted to."""

    task: str | None = None
    """name of the task column"""
    target: str | None = None
    """name of the target column"""
    levels: dict[str, list[str]] = {}  # noqa: RUF012  (never changed)
    """text column -> the levels that indicators were made of, sorted; the first has no indicator of its own"""
    unseen: dict[str, list[str]] = {}  # noqa: RUF012  (never changed)
    """text column -> those of its levels that no training row had, since the tasks with them were left out"""
    dates: tuple[str, ...] = ()
    """columns of dates, which are read as days since 1970-01-01"""
    task_columns: tuple[str, ...] = ()
    """columns that the tasks' ids name, where there are several"""
    anonymous: bool = False
    """whether the model was saved without its tasks"""
    weights: str | None = None
    """column of row weights"""
    classes: tuple[str, ...] = ()
    """labels of the target that are 0 and 1; none unless it has two values"""
    random_intercept: tuple[str, ...] = ()
    """columns of a second grouping"""
    formula: dict[str, Any] | None = None
    """columns that a formula made, as ``Made.to_dict``, and the means of those it read; None without a formula"""

    def encoding(self, names: list[str], means: tuple[float, ...] = ()) -> Encoding:
        """Return how the features ``names`` (p,) of the model are made. means: (p,) theirs in training."""
        if self.formula is None:
            return Encoding(tuple(names), means, self.levels, self.unseen, tuple(self.dates))
        made = Made.from_dict({key: self.formula[key] for key in self.formula if key != "means"})
        means = tuple(self.formula["means"])
        return Encoding(made.features, means, self.levels, self.unseen, tuple(self.dates), made)


def save_model(estimator: MetaEstimator, file: Path, columns: Columns) -> None:
    """Write a fitted estimator with its columns, at once or not at all."""
    save(estimator, file, notes={_KEY: columns._asdict()}, anonymous=columns.anonymous)


def save_fitted(estimator: MetaEstimator, file: Path, raw: GroupedTable, anonymous: bool) -> None:
    """Write the estimator that a command has fitted to its table, with the columns and levels of the table."""
    encoding = raw.encoding
    assert encoding is not None  # a command has read the table
    kinds = encoding.levels, encoding.unseen, encoding.dates
    formula = None if encoding.made is None else encoding.made.to_dict() | {"means": list(encoding.means)}
    second = raw.weights_from, raw.classes, raw.levels_from, formula
    save_model(estimator, file, Columns(raw.task, raw.target, *kinds, raw.task_columns, anonymous, *second))


def load_model(file: Path) -> tuple[Any, Columns]:
    """Return a saved estimator and its columns; those of an estimator saved from Python are not known."""
    return load(file), read_columns(file)


def read_columns(file: Path) -> Columns:
    """Return the columns that ``save_model`` kept; raise InputError for a file that is damaged."""
    kept = read_notes(file).get(_KEY)
    if kept is None:
        return Columns()
    try:
        found = Columns(**kept)
        found = found._replace(dates=tuple(found.dates), task_columns=tuple(found.task_columns))
        found = found._replace(classes=tuple(found.classes))
        found = found._replace(random_intercept=tuple(found.random_intercept))
        names = [name for name in (found.task, found.target, found.weights) if name is not None]
        both = [*found.levels.items(), *found.unseen.items()]
        labels = [label for column, some in both for label in (column, *some)] + [
            *found.dates,
            *found.task_columns,
            *found.classes,
            *found.random_intercept,
        ]
        if not all(isinstance(one, str) for one in names + labels) or not all(found.levels.values()):
            raise TypeError("names of columns that are no text")
        if len(found.classes) not in (0, 2):
            raise TypeError("a target of other than two labels")
        if not isinstance(found.anonymous, bool):
            raise TypeError("'anonymous' that is neither true nor false")
        if found.formula is not None:
            means = found.encoding([]).means
            conform(list(means), list[float], "means")
            if len(means) != len(found.formula["features"]):
                raise TypeError("means of other columns")
    except (TypeError, AttributeError, ValueError, LookupError) as error:
        raise InputError("model", file, f"it is no model file, or was changed ({error}).", "Save it again.") from error
    return found
