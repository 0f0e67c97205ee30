"""Checkpoints: arrays in a safetensors file, everything else in a JSON file. No pickle, and never half a file.

A checkpoint is a folder. ``state.json`` names the file with the arrays and is replaced last, in one step, so that a
run killed at any moment leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from undertow._check import InputError
from undertow._version import __version__
from undertow.gradient.leaves import Tree

FORMAT = 1


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is either there in full or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def save_checkpoint(folder: Path, iteration: int, trees: dict[str, Tree], facts: dict[str, Any]) -> None:
    """Write named trees of arrays and JSON facts; the checkpoint before is deleted when the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(leaf, order="C") for name, leaf in _named(trees).items()}
    file = f"arrays-{iteration:010d}.safetensors"
    write_bytes(folder / file, save(arrays))
    versions = {"undertow": __version__, "jax": jax.__version__, "numpy": np.__version__}
    record = {"format": FORMAT, "arrays": file, "iteration": iteration, **facts, "versions": versions}
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
        facts = json.loads(path.read_text())
        known = facts["format"] == FORMAT and (folder / facts["arrays"]).exists()
        known = known and isinstance(facts["settings"], dict)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"checkpoint={str(folder)!r}: {path.name} cannot be read ({error}). Use an empty folder."
        ) from None
    if not known:
        raise InputError(
            f"checkpoint={str(folder)!r} has format {facts['format']!r} (this version writes {FORMAT}) or lacks "
            f"{facts['arrays']}. Use an empty folder."
        )
    return facts


def read_tree(folder: Path, name: str, like: Tree) -> Tree:
    """Return one named tree of the checkpoint in ``folder``, with the structure, shapes and types of ``like``.

    For example read_tree(folder, "params", params) gives the trained parameters. Raises InputError when there is no
    checkpoint, or when an array is missing or has another shape or type.
    """
    facts = read_facts(Path(folder))
    if facts is None:
        raise InputError(f"{str(folder)!r} holds no checkpoint (no state.json).")
    arrays = load_arrays(Path(folder), facts)
    return take(arrays, name, like, str(folder))


def take(arrays: dict[str, np.ndarray], name: str, like: Tree, where: str) -> Tree:
    """Pick the leaves of the tree ``name`` out of the arrays of a checkpoint."""

    def one(path: Any, leaf: Any) -> Any:
        key = name + jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype"):
            return leaf
        found = arrays.get(key)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            is_there = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise InputError(
                f"checkpoint={where!r} holds {is_there} for {key}, and this run needs {leaf.dtype}{list(leaf.shape)}: "
                "it was written by another model or optimiser. Use an empty folder, or the model that wrote it."
            )
        return jnp.asarray(found)

    return jax.tree_util.tree_map_with_path(one, like)


def load_arrays(folder: Path, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by name. Raises InputError when the file is damaged."""
    try:
        return load_file(folder / facts["arrays"])
    except SafetensorError as error:
        raise InputError(
            f"checkpoint={str(folder)!r}: {facts['arrays']} is damaged ({error}). Use an empty folder."
        ) from None


def _named(trees: dict[str, Tree]) -> dict[str, Any]:
    return {
        name + jax.tree_util.keystr(path): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if hasattr(leaf, "dtype")
    }
