"""The loss of one task, exact when some of its rows are padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from undertow._check import InputError

LossFn = Callable[[Any, Any, Any], Any]


def task_loss(loss_fn: LossFn, params: Any, x: Any, y: Any, mask: Any = None) -> jax.Array:
    """Mean loss over the real rows of one task: x (n, ...), y (n, ...), mask (n,) True where a row is real.

    With a mask the loss is evaluated row by row, loss_fn(params, x[i:i+1], y[i:i+1]), and averaged over the real rows.
    That is the same as loss_fn(params, x[mask], y[mask]) for every loss that is a mean over rows. Padded rows are
    replaced by a copy of a real one before the loss sees them, so that whatever they hold (NaN included) reaches
    neither the loss nor a gradient.
    """
    if mask is None:
        return _scalar(loss_fn(params, x, y))
    mask = jnp.asarray(mask, bool)
    real = jnp.argmax(mask)

    def fill(a: Any) -> jax.Array:
        a = jnp.asarray(a)
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, a[real])

    one_row = lambda x, y: _scalar(loss_fn(params, x, y))  # noqa: E731
    each = lambda a: fill(a)[:, None]  # noqa: E731
    rows = jax.vmap(one_row)(jax.tree.map(each, x), jax.tree.map(each, y))
    weight = mask.astype(rows.dtype)
    return (rows * weight).sum() / weight.sum()


def _scalar(value: Any) -> jax.Array:
    value = jnp.asarray(value)
    if value.ndim:
        raise InputError(
            "loss_fn",
            rule=f"it must return one number, the mean over the rows of x and y, and returned shape {value.shape}.",
            way_out="Use .mean().",
        )
    return value
