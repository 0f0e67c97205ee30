"""Outer loops run by gradient to convergence, for many seeds and train rates in one compiled program.

This file imports JAX, so experiments import it only where they compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undertow._batch import TaskBatch
from undertow.experiments.training_experiment import ON_ROWS
from undertow.gradient import meta_loss, squared_loss
from undertow.gradient.inner import norm
from undertow.gradient.keys import keys_of


@dataclass(frozen=True)
class TwoLayer:
    r"""A two-layer ReLU network in the parametrisation of the tangent kernel, both layers trained.

    f(x) = width^{-1/2} sum_j a_j relu(w_j.(x, 1)), all a_j and w_j standard normal at the start. With
    ``antisymmetric`` the second half of the units is a copy of the first with the sign of a_j turned, so f0 = 0.
    """

    n_features: int
    width: int
    antisymmetric: bool = True

    def start(self, key: Any) -> dict[str, jax.Array]:
        """Parameters before training."""
        first, second = jax.random.split(key)
        units = self.width // 2 if self.antisymmetric else self.width
        w = jax.random.normal(first, (self.n_features + 1, units))
        a = jax.random.normal(second, (units,))
        if self.antisymmetric:
            w, a = jnp.concatenate([w, w], axis=1), jnp.concatenate([a, -a])
        return {"first": w, "second": a}

    def apply(self, params: dict[str, jax.Array], x: Any) -> jax.Array:
        """Values at rows x (n, p): (n,)."""
        hidden = jax.nn.relu(x @ params["first"][:-1] + params["first"][-1])
        return hidden @ params["second"] / math.sqrt(self.width)


@dataclass(frozen=True)
class Linear:
    """f(x) = x.omega, started at normal numbers with E|omega_0|^2 = start_std^2; 0 starts at zero."""

    n_features: int
    start_std: float = 0.0

    def start(self, key: Any) -> jax.Array:
        """Parameters before training."""
        return self.start_std / math.sqrt(self.n_features) * jax.random.normal(key, (self.n_features,))

    def apply(self, params: jax.Array, x: Any) -> jax.Array:
        """Values at rows x (n, p): (n,)."""
        return x @ params


class Loops(NamedTuple):
    """One entry per loop: which draw it trains on, and its numbers."""

    draw: Any
    """(c,) position of its tasks and of its start"""
    rate: Any
    """(c,) train rate"""
    step: Any
    """(c,) step of the outer optimiser"""
    momentum: Any
    """(c,) Nesterov momentum of the outer gradient descent"""


def loops_of(runs: int, rates: np.ndarray, step: Any, momentum: Any = 0.0) -> Loops:
    """One loop for each run and rate, rates fastest; rates (k,), step and momentum (runs, k) or less."""
    k = len(rates)
    every = lambda values: np.broadcast_to(np.asarray(values, np.float32), (runs, k)).ravel()  # noqa: E731  (three uses)
    return Loops(np.repeat(np.arange(runs), k), every(rates), every(step), every(momentum))


def starts(model: Any, seeds: Sequence[int]) -> Any:
    """Parameters of ``model`` before training, one start for each seed, stacked along a first axis."""
    return jax.vmap(model.start)(keys_of(seeds))


class Trained(NamedTuple):
    """What is left of each loop."""

    params: Any
    early: Any
    """parameters after ``early`` updates (or at the end, where that came first)"""
    iterations: jax.Array
    gradient_ratio: jax.Array
    """norm of the last gradient relative to that of the first"""


@partial(jax.jit, static_argnames=("model", "method"))
def train_loops(
    model: Any, method: str, tasks: TaskBatch, starts: Any, loops: Loops, most: Any, tolerance: Any, early: Any
) -> Trained:
    """Run each loop until the norm of its gradient has fallen by ``tolerance``, at most ``most`` updates.

    tasks, starts: arrays with the draws as first axis; starts are data, so that all of them share a program.
    method: "descent" (gradient descent; Nesterov's where momentum > 0) or "adam" (whose step falls to 0 along half a
    cosine, so that it comes to rest).
    """
    loss_fn = squared_loss(model.apply)
    adam = optax.scale_by_adam()

    def one(loop: Loops) -> Trained:
        batch = jax.tree.map(lambda a: a[loop.draw], tasks)
        gradient = jax.grad(lambda params: meta_loss(loss_fn, params, batch, loop.rate)[0])
        start = jax.tree.map(lambda a: a[loop.draw], starts)
        first = norm(gradient(start))

        def descent(state: Any) -> Any:
            params, before, i = state
            ahead = jax.tree.map(lambda a, b: a + loop.momentum * (a - b), params, before)
            g = gradient(ahead)
            return (jax.tree.map(lambda a, b: a - loop.step * b, ahead, g), params, i + 1), g

        def with_adam(state: Any) -> Any:
            params, moments, i = state
            g = gradient(params)
            direction, moments = adam.update(g, moments)
            size = loop.step * 0.5 * (1 + jnp.cos(jnp.pi * i / most))
            return (jax.tree.map(lambda a, b: a - size * b, params, direction), moments, i + 1), g

        update = descent if method == "descent" else with_adam

        def body(carry: Any) -> Any:
            state, kept, _ = carry
            state, g = update(state)
            kept = jax.tree.map(lambda a, b: jnp.where(state[2] <= early, a, b), state[0], kept)
            return state, kept, norm(g)

        def going(carry: Any) -> Any:
            state, _, size = carry
            return (size > tolerance * first) & (state[2] < most) & jnp.isfinite(size)

        memory = start if method == "descent" else adam.init(start)
        state, kept, size = jax.lax.while_loop(going, body, ((start, memory, jnp.asarray(0)), start, first))
        return Trained(state[0], kept, state[2], size / first)

    return jax.lax.map(one, loops)


@partial(jax.jit, static_argnames=("model",))
def losses_of(
    model: Any, params: Any, tasks: TaskBatch, new: TaskBatch, loops: Loops, adapt_rate: Any
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Mean losses (c,) of each loop around the inner step, by the names of ON_ROWS, and "test_loss", after adaptation.

    Returns (losses, values): values (c, m, q) are the adapted model's on the query rows of the new tasks.
    """
    loss_fn = squared_loss(model.apply)

    def one(given: tuple[Any, Loops]) -> tuple[dict[str, jax.Array], jax.Array]:
        at, loop = given
        train, test = (jax.tree.map(lambda a: a[loop.draw], batch) for batch in (tasks, new))
        seen = [x.mean() for batch in (train, test) for x in meta_loss(loss_fn, at, batch, loop.rate)[1][:4]]

        def adapted(task: TaskBatch) -> jax.Array:
            g = jax.grad(loss_fn)(at, task.support_x, task.support_y)
            return model.apply(jax.tree.map(lambda a, b: a - adapt_rate * b, at, g), task.query_x)

        values = jax.vmap(adapted)(test)
        losses = dict(zip(ON_ROWS, seen, strict=True))
        return losses | {"test_loss": 0.5 * jnp.mean((values - test.query_y) ** 2)}, values

    return jax.lax.map(one, (params, loops))


def stacked(batches: list[TaskBatch]) -> TaskBatch:
    """Several draws of the same sizes as one TaskBatch of float32 arrays whose first axis is the draw."""
    first = batches[0]
    fields = [None if field is None else True for field in first]
    return TaskBatch(
        *(
            None if kind is None else jnp.asarray(np.stack([batch[k] for batch in batches]), jnp.float32)
            for k, kind in enumerate(fields)
        )
    )


def descent_numbers(matrices: np.ndarray, safety: float, momentum: bool) -> tuple[np.ndarray, np.ndarray]:
    """Step and momentum of gradient descent for Hessians whose nonzero spectrum is that of ``matrices`` (k, N, N).

    step = safety / lambda_max; momentum is Nesterov's for that step and the smallest eigenvalue above roundoff.
    """
    values = np.linalg.eigvalsh(matrices)
    top = values[:, -1]
    step = safety / top
    if not momentum:
        return step, np.zeros_like(step)
    low = np.where(values > 1e-6 * top[:, None], values, np.inf).min(axis=1)
    root = np.sqrt(step * low)
    return step, (1 - root) / (1 + root)
