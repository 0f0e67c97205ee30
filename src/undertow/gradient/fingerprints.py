"""Checksums of optimisers: of what they compute, since a file cannot compare functions."""

from __future__ import annotations

import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undertow.gradient.leaves import Tree


def identify_transform(transform: Any, params: Tree) -> str | None:
    """A checksum of an Optax transformation on params of this structure; None for None.

    It is that of the steps of its update, with every constant in them (rates, schedules, decays), and of its first
    state. Another version of JAX or Optax may write the same steps in another way.
    """
    if transform is None:
        return None
    transform = optax.with_extra_args_support(transform)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    total = lambda tree: sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree))  # noqa: E731
    state = transform.init(zeros)
    steps = jax.make_jaxpr(lambda g, s, p: transform.update(g, s, p, value=total(p), grad=g, value_fn=total))(
        zeros, state, zeros
    )
    # Where a function lies in memory says nothing.
    code = zlib.crc32(re.sub(r"0x[0-9a-f]+", "", str(steps)).encode())
    for leaf in (*steps.consts, *jax.tree.leaves(state)):
        if hasattr(leaf, "dtype") and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            code = zlib.crc32(np.ascontiguousarray(np.asarray(leaf)).tobytes(), code)
    return f"{code:08x}"
