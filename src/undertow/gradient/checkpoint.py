"""Checkpoints: arrays in a safetensors file, everything else in a JSON file. No pickle, and never half a file.

A checkpoint is a folder. ``state.json`` names the file with the arrays and is replaced last, in one step, so that a
run killed at any moment leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors import SafetensorError
from safetensors.numpy import load, save

from undertow import _check
from undertow._check import InputError
from undertow._plain import checksum
from undertow._version import __version__
from undertow._write import write_bytes
from undertow.gradient.leaves import Tree

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state, so that it goes on from there when it is stopped.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.Checkpoint("run", every=500).every
    500
    """

    folder: str | Path
    """a folder; one that holds a checkpoint of the same settings is gone on from"""
    every: int = 1000
    """updates between two checkpoints; one more is written at the end"""

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise InputError("checkpoint", self.folder, "it must be a folder, or Checkpoint(folder, every).")
        if Path(self.folder).is_file():
            raise InputError("checkpoint", str(self.folder), "it must be a folder, and is a file.")
        _check.whole_number(self.every, "every")


def versions() -> dict[str, str]:
    """What wrote a checkpoint."""
    return {
        "undertow": __version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }


def save_checkpoint(folder: Path, iteration: int, trees: dict[str, Tree], facts: dict[str, Any]) -> None:
    """Write named trees of arrays and JSON facts; the checkpoint before is deleted when the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(leaf, order="C") for name, leaf in _named(trees).items()}
    file = f"arrays-{iteration:010d}.safetensors"
    data = save(arrays)
    write_bytes(folder / file, data)
    record = {"format": FORMAT, "arrays": file, "iteration": iteration, **facts, "versions": versions()}
    record["sha256"] = _sha256(data)
    # Of all that the record says, the checksum of the arrays included.
    record["checksum"] = checksum(record)
    write_bytes(folder / "state.json", (json.dumps(record, indent=1) + "\n").encode())
    for old in folder.glob("arrays-*.safetensors"):
        if old.name != file:
            old.unlink()


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The JSON part of a checkpoint; None where there is none. Raises InputError when it cannot be read."""
    path = folder / "state.json"
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] == FORMAT and facts.pop("checksum", None) != checksum(facts):
            raise _unusable(folder, f"{path.name} is damaged: it holds other values than were written.")
        known = facts["format"] == FORMAT and (folder / facts["arrays"]).exists()
        known = known and isinstance(facts["settings"], dict)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(folder, f"{path.name} cannot be read ({error}).") from None
    if not known:
        made = f"it has format {facts['format']!r} (this version writes {FORMAT}) or lacks {facts['arrays']}."
        raise _unusable(folder, made)
    return facts


def read_tree(folder: Path, name: str, like: Tree) -> Tree:
    """Return one named tree of the checkpoint in ``folder``, with the structure, shapes and types of ``like``.

    For example read_tree(folder, "params", params) gives the trained parameters.

    Parameters
    ----------
    folder
        folder of the checkpoint.
    name
        such as "params" or "best_params".
    like
        a tree of the same structure.

    Raises
    ------
    InputError
        when there is no checkpoint, or when an array is missing or has another shape or type.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> try:
    ...     ug.read_tree("no-such-folder", "params", like=0.0)
    ... except ut.InputError as error:
    ...     print(error)
    folder='no-such-folder': it holds no checkpoint (no state.json).
    """
    facts = read_facts(Path(folder))
    if facts is None:
        raise InputError("folder", str(folder), "it holds no checkpoint (no state.json).")
    arrays = load_arrays(Path(folder), facts)
    return take(arrays, name, like, folder)


def take(arrays: dict[str, np.ndarray], name: str, like: Tree, folder: str | Path) -> Tree:
    """Pick the leaves of the tree ``name`` out of the arrays of a checkpoint."""

    def one(path: Any, leaf: Any) -> Any:
        key = name + jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype"):
            return leaf
        found = arrays.get(key)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            is_there = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise InputError(
                "checkpoint",
                str(folder),
                f"it holds {is_there} for {key}, and this run needs {leaf.dtype}{list(leaf.shape)}: it was written by "
                "another model or optimiser.",
                "Use an empty folder, or the model that wrote it.",
            )
        return jnp.asarray(found)

    return jax.tree_util.tree_map_with_path(one, like)


def load_arrays(folder: Path, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by name. Raises InputError when the file is damaged."""
    try:
        data = (folder / facts["arrays"]).read_bytes()
        if _sha256(data) != facts["sha256"]:
            raise _unusable(folder, f"{facts['arrays']} is damaged: it holds other values than were written.")
        return load(data)
    except SafetensorError as error:
        raise _unusable(folder, f"{facts['arrays']} is damaged ({error}).") from None


def check_settings(argument: str, folder: Path, known: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError, naming the first difference, where a folder was written with other settings than those now."""
    for name, value in now.items():
        if known.get(name) != value:
            raise InputError(
                argument,
                str(folder),
                f"it was written with {name}={known.get(name)!r}, and this run has {name}={value!r}.",
                "Use the same settings, or another folder.",
            )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unusable(folder: Path, why: str) -> InputError:
    return InputError("checkpoint", str(folder), why, "Use an empty folder.")


def _named(trees: dict[str, Tree]) -> dict[str, Any]:
    return {
        name + jax.tree_util.keystr(path): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if hasattr(leaf, "dtype")
    }
