"""A small convolutional network without any normalisation over rows. Imports JAX."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from undertow import gradient as ug

Layers = list[dict[str, jax.Array]]


@lru_cache
def conv_net(ways: int, filters: int, layers: int, size: int, channels: int = 1) -> tuple[Any, Any]:
    """Return (init, apply): ``layers`` convolutions of 3 x 3 with stride 2 and ReLU, then a linear layer.

    init(key) -> params; apply(params, x) maps images (n, size, size[, channels]) to scores (n, ways).
    Each image is treated by itself: nothing is averaged over rows.
    """
    sides = [size]
    for _ in range(layers):
        sides.append(-(-sides[-1] // 2))

    def init(key: Any) -> Layers:
        params = []
        for i, k in enumerate(jax.random.split(key, layers + 1)):
            inputs = 9 * (channels if i == 0 else filters) if i < layers else filters * sides[-1] ** 2
            outputs, gain = (filters, 2.0) if i < layers else (ways, 1.0)
            weight = jax.random.normal(k, (inputs, outputs)) * math.sqrt(gain / inputs)
            params.append({"weight": weight, "bias": jnp.zeros(outputs)})
        return params

    def apply(params: Layers, x: Any) -> jax.Array:
        x = x[..., None] if x.ndim == 3 else x
        for layer, side in zip(params[:-1], sides[1:], strict=True):
            x = jax.nn.relu(_patches(x, side) @ layer["weight"] + layer["bias"])
        return x.reshape(x.shape[0], -1) @ params[-1]["weight"] + params[-1]["bias"]

    return init, apply


def _patches(x: jax.Array, side: int) -> jax.Array:
    """The 3 x 3 patches at stride 2, (n, side, side, 9 channels).

    A product with patches stays one batched product when each task has filters of its own, where a convolution would
    become a grouped one, which is slow on a CPU.
    """
    x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    cut = [x[:, i : i + 2 * side - 1 : 2, j : j + 2 * side - 1 : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(cut, axis=-1)


@lru_cache
def conv_loss(ways: int, filters: int, layers: int, size: int, channels: int = 1) -> tuple[Any, Any, Any]:
    """(init, apply, loss_fn), the same objects at each call, so that nothing is compiled twice."""
    init, apply = conv_net(ways, filters, layers, size, channels)
    return init, apply, ug.cross_entropy(apply)


@lru_cache
def adam(step: float) -> Any:
    """Adam, the same object for the same step."""
    return optax.adam(step)
