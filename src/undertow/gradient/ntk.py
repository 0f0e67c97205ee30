r"""The empirical neural tangent kernel of any model, and the model's linearisation around given parameters.

.. math:: \hat K(x, x') = \frac{\partial f(x)}{\partial\omega} \frac{\partial f(x')}{\partial\omega}^T, \qquad
          f_{lin}(x; \omega) = f_0(x) + \frac{\partial f(x)}{\partial\omega} (\omega - \omega_0)

at the parameters :math:`\omega_0` (Jacot, Gabriel and Hongler, NeurIPS 2018; Lee et al., NeurIPS 2019). The kernel is
exact: Jacobians are contracted chunk by chunk, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undertow._check import InputError

# Numbers in the Jacobian of one chunk: 128 MB in float32, and two chunks are held at a time.
_CHUNK_NUMBERS = 1 << 25


class Linearisation:
    """A model as its value and its tangent at ``params``: what a kernel path needs of a network.

    Parameters
    ----------
    model
        a function of parameters (any pytree) and rows (n, p) that returns outputs (n,) or (n, o); the output of a
        row must not depend on the other rows (no batch statistics).
    params
        where it is linearised. Leaves that are not floating-point arrays are held fixed.
    dtype
        precision in which the model is evaluated; None means that of the parameters. float64 does not need JAX's
        global flag: it is switched on only while the model runs.
    chunk_rows
        rows whose Jacobian is held at a time; None means as many as fit about 128 MB.

    Raises
    ------
    InputError
        when the model does not return one row for each row.

    Notes
    -----
    All methods take and return NumPy arrays.
    """

    def __init__(
        self,
        model: Callable[[Any, Any], Any],
        params: Any,
        *,
        dtype: Any = None,
        chunk_rows: int | None = None,
    ) -> None:
        leaves, self._tree = jax.tree.flatten(params)
        self._leaves = leaves
        self._moving = [n for n, leaf in enumerate(leaves) if _is_floating(leaf)]
        if not self._moving:
            raise InputError(
                "params", rule="it holds no floating-point array, so there is nothing to differentiate with respect to."
            )
        own = np.result_type(*(np.dtype(leaves[n].dtype) for n in self._moving))
        self.dtype = np.dtype(own if dtype is None else dtype)
        if self.dtype not in (np.float32, np.float64):
            raise InputError("dtype", str(self.dtype), "it must be float32 or float64.")
        self._values = self._moving_of(params)
        self.n_params = sum(value.size for value in self._values)
        self._model = model
        self._rows = chunk_rows
        self._outputs = jax.jit(self._apply)
        self._jacobian = jax.jit(self._jacobian_of)
        self._contract = jax.jit(_contract)
        self._tangent = jax.jit(lambda at, delta, x: jax.jvp(lambda v: self._apply(v, x), (at,), (delta,)))

    def around(self, params: Any) -> Linearisation:
        """Return the linearisation of the same model at other parameters; nothing is compiled again.

        Leaves that are held fixed stay as they were.

        Raises
        ------
        InputError
            for another structure or other shapes.
        """
        other = copy(self)
        other._values = self._moving_of(params)
        shapes = [[value.shape for value in values] for values in (other._values, self._values)]
        if shapes[0] != shapes[1]:
            raise InputError(
                "params", rule=f"its shapes {shapes[0]} must be those of the linearised model, {shapes[1]}."
            )
        return other

    def f0(self, x: Any) -> np.ndarray:
        """Return the model's outputs at ``params`` for rows x (n, p): (n,) or (n, o)."""
        with self._precision():
            return np.asarray(self._outputs(self._values, self._cast(x)))

    def kernel(self, x: Any, z: Any = None) -> np.ndarray:
        """Return the kernel between rows x (n, p) and z (l, p): (n, l), or (n, l, o, o) for o outputs.

        Parameters
        ----------
        z
            None means x. With one output this is a kernel for ``undertow.kernel.kernel_path``.
        """
        same = z is None or z is x
        with self._precision():
            left = self._cast(x)
            right = left if same else self._cast(z)
            outputs = self._outputs_of(left)
            # Jacobians of the outer set are made once, those of the inner set once for each outer chunk.
            swap = len(right) < len(left)
            out = self._blocks(right, left, outputs, same) if swap else self._blocks(left, right, outputs, same)
        out = out.transpose(1, 0, 3, 2) if swap else out
        return out if outputs else out[..., 0, 0]

    def _blocks(self, outer: np.ndarray, inner: np.ndarray, outputs: tuple[int, ...], same: bool) -> np.ndarray:
        o = int(np.prod(outputs))
        most = self._rows or max(1, _CHUNK_NUMBERS // (self.n_params * o))
        height, width = _even(len(outer), most), _even(len(inner), most)
        out = np.empty((len(outer), len(inner), o, o), self.dtype)
        for i in range(0, len(outer), height):
            first = self._jacobian(self._values, _padded(outer, i, height))
            for j in range(i if same else 0, len(inner), width):
                second = first if same and i == j else self._jacobian(self._values, _padded(inner, j, width))
                target = out[i : i + height, j : j + width]
                target[...] = self._contract(first, second)[: target.shape[0], : target.shape[1]]
                if same and i != j:
                    out[j : j + width, i : i + height] = target.transpose(1, 0, 3, 2)
        return out

    def features(self, x: Any) -> np.ndarray:
        """Return the explicit Jacobian of rows x (n, p), one column per parameter: (n, P) or (n, o, P)."""
        with self._precision():
            x = self._cast(x)
            outputs = self._outputs_of(x)
            parts = [np.asarray(part) for part in self._jacobian(self._values, x)]
        return np.concatenate(parts, axis=-1).reshape(len(x), *outputs, self.n_params)

    def at(self, params: Any, x: Any) -> np.ndarray:
        """Return the linearised model's outputs at other parameters, f_lin(x; params): (n,) or (n, o)."""
        delta = [new - own for new, own in zip(self.around(params)._values, self._values, strict=True)]
        with self._precision():
            value, change = self._tangent(self._values, delta, self._cast(x))
            return np.asarray(value + change)

    def _moving_of(self, params: Any) -> list[np.ndarray]:
        """The leaves that are differentiated, in this precision."""
        leaves, tree = jax.tree.flatten(params)
        if tree != self._tree:
            raise InputError("params", rule=f"its structure {tree} must be that of the linearised model, {self._tree}.")
        return [np.asarray(leaves[n]).astype(self.dtype) for n in self._moving]

    def _precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if self.dtype == np.float64 else nullcontext()

    def _cast(self, x: Any) -> np.ndarray:
        return np.asarray(x, dtype=self.dtype)

    def _apply(self, values: list[Any], x: Any) -> Any:
        leaves = list(self._leaves)
        for n, value in zip(self._moving, values, strict=True):
            leaves[n] = value
        return self._model(jax.tree.unflatten(self._tree, leaves), x)

    def _outputs_of(self, x: np.ndarray) -> tuple[int, ...]:
        """Shape of the output of one row: () or (o,)."""
        shape = jax.eval_shape(self._apply, self._values, x).shape
        if shape[:1] != (len(x),) or len(shape) > 2:
            raise InputError(
                "model", rule=f"it must return (n,) or (n, outputs), and returned shape {shape} for {len(x)} rows."
            )
        return shape[1:]

    def _jacobian_of(self, values: list[Any], x: Any) -> list[Any]:
        """Jacobian of each row's outputs, one (n, o, size) for each leaf."""

        def of_row(row: Any) -> list[Any]:
            return jax.jacrev(lambda v: self._apply(v, row[None])[0].reshape(-1))(values)

        return [part.reshape(*part.shape[:2], -1) for part in jax.vmap(of_row)(x)]


def empirical_ntk(
    model: Callable[[Any, Any], Any],
    params: Any,
    x: Any,
    z: Any = None,
    *,
    dtype: Any = None,
    chunk_rows: int | None = None,
) -> np.ndarray:
    """Return the empirical tangent kernel of a model between rows x (n, p) and z (l, p).

    One call of ``Linearisation(model, params, ...).kernel(x, z)``, which see; keep the Linearisation to compile once.
    """
    return Linearisation(model, params, dtype=dtype, chunk_rows=chunk_rows).kernel(x, z)


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _even(n: int, most: int) -> int:
    """Length of chunks of n rows, at most ``most``, such that the last is hardly shorter than the others."""
    return -(-n // -(-n // most))


def _padded(x: np.ndarray, start: int, rows: int) -> np.ndarray:
    """A chunk of exactly ``rows`` rows, so that one compiled program serves all; the last row is repeated."""
    part = x[start : start + rows]
    return part if len(part) == rows else np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])


def _contract(first: list[Any], second: list[Any]) -> Any:
    """Sum over leaves of products of Jacobians, (n, l, o, o)."""
    # Full precision also on accelerators, whose fast products would lose half of the digits of float32.
    high = jax.lax.Precision.HIGHEST
    return sum(jnp.einsum("iop,jqp->ijoq", a, b, precision=high) for a, b in zip(first, second, strict=True))
