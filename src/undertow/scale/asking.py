"""What a worker is asked about a fragment, as bytes, and what it answers, as bytes: nothing of ours is pickled."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from undertow.estimators.fitted import FittedModel
from undertow.estimators.saved_parts import pack_rule, pack_standard, unpack_rule, unpack_standard
from undertow.estimators.sums import Recipe, partial
from undertow.scale.fragment import Fragment, read_fragment
from undertow.scale.spread import Spread
from undertow.tasks.rows import TaskRows


def ask_spread() -> bytes:
    """Ask for means and deviations of the rows."""
    return _bytes({"kind": "spread"}, {})


def ask_sums(recipe: Recipe) -> bytes:
    """Ask for the sums of a recipe."""
    arrays: dict[str, np.ndarray] = {}
    header = {"standard": pack_standard(recipe.standard, arrays), "recipe": recipe.pack(arrays)}
    return _bytes({"kind": "sums"} | header, arrays)


def ask_weights(model: FittedModel) -> bytes:
    """Ask for each task's own weights under a model."""
    arrays = {"omega": model.omega}
    standard = pack_standard(model.standard, arrays)
    rules = [pack_rule(rule, arrays, f"rule.{j}") for j, rule in enumerate(model.rules)]
    return _bytes({"kind": "weights", "standard": standard, "rules": rules}, arrays)


def answer(question: bytes, fragment: Fragment) -> bytes:
    """Read a fragment and answer a question about it: the one function that runs on a worker.

    Depends on its arguments and the sorted file only. One BLAS thread, so that digits do not depend on the machine's
    cores. Raises InputError for a value of the fragment that cannot be used.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        rows = read_fragment(Fragment(*fragment))
        header, arrays = _read(question)
        if header["kind"] == "spread":
            return Spread.of(np.column_stack([rows.x, rows.y])).to_bytes()
        standard = unpack_standard(header["standard"], arrays)
        tasks = TaskRows.of_table(rows, standard)
        if header["kind"] == "sums":
            return partial(tasks, Recipe.unpack(header["recipe"], arrays, standard)).to_bytes()
        omega = arrays["omega"]
        rules = tuple(unpack_rule(rule, arrays, f"rule.{j}", omega.shape[1]) for j, rule in enumerate(header["rules"]))
        known = FittedModel(standard, omega, rules, tasks.ids).with_tasks(tasks).task_omega
        assert known is not None
        return _bytes({}, {"weights": known})


def weights_of(data: bytes) -> np.ndarray:
    """Return the answer to ``ask_weights``: (q, m, d)."""
    return _read(data)[1]["weights"]


def _bytes(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(one) for name, one in arrays.items()}
    return save(contiguous or {"none": np.zeros(1)}, {"asked": json.dumps(header)})


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors.numpy import load

    stored = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(stored["__metadata__"]["asked"]), load(data)
