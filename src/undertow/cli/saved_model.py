"""Model files of the commands: a saved estimator, with the columns of the table it was fitted to as its notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from undertow.estimators.base import MetaEstimator

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


def save_model(estimator: MetaEstimator, file: Path, columns: Columns) -> None:
    """Write a fitted estimator with its columns, at once or not at all."""
    from undertow.estimators.saving import save

    save(estimator, file, notes={_KEY: columns._asdict()})


def load_model(file: Path) -> tuple[Any, Columns]:
    """Return a saved estimator and its columns; those of an estimator saved from Python are not known."""
    from undertow.estimators.saving import load

    return load(file), read_columns(file)


def read_columns(file: Path) -> Columns:
    """Return the columns that ``save_model`` kept; raise InputError for a file that is damaged."""
    from undertow._check import InputError
    from undertow.estimators.saving import read_notes

    kept = read_notes(file).get(_KEY)
    if kept is None:
        return Columns()
    try:
        found = Columns(**kept)
        names = [name for name in (found.task, found.target) if name is not None]
        both = [*found.levels.items(), *found.unseen.items()]
        labels = [label for column, some in both for label in (column, *some)]
        if not all(isinstance(one, str) for one in names + labels) or not all(found.levels.values()):
            raise TypeError("names of columns that are no text")
    except (TypeError, AttributeError) as error:
        raise InputError(f"{str(file)!r} is no model file, or was changed ({error}): save the model again.") from error
    return found


def levels_of(
    source: Any, feature_columns: list[str], rows: np.ndarray
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return ``levels`` and ``unseen`` of the text columns among the features, as read_table makes indicators of them.

    rows: numbers of the rows that were kept. Indicators are made of all rows, before small tasks are left out.
    """
    import numpy as np

    from undertow.tasks.columns import codes_of, is_category
    from undertow.tasks.source import open_source

    opened = open_source(getattr(source, "table", source))
    levels: dict[str, list[str]] = {}
    unseen: dict[str, list[str]] = {}
    for name, column in zip(feature_columns, opened.fetch(feature_columns), strict=True):
        if not is_category(column):
            continue
        codes, labels = codes_of(column, name, "feature")
        levels[name] = [str(level) for level in labels.tolist()]
        absent = np.setdiff1d(np.arange(len(labels)), codes[rows])
        if len(absent):
            unseen[name] = [levels[name][i] for i in absent]
    return levels, unseen
