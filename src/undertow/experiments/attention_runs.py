"""The runs of ``attention``. This file imports JAX, so that experiment imports it only where it computes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa

from undertow import gradient as ug
from undertow import theory
from undertow.gradient.keys import keys_of
from undertow.problem import Design, MixedLinearRegression
from undertow.theory.matrix_rate import covariances

SCHEMA = pa.schema(
    [("run", pa.int64()), ("step", pa.string()), ("loss", pa.float64()), ("rate", pa.list_(pa.float64()))]
)


def weights_of(block: Any, x: Any, y: Any) -> Any:
    """The weights theta (p,) with which one block of linear attention predicts, from the rows x (n, p), y (n,).

    With tokens e_i = (x_i, y_i) and a query token (x, 0) the last entry of the block's output is
    value' (sum_i e_i e_i'/n) key (x, 0): only a vector ``value`` (p + 1,) and p columns of ``key`` (p + 1, p) matter.
    The block attends to the rows, not to the query token.
    """
    tokens = jnp.concatenate([x, y[:, None]], axis=1)
    return (block["value"] @ (tokens.T @ tokens) / len(y)) @ block["key"]


def gamma_of(block: Any) -> Any:
    """The matrix (p, p) that multiplies X'y/n in ``weights_of``; the other terms are 0 in a perfectly trained block."""
    return block["value"][-1] * block["key"][:-1].T


def start(key: Any, p: int) -> Any:
    """The start of Zhang, Frei and Bartlett, and small normal numbers on all entries: from a start without its
    structure some blocks end at another, worse solution.
    """
    first, second, third = jax.random.split(key, 3)
    square = jax.random.normal(first, (p, p))
    square = square.T @ square
    value = 0.5 * (jnp.arange(p + 1) == p) + 0.05 * jax.random.normal(second, (p + 1,))
    rest = 0.5 * jnp.eye(p + 1, p) @ square / jnp.linalg.norm(square)
    return {"value": value, "key": rest + 0.05 * jax.random.normal(third, (p + 1, p))}


@partial(jax.jit, static_argnames=("problem", "design", "iterations", "step"))
def train(keys: Any, problem: MixedLinearRegression, design: Design, iterations: int, step: float) -> Any:
    """Train one block and one rate for each weight from each key, on tasks that are new at every iteration."""
    p = problem.n_features
    optimizer = optax.adam(optax.cosine_decay_schedule(step, iterations))

    def loss(params: Any, tasks: Any) -> Any:
        def one(x: Any, y: Any, new_x: Any, new_y: Any) -> Any:
            thetas = (weights_of(params["block"], x, y), params["rates"] * (x.T @ y) / len(y))
            return sum(0.5 * jnp.mean((new_x @ theta - new_y) ** 2) for theta in thetas)

        return jax.vmap(one)(*tasks[:4]).mean()

    def one_run(key: Any) -> Any:
        first, key = jax.random.split(key)
        params = {"block": start(first, p), "rates": jnp.zeros(p)}

        def update(carry: Any, i: Any) -> Any:
            params, state = carry
            tasks = problem.draw(ug.KeySource(jax.random.fold_in(key, i)), design)
            updates, state = optimizer.update(jax.grad(loss)(params, tasks), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(iterations))[0][0]

    return jax.vmap(one_run)(keys)


def compute(
    problem: MixedLinearRegression, design: Design, n_test: int, iterations: int, step: float, seeds: Any, first: int
) -> pa.Table:
    """One row for each run and step: the mean loss on the run's new tasks, given the adapted weights.

    seeds: one for each run. rate: the rates of "block" (its matrix, by rows), "trained" and the theory's; else null.
    """
    keys = keys_of(seeds)
    trained = jax.tree.map(np.asarray, train(keys, problem, design, iterations, step))
    h, psi = covariances(problem)
    best = {name: theory.optimal_matrix_rate(problem, design, name) for name in ("scalar", "diagonal", "full")}
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for run, seed in enumerate(seeds):
        generator = np.random.default_rng(seed)
        weights = generator.standard_normal((n_test, len(h))) @ np.linalg.cholesky(psi).T
        x = generator.standard_normal((n_test, design.n_support, len(h))) @ np.linalg.cholesky(h).T
        y = np.einsum("tnp,tp->tn", x, weights) + problem.noise_std * generator.standard_normal(x.shape[:2])
        moment = np.einsum("tnp,tn->tp", x, y) / design.n_support
        block = jax.tree.map(lambda leaf: leaf[run], trained["block"])  # noqa: B023
        rates = trained["rates"][run]
        gram = x @ psi @ x.swapaxes(1, 2) + problem.noise_std**2 * np.eye(design.n_support)
        thetas = {
            "none": (np.zeros_like(weights), None),
            "scalar": (best["scalar"] * moment, best["scalar"].reshape(1)),
            "diagonal": (best["diagonal"] * moment, best["diagonal"]),
            "trained": (rates * moment, rates),
            "full": (moment @ best["full"].T, best["full"]),
            "block": (np.asarray(jax.vmap(partial(weights_of, block))(x, y)), gamma_of(block)),
            "posterior": (np.einsum("tnp,tn->tp", x @ psi, np.linalg.solve(gram, y[..., None])[..., 0]), None),
        }
        for name, (theta, rate) in thetas.items():
            left = theta - weights
            rows["run"].append(first + run)
            rows["step"].append(name)
            rows["loss"].append((problem.noise_std**2 + np.einsum("tp,pq,tq->t", left, h, left).mean()) / 2)
            rows["rate"].append(None if rate is None else np.asarray(rate, np.float64).ravel())
    return pa.table(rows, schema=SCHEMA)
