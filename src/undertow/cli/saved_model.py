"""Model files of the commands: a saved estimator, and beside its own header the columns of the table it was fitted to.

The columns are one more entry of the metadata of the safetensors file, which ``undertow.linear.saving.load`` passes by.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from undertow.linear.estimator_base import MAMLBase

_KEY = "undertow.table"


class Columns(NamedTuple):
    """What a command has to know of the table that a model was fitted to."""

    task: str | None = None
    """name of the task column"""
    target: str | None = None
    """name of the target column"""
    levels: dict[str, list[str]] = {}  # noqa: RUF012  (never changed)
    """text column -> its levels, sorted; the first has no indicator feature of its own"""


def save_model(estimator: MAMLBase, file: Path, columns: Columns) -> None:
    """Write a fitted estimator with its columns, at once or not at all."""
    from safetensors import safe_open
    from safetensors.numpy import save as to_bytes

    from undertow.linear.saving import save

    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        save(estimator, beside)
        with safe_open(str(beside), framework="numpy") as saved:
            arrays = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118  (not a dict)
            metadata = dict(saved.metadata())
        metadata[_KEY] = json.dumps(columns._asdict(), allow_nan=False)
        beside.write_bytes(to_bytes(arrays, metadata=metadata))
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def load_model(file: Path) -> tuple[Any, Columns]:
    """Return a saved estimator and its columns; those of an estimator saved from Python are not known."""
    from undertow.linear.saving import load

    return load(file), read_columns(file)


def read_columns(file: Path) -> Columns:
    """Return the columns that ``save_model`` kept; raise InputError for a file that is damaged."""
    from safetensors import SafetensorError, safe_open

    from undertow._check import InputError

    try:
        with safe_open(str(file), framework="numpy") as saved:
            text = (saved.metadata() or {}).get(_KEY)
        if text is None:
            return Columns()
        kept = Columns(**json.loads(text))
        names = [name for name in (kept.task, kept.target) if name is not None]
        labels = [label for column, some in kept.levels.items() for label in (column, *some)]
        if not all(isinstance(one, str) for one in names + labels) or not all(kept.levels.values()):
            raise TypeError("names of columns that are no text")
    except (SafetensorError, ValueError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{str(file)!r} is no model file, or was changed ({error}): save the model again.") from error
    return kept


def levels_of(source: Any, feature_columns: list[str]) -> dict[str, list[str]]:
    """Return the levels of the text columns among the features, as read_table makes indicators of them."""
    from undertow.tasks.columns import codes_of, is_category
    from undertow.tasks.source import open_source

    opened = open_source(getattr(source, "table", source))
    return {
        name: [str(level) for level in codes_of(column, name, "feature")[1].tolist()]
        for name, column in zip(feature_columns, opened.fetch(feature_columns), strict=True)
        if is_category(column)
    }
