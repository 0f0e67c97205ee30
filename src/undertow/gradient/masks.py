"""Masks and losses that do not go together: a loss that looks at all rows of a task at once needs the mask itself."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.losses import fill, key_of, parts_of, row_losses, takes


def without_full_masks(tasks: TaskBatch) -> TaskBatch:
    """The same tasks, but without a mask that is known to be True everywhere: such rows are as good as unmasked."""
    full = {
        name: None
        for name in ("support_mask", "query_mask")
        if (known := _known(getattr(tasks, name))) is not None and known.all()
    }
    return tasks._replace(**full) if full else tasks


def check_rows(loss_fn: Any, params: Any, tasks: TaskBatch) -> None:
    """Raise InputError where tasks have masks, and the loss has no argument ``mask`` and is no mean over rows.

    Rows of padding are filled with real ones and the loss of them all is compared with the mean of their own losses.
    Within a compiled function, where values are not known, random numbers stand for them.
    """
    loss_fn, _ = key_of(loss_fn)
    tasks = tasks._replace(ids=None)
    if takes(loss_fn) or (tasks.support_mask is None and tasks.query_mask is None):
        return
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, tasks)))
    shapes, passed = tuple(jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(tasks)), _passed(loss_fn)
    if (False, shapes) in passed or (traced, shapes) in passed:
        return
    try:
        # Known values too would be traced within a compiled function.
        with jax.ensure_compile_time_eval():
            _compare(loss_fn, *(_examples(params, tasks) if traced else (params, tasks)))
    except InputError:
        raise
    except Exception as error:  # a loss that closes over traced values, or that random numbers do not fit
        if traced or isinstance(error, jax.errors.JAXTypeError):
            return
        raise
    passed.add((traced, shapes))


def _examples(params: Any, tasks: TaskBatch) -> tuple[Any, TaskBatch]:
    """The same, with random numbers where values are not known, and masks that are True there."""
    generator = np.random.default_rng(0)

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.core.Tracer):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype)
        return jnp.asarray(generator.integers(0, 2, leaf.shape), leaf.dtype)

    masks = {name: getattr(tasks, name) for name in ("support_mask", "query_mask")}
    known = {
        name: jnp.ones(mask.shape, bool) if isinstance(mask, jax.core.Tracer) else mask for name, mask in masks.items()
    }
    params, tasks = jax.tree.map(one, (params, tasks._replace(**dict.fromkeys(masks))))
    return params, tasks._replace(**known)


def _compare(loss_fn: Any, params: Any, tasks: TaskBatch) -> None:
    """Raise InputError where the loss of all rows is not the mean of their own; values are known."""
    for name in ("support", "query"):
        x, y, mask = (getattr(tasks, f"{name}_{part}") for part in ("x", "y", "mask"))
        if mask is None:
            continue
        few = jax.tree.map(lambda a: jnp.asarray(a)[:16], (x, y, mask))

        def both(x: Any, y: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
            x, y = fill(x, jnp.asarray(mask, bool)), fill(y, jnp.asarray(mask, bool))
            return parts_of(loss_fn(params, x, y), None)[0], row_losses(loss_fn, params, x, y)[0]

        found = jax.jit(jax.vmap(both))(*few)
        tolerance = float(jnp.finfo(found[0].dtype).eps) ** 0.5
        whole, rows = (np.asarray(a, np.float64) for a in found)
        off = np.abs(whole - rows.mean(axis=1)) > tolerance * np.abs(rows).mean(axis=1)
        if (off & np.isfinite(whole)).any():
            one = int(off.argmax())
            raise InputError(
                "loss_fn",
                rule=f"it is not a mean over rows: for the {name} rows of task {one} it gives {whole[one]:.6g}, "
                f"and the mean of its rows' own losses is {rows[one].mean():.6g}. These tasks have masks, so rows are "
                "evaluated one by one.",
                way_out="Give it an argument mask (n,), True where a row is real, and weigh the rows with it.",
            )


_PASSED: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()


def _passed(loss_fn: Any) -> set[Any]:
    """The shapes of tasks on which a loss was found to be a mean over rows: a check compiles, so once is enough."""
    try:
        return _PASSED.setdefault(loss_fn, set())
    except TypeError:
        return set()


def _known(mask: Any) -> np.ndarray | None:
    """The mask where its values are known: not within a compiled function. Raises InputError for what is no mask."""
    if mask is None or isinstance(mask, jax.core.Tracer):
        return None
    array = np.asarray(mask)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise InputError(
            "mask",
            rule="a mask says which rows are real: it holds True and False, or 1 and 0, and nothing between.",
            way_out="A row's weight belongs into the loss, or into y.",
        )
    return array.astype(bool)
