"""The loss of one task: how a loss function is called, what it returns, and its exact mean when rows are padding."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from undertow._check import InputError
from undertow.gradient.keys import as_key

LossFn = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Keyed:
    """A loss that draws random numbers, with the key to split for each task and step (``with_key``)."""

    loss_fn: LossFn
    key: Any
    first: Any = 0
    """number of the first task of the batch: task i has the key fold_in(key, first + i)"""

    def of_tasks(self, n_tasks: int) -> jax.Array:
        """(n_tasks,) keys."""
        return jax.vmap(lambda i: jax.random.fold_in(self.key, i))(self.first + jnp.arange(n_tasks))


class Seen(NamedTuple):
    """What a loss returns beside its value."""

    aux: Any
    """tree of arrays; None where there is none"""
    state: Any
    """the new state of the model; None where it has none"""


def with_key(loss_fn: LossFn, key: Any) -> Keyed:
    """Return the loss with a key for its random numbers (dropout, noise), for ``adapt`` and ``meta_loss``.

    Parameters
    ----------
    loss_fn
        loss_fn(params, x, y, key=...).
    key
        a JAX key or a seed. Each task has the key fold_in(key, task), and each step of its inner loop and each loss
        after it one folded in once more: no two calls share one. ``train`` and ``sweep`` do this themselves, with
        another key at each iteration.

    Raises
    ------
    InputError
        when the loss takes no key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from undertow import gradient as ug
    >>> def noisy(w, x, y, key):
    ...     return jnp.mean((x @ w - y + 0.1 * jax.random.normal(key, y.shape)) ** 2)
    >>> support = (jnp.ones((4, 2)), jnp.ones(4))
    >>> ug.adapt(ug.with_key(noisy, 0), jnp.zeros(2), support, rate=0.1).shape
    (2,)
    """
    if "key" not in takes(loss_fn):
        raise InputError("loss_fn", rule="it has no argument called key, so a key would do nothing.")
    return Keyed(loss_fn, as_key(key))


def key_of(loss_fn: Any) -> tuple[LossFn, Keyed | None]:
    """Return (the bare loss, its key if it has one)."""
    return (loss_fn.loss_fn, loss_fn) if isinstance(loss_fn, Keyed) else (loss_fn, None)


def evaluating(loss_fn: LossFn) -> Any:
    """The loss as it is measured: without a key where the key has a default, else always with the same one."""
    return Keyed(loss_fn, as_key(0)) if takes(loss_fn).get("key") is inspect.Parameter.empty else loss_fn


def takes(loss_fn: LossFn) -> dict[str, Any]:
    """Which of the arguments key, mask and state a loss has, each with its default (Parameter.empty for none).

    Raises InputError for what cannot be called as a loss.
    """
    if isinstance(loss_fn, Keyed):
        raise InputError(
            "loss_fn",
            rule="it has a key already (with_key).",
            way_out="Hand over the loss itself: train and sweep split a key for each iteration, task and step.",
        )
    if not callable(loss_fn):
        raise InputError("loss_fn", loss_fn, "it must be a function of (params, x, y).")
    try:
        signature = inspect.signature(loss_fn)
    except (TypeError, ValueError):
        return {}
    bound = loss_fn.keywords if isinstance(loss_fn, functools.partial) else {}
    names = [name for name in ("key", "mask", "state") if name in signature.parameters and name not in bound]
    try:
        signature.bind(None, None, None, **dict.fromkeys(names))
    except TypeError as error:
        raise InputError(
            "loss_fn",
            rule=f"it cannot be called as loss_fn(params, x, y): {error}.",
            way_out="Beside these three it may have arguments called key, mask and state; bind others with "
            "functools.partial.",
        ) from None
    return {name: signature.parameters[name].default for name in names}


def task_loss(
    loss_fn: LossFn, params: Any, x: Any, y: Any, mask: Any = None, *, key: Any = None, state: Any = None
) -> tuple[jax.Array, Seen]:
    """Mean loss over the real rows of one task, and what else the loss returns.

    x (n, ...), y (n, ...), mask (n,) True where a row is real. Padded rows are replaced by a copy of a real one before
    the loss sees them, so that whatever they hold (NaN included) reaches neither the loss nor a gradient.
    A loss with an argument ``mask`` is called once, with the mask (all True where there is none), and weighs its rows
    itself. Any other is evaluated row by row where there is a mask, loss_fn(params, x[i:i+1], y[i:i+1]), and averaged
    over the real rows: the same as loss_fn(params, x[mask], y[mask]) for every loss that is a mean over rows.
    """
    asked = takes(loss_fn)
    extras = _extras(asked, key, state)
    if mask is None:
        if "mask" in asked:
            extras["mask"] = jnp.ones(jax.tree.leaves(y)[0].shape[:1], bool)
        return parts_of(loss_fn(params, x, y, **extras), state)
    mask = jnp.asarray(mask, bool)
    x, y = fill(x, mask), fill(y, mask)
    if "mask" in asked:
        return parts_of(loss_fn(params, x, y, mask=mask, **extras), state)
    if extras:
        raise InputError(
            "loss_fn",
            rule=f"with an argument {' and '.join(extras)} it is called once for all rows of a task, and these tasks "
            "have masks: some of its rows may be padding.",
            way_out="Give it an argument mask (n,), True where a row is real, and average over these rows.",
        )
    rows, seen = row_losses(loss_fn, params, x, y)
    weight = mask.astype(rows.dtype)
    average = lambda a: jnp.tensordot(weight.astype(a.dtype), a, 1) / weight.sum().astype(a.dtype)  # noqa: E731
    return (rows * weight).sum() / weight.sum(), jax.tree.map(average, seen)


def fill(tree: Any, mask: jax.Array) -> Any:
    """Replace the rows that are not real by a copy of one that is."""
    real = jnp.argmax(mask)

    def one(a: Any) -> jax.Array:
        a = jnp.asarray(a)
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, a[real])

    return jax.tree.map(one, tree)


def row_losses(loss_fn: LossFn, params: Any, x: Any, y: Any) -> tuple[jax.Array, Seen]:
    """The loss of each row by itself."""
    each = lambda tree: jax.tree.map(lambda a: a[:, None], tree)  # noqa: E731
    return jax.vmap(lambda x, y: parts_of(loss_fn(params, x, y), None))(each(x), each(y))


def _extras(asked: dict[str, Any], key: Any, state: Any) -> dict[str, Any]:
    for name, value, way_out in (
        ("key", key, "Hand over with_key(loss_fn, key)."),
        ("state", state, "Hand over the parameters as Stateful(params, state)."),
    ):
        if value is None and asked.get(name) is inspect.Parameter.empty:
            raise InputError("loss_fn", rule=f"it takes a {name}, and there is none.", way_out=way_out)
    if state is not None and "state" not in asked:
        raise InputError("loss_fn", rule="the model has a state, and the loss has no argument called state.")
    return {name: value for name, value in (("key", key), ("state", state)) if value is not None and name in asked}


def parts_of(value: Any, state: Any) -> tuple[jax.Array, Seen]:
    """Tell the loss from what was returned with it."""
    aux = new = None
    if state is not None:
        if not isinstance(value, tuple) or len(value) != 3:
            raise InputError("loss_fn", rule="with a state it must return (loss, aux, new state); aux may be None.")
        value, aux, new = value
        shapes = lambda tree: [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]  # noqa: E731
        if jax.tree.structure(new) != jax.tree.structure(state) or shapes(new) != shapes(state):
            raise InputError("loss_fn", rule="the state that it returns has another structure or shape than its own.")
        if any(jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended) for leaf in jax.tree.leaves(new)):
            rule = "the state must be a tree of numbers, of which the mean over tasks is taken, and holds a key."
            raise InputError("loss_fn", rule=rule, way_out="Give the loss an argument key.")
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise InputError("loss_fn", rule=f"it must return a loss or (loss, aux), and returned {len(value)} parts.")
        value, aux = value
    try:
        aux = jax.tree.map(jnp.asarray, aux)
        numbers = all(leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number) for leaf in jax.tree.leaves(aux))
    except (TypeError, ValueError):
        numbers = False
    if not numbers:
        raise InputError("loss_fn", rule="what it returns beside the loss (aux) must be a tree of numbers.")
    return _scalar(value), Seen(aux, new)


def _scalar(value: Any) -> jax.Array:
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise InputError("loss_fn", rule=f"its loss must be one number, and is of type {kind}.") from None
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise InputError(
            "loss_fn",
            rule=f"its loss must be a real number to take derivatives of, and is of type {value.dtype}.",
            way_out="A count, as of wrong answers, has no derivative; a complex loss needs its absolute value.",
        )
    if value.ndim:
        raise InputError(
            "loss_fn",
            rule=f"it must return one number, the mean over the rows of x and y, and returned shape {value.shape}.",
            way_out="Use .mean().",
        )
    return value
