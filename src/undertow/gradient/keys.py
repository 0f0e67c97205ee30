"""Random keys: from a seed, for a purpose, and as the RandomSource that a generative model asks for numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undertow import _check
from undertow._check import InputError

# One key per purpose, folded into the seed's key.
TASKS, SHUFFLE, TEST, INIT, NOISE = range(5)


class KeySource:
    """A JAX key as a ``RandomSource``: each call draws from a key of its own. ``dtype`` None means JAX's default.

    Parameters
    ----------
    key
        a JAX key.
    dtype
        of the numbers.

    Examples
    --------
    >>> import jax
    >>> from undertow import gradient as ug
    >>> ug.KeySource(jax.random.key(0)).normal((2, 3)).shape
    (2, 3)
    """

    def __init__(self, key: Any, dtype: Any = None) -> None:
        self.key = key
        self.dtype = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
        self.calls = 0

    def _next(self) -> jax.Array:
        self.calls += 1
        return jax.random.fold_in(self.key, self.calls)

    def normal(self, shape: tuple[int, ...]) -> jax.Array:
        """Return independent standard normal numbers."""
        return jax.random.normal(self._next(), shape, self.dtype)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> jax.Array:
        """Return independent numbers, uniform on [low, high)."""
        return jax.random.uniform(self._next(), shape, self.dtype, low, high)


def as_key(seed: Any) -> jax.Array:
    """Return a JAX key from a seed (a whole number of 0 or more) or from a key.

    The generator is named, so that a global setting of JAX does not change what a seed means.
    """
    if isinstance(seed, jax.Array):
        if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
            return seed
        if seed.ndim == 0:
            return jax.random.key(seed, impl="threefry2x32")
    number = _check.whole_number(seed, "seed", minimum=0)
    if number >= 2**63:
        raise InputError("seed", number, "it must be below 2^63.")
    return jax.random.key(number, impl="threefry2x32")


def keys_of(seeds: Any) -> jax.Array:
    """Return the keys of several seeds (n,), which are below 2^32: those of ``as_key``."""
    return jax.vmap(as_key)(jnp.asarray(seeds, jnp.uint32))


def seeds_of(seeds: Any) -> list[int]:
    """Different seeds, or 0, 1, ... for a number of them, or raise InputError."""
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        return list(range(_check.whole_number(seeds, "seeds")))
    numbers = [_check.whole_number(seed, "seeds", minimum=0) for seed in np.atleast_1d(seeds).tolist()]
    if max(numbers, default=0) >= 2**32:
        raise InputError("seeds", max(numbers), "each must be below 2^32.")
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError("seeds", numbers, "give different whole numbers, or how many.")
    return numbers
