"""A small multilayer perceptron as plain arrays, and the two usual losses. Any other pytree model works as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from undertow import _check
from undertow._check import InputError
from undertow.gradient.keys import as_key

Layers = list[dict[str, jax.Array]]


def mlp(
    sizes: Sequence[int], key: Any = 0, activation: Callable[[Any], Any] = jax.nn.relu
) -> tuple[Layers, Callable[[Layers, Any], Any]]:
    """Return (params, apply) of a multilayer perceptron.

    Parameters
    ----------
    sizes
        number of inputs, of hidden units of each layer, and of outputs; for example (1, 40, 40, 1).
    key
        a JAX key or a seed. Weights are normal with variance 2 / inputs (He), in the last layer 1 / inputs; biases
        0.
    activation
        applied after each layer but the last.

    Raises
    ------
    InputError
        when sizes has fewer than two entries.

    Notes
    -----
    params is a list of {"weight": (inputs, outputs), "bias": (outputs,)}, so ``last_layer(params)`` is the head.
    apply(params, x) maps x (..., inputs) to (..., outputs); with one output the last axis is dropped.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> params[0]["weight"].shape, apply(params, jnp.ones((5, 1))).shape
    ((1, 20), (5,))
    """
    sizes = [_check.whole_number(size, "sizes") for size in sizes]
    if len(sizes) < 2:
        raise InputError("sizes", sizes, "give at least the number of inputs and of outputs, as in (1, 40, 1).")
    keys = jax.random.split(as_key(key), len(sizes) - 1)
    last = len(sizes) - 2
    params = [
        {
            "weight": jax.random.normal(k, (n, m)) * math.sqrt((1 if i == last else 2) / n),
            "bias": jnp.zeros(m),
        }
        for i, (k, n, m) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True))
    ]

    def apply(params: Layers, x: Any) -> Any:
        for layer in params[:-1]:
            x = activation(x @ layer["weight"] + layer["bias"])
        out = x @ params[-1]["weight"] + params[-1]["bias"]
        return out[..., 0] if sizes[-1] == 1 else out

    return params, apply


def squared_loss(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], jax.Array]:
    """Return loss_fn(params, x, y): half the mean squared error of apply(params, x), summed over outputs.

    Parameters
    ----------
    apply
        the model: apply(params, x) returns (n,) or (n, outputs).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from undertow import gradient as ug
    >>> loss_fn = ug.squared_loss(lambda params, x: x @ params)
    >>> float(loss_fn(jnp.zeros(2), jnp.ones((4, 2)), jnp.full(4, 2.0)))
    2.0
    """

    def loss_fn(params: Any, x: Any, y: Any) -> jax.Array:
        found = apply(params, x)
        if found.shape != y.shape:
            raise InputError("y", rule=f"its shape {y.shape} must be that of the model's outputs, {found.shape}.")
        error = found - y
        return 0.5 * jnp.mean(jnp.sum(error.reshape(error.shape[0], -1) ** 2, axis=1))

    return loss_fn


def cross_entropy(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], jax.Array]:
    """Return loss_fn(params, x, y): mean cross-entropy of the scores apply(params, x) (n, classes); y (n,) integers.

    A label that is no class makes it NaN.

    Parameters
    ----------
    apply
        the model: apply(params, x) returns scores (n, classes).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from undertow import gradient as ug
    >>> loss_fn = ug.cross_entropy(lambda params, x: x @ params)
    >>> round(float(loss_fn(jnp.zeros((2, 3)), jnp.ones((4, 2)), jnp.array([0, 1, 2, 0]))), 3)
    1.099
    """

    def loss_fn(params: Any, x: Any, y: Any) -> jax.Array:
        y = jnp.asarray(y)
        if not jnp.issubdtype(y.dtype, jnp.integer):
            raise InputError("y", rule=f"its labels must be whole numbers, 0, 1, ..., and are of type {y.dtype}.")
        scores = jax.nn.log_softmax(apply(params, x))
        # An index below 0 would count from the end.
        chosen = jnp.take_along_axis(scores, jnp.maximum(y, 0)[:, None], axis=1)[:, 0]
        return -jnp.mean(jnp.where(y < 0, jnp.nan, chosen))

    return loss_fn
