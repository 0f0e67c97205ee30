"""The runs of ``sharpness``. This file imports JAX, so that experiment imports it only where it computes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa

from undertow import gradient as ug
from undertow._batch import TaskBatch
from undertow.gradient.inner import norm
from undertow.gradient.keys import keys_of

WATCHED = 200
"""Last updates over which the norm of the gradient is averaged: at the edge of stability it goes up and down."""
LOOPS = {
    "normalised": ug.InnerLoop(rule=ug.Explicit(optax.normalize_by_update_norm()), first_order=True),
    "plain": ug.InnerLoop(first_order=True),
}


@partial(jax.jit, static_argnames=("kind", "sizes", "iterations"))
def train(kind: str, keys: Any, rates: Any, x: Any, y: Any, sizes: tuple[int, ...], iterations: int, step: Any) -> Any:
    """Gradient descent on all rows, each gradient taken after one inner step on the same rows: for each key and rate.

    Returns the parameters, and for each net the largest eigenvalue of the Hessian of its loss, the mean norm of the
    gradient in the last updates, and the loss, (keys, rates) each.
    """
    _, apply = ug.mlp(sizes, 0, jnp.tanh)
    loss_fn = ug.squared_loss(apply)

    def one(key: Any, rate: Any, x: Any, y: Any) -> Any:
        tasks = TaskBatch(x[None], y[None], x[None], y[None])
        gradient = jax.grad(lambda params: ug.meta_loss(loss_fn, params, tasks, rate, LOOPS[kind])[0])

        def update(params: Any, _: Any) -> Any:
            return jax.tree.map(lambda a, g: a - step * g, params, gradient(params)), None

        def watched(params: Any, _: Any) -> Any:
            return update(params, None)[0], norm(jax.grad(loss_fn)(params, x, y))

        last = min(WATCHED, iterations)
        params = jax.lax.scan(update, ug.mlp(sizes, key, jnp.tanh)[0], length=iterations - last)[0]
        params, size = jax.lax.scan(watched, params, length=last)
        return params, ug.curvatures(loss_fn, params, (x, y))[1], size.mean(), loss_fn(params, x, y)

    return jax.vmap(lambda key, x, y: jax.vmap(lambda rate: one(key, rate, x, y))(rates))(keys, x, y)


def compute(kind: str, rates: Any, data: Any, seeds: Any, first: int, settings: Any) -> pa.Table:
    """One row for each run and rate. data: rows of each run, x, y, new_x, new_y; settings: sizes, iterations, step."""
    x, y, new_x, new_y = (np.asarray(part, np.float32) for part in data)
    sizes, iterations, step = settings
    keys = keys_of(seeds)
    params, top, gradient, loss = train(kind, keys, jnp.asarray(rates, jnp.float32), x, y, sizes, iterations, step)
    _, apply = ug.mlp(sizes, 0, jnp.tanh)
    error = jax.vmap(lambda p, x, y: jax.vmap(lambda q: 0.5 * jnp.mean((apply(q, x) - y) ** 2))(p))
    run, rate = np.meshgrid(np.arange(first, first + len(x)), rates, indexing="ij")
    columns = {"top": top, "gradient": gradient, "loss": loss, "test_loss": error(params, new_x, new_y)}
    columns = {name: np.asarray(column, np.float64).ravel() for name, column in columns.items()}
    return pa.table({"kind": [kind] * run.size, "run": run.ravel(), "train_rate": rate.ravel(), **columns})
