"""The runs of ``sinusoid``. This file imports JAX, so that experiment imports it only where it computes."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import optax
import pyarrow as pa

from undertow import gradient as ug
from undertow._batch import TaskBatch
from undertow.problem import Design, Sinusoid

SIZES = (1, 40, 40, 1)
SCHEMA = pa.schema(
    [
        ("shots", pa.int64()),
        ("run", pa.int64()),
        ("method", pa.string()),
        ("train_rate", pa.float64()),
        ("adapt_rate", pa.float64()),
        ("test_mse", pa.float64()),
        ("test_mse_before", pa.float64()),
        ("support_change", pa.float64()),
        ("stopped", pa.string()),
        ("leaf", pa.string()),
        ("negative", pa.float64()),
        ("rate_mean", pa.float64()),
    ]
)


@lru_cache
def model() -> tuple[Any, Any]:
    """(init, loss_fn), the same objects at each call, so that nothing is compiled twice."""
    apply = ug.mlp(SIZES)[1]
    return (lambda key: ug.mlp(SIZES, key)[0]), ug.squared_loss(apply)


@lru_cache
def _tested() -> Any:
    """``meta_loss`` in one compiled program: operation by operation it would be some hundred."""
    return jax.jit(partial(ug.meta_loss, model()[1]))


@lru_cache
def optimizer(step: float) -> Any:
    """Adam, the same object for the same step."""
    return optax.adam(step)


def maml(
    shots: int, run: int, seed: int, test: TaskBatch, rates: Any, adapt_rates: Any, step: float, sizes: tuple[int, int]
) -> pa.Table:
    """One row for each train and adapt rate. sizes: tasks per iteration, iterations."""
    init, loss_fn = model()
    found = ug.sweep(
        loss_fn,
        init,
        ug.Source(Sinusoid(), Design(sizes[0], shots, shots)),
        optimizer(step),
        rates,
        [seed],
        iterations=sizes[1],
        test=test,
        adapt_rates=adapt_rates,
        block=len(rates),
    )
    n = len(found)
    columns = {
        "shots": [shots] * n,
        "run": [run] * n,
        "method": ["maml"] * n,
        "train_rate": found["train_rate"],
        "adapt_rate": found["adapt_rate"],
        "test_mse": 2 * found["test_loss"].to_numpy(),
        "support_change": 2 * (found["support_after"].to_numpy() - found["support_before"].to_numpy()),
        "stopped": found["stopped"],
    }
    return _table(columns, n)


def meta_sgd(
    shots: int, run: int, seed: int, test: TaskBatch, starts: Any, step: float, sizes: tuple[int, int]
) -> pa.Table:
    """One row for each start of the learned rates and array of parameters: the share of negative rates in it."""
    init, loss_fn = model()
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for start in starts:
        params = init(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 3))
        state, _ = ug.train(
            loss_fn,
            params,
            ug.Source(Sinusoid(), Design(sizes[0], shots, shots)),
            optimizer(step),
            ug.per_parameter(params, start),
            iterations=sizes[1],
            seed=seed,
            learn_rate=True,
            chunk=min(1000, sizes[1]),
        )
        loss, info = _tested()(state.params, test, state.rate)
        leaves = jax.tree_util.tree_leaves_with_path(state.rate)
        values = {f"layer {path[0].idx + 1} {path[1].key}": np.asarray(leaf) for path, leaf in leaves}
        values["all"] = np.concatenate([leaf.ravel() for leaf in values.values()])
        for leaf, rates in values.items():
            row = {
                "shots": shots,
                "run": run,
                "method": "meta_sgd",
                "train_rate": start,
                "test_mse": 2 * float(loss),
                "test_mse_before": 2 * float(info.query_before.mean()),
                "support_change": 2 * float((info.support_after - info.support_before).mean()),
                "stopped": state.stopped,
                "leaf": leaf,
                "negative": float((rates < 0).mean()),
                "rate_mean": float(rates.mean()),
            }
            for name in SCHEMA.names:
                rows[name].append(row.get(name))
    return pa.table(rows, schema=SCHEMA)


def _table(columns: dict[str, Any], n: int) -> pa.Table:
    return pa.table({name: columns.get(name, pa.nulls(n)) for name in SCHEMA.names}).cast(SCHEMA)
