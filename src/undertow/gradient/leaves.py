"""Which leaves of a model are trained, and which of them the inner step moves.

A model is any pytree. Its arrays of floating point numbers are trained; everything else (whole numbers, activation
functions, Python scalars) is carried along unchanged. A tree of booleans, or a prefix of one, says what adapts.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undertow._check import InputError

Tree = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stateful:
    """A model with a state that no gradient trains, such as the running statistics of a batch normalisation.

    Hand it over in place of ``params``. The loss is then loss_fn(params, x, y, state=...) and returns (loss, aux, new
    state); aux may be None. All calls of an iteration read the state before it; the state after it is the mean over
    tasks of what the query losses at the adapted weights return.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> model = ug.Stateful(params, state={"mean": 0.0})
    >>> sorted(model.state)
    ['mean']
    """

    params: Any
    """any pytree, as for a model without state"""
    state: Any
    """any pytree of arrays"""


def unwrap(params: Tree) -> tuple[Tree, Any]:
    """Return (params, state); a model that is not Stateful has the state None."""
    return (params.params, params.state) if isinstance(params, Stateful) else (params, None)


def wrap(params: Tree, state: Any) -> Tree:
    """Undo ``unwrap``."""
    return params if state is None else Stateful(params, state)


def is_trained(leaf: Any) -> bool:
    """Whether a leaf is an array of floating point (or complex) numbers."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def split(params: Tree) -> tuple[Tree, Tree]:
    """Return (trained leaves, all others), each with None where the other has a leaf. Raises InputError if none is."""
    trained = jax.tree.map(lambda leaf: leaf if is_trained(leaf) else None, params)
    if not jax.tree.leaves(trained):
        raise InputError(
            "params",
            rule="it holds no array of floating point numbers, so there is nothing to train.",
            way_out="Arrays are trained, Python numbers are constants; write jnp.asarray(0.5) instead of 0.5.",
        )
    return trained, jax.tree.map(lambda leaf: None if is_trained(leaf) else leaf, params)


def from_numpy(params: Tree) -> Tree:
    """The same tree with its NumPy arrays as arrays of JAX. Raises InputError for an array of no numbers."""

    def one(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if leaf.dtype.kind in "OSUMm":
            where = jax.tree_util.keystr(path) or "it"
            raise InputError("params", rule=f"{where} is an array of type {leaf.dtype}, which JAX cannot compute with.")
        return jnp.asarray(leaf)

    return jax.tree_util.tree_map_with_path(one, params)


def start_of(init_fn: Any, key: Any) -> Tree:
    """The first parameters. Raises InputError for what is no function of a key."""
    try:
        if not callable(init_fn):
            raise TypeError("it cannot be called")
        inspect.signature(init_fn).bind(key)
    except TypeError as error:
        raise InputError("init_fn", rule=f"it must be a function of a key that returns params: {error}.") from None
    except ValueError:  # it has no signature to look at
        pass
    return init_fn(key)


def join(first: Tree, second: Tree) -> Tree:
    """Undo ``split`` (or ``part``)."""
    return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None)


def part(trained: Tree, chosen: Tree, name: str = "adapts") -> tuple[Tree, Tree]:
    """Return (leaves that are chosen, the others): what an inner step moves (adapts), or the outer one (trains)."""
    flags = spread(chosen, trained, name)
    moving = jax.tree.map(lambda flag, leaf: leaf if flag else None, flags, trained)
    if not jax.tree.leaves(moving):
        raise InputError(
            name,
            rule=f"it is False everywhere, so no leaf {name}.",
            way_out="Use rate 0 for a model without inner step." if name == "adapts" else "Leave one to train.",
        )
    return moving, jax.tree.map(lambda flag, leaf: None if flag else leaf, flags, trained)


def spread(prefix: Tree, tree: Tree, name: str) -> Tree:
    """Repeat each leaf of ``prefix`` over the leaves of ``tree`` below it. Raises InputError where it does not fit."""
    try:
        return jax.tree.map(lambda value, below: jax.tree.map(lambda _: value, below), prefix, tree)
    except (ValueError, TypeError):
        raise InputError(
            name,
            rule=f"it must be one value, or a tree with the structure of params (or of its upper levels). It is a "
            f"{_outline(prefix)} and params a {_outline(tree)}.",
        ) from None


def warn_of_ties(params: Tree) -> None:
    """Warn of an array that stands at two places of ``params``: each place is trained for itself."""
    places: dict[Any, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not is_trained(leaf):
            continue
        here = jax.tree_util.keystr(path)
        first = places.setdefault(_place(leaf), here)
        if first != here:
            warnings.warn(
                f"params: {first} and {here} are the same array, and are trained as two from here on. Keep one of "
                "them and use it twice in the loss, or tie them with equinox.nn.Shared; hand over a copy if they are "
                "two.",
                stacklevel=3,
            )


def _place(leaf: Any) -> Any:
    """What two names of one array have in common; views of one NumPy array too."""
    if isinstance(leaf, np.ndarray) and leaf.size:
        return leaf.__array_interface__["data"][0], leaf.shape, leaf.strides
    return id(leaf)


def leaves(params: Tree, where: Callable[[str], bool] | Iterable[str]) -> Tree:
    """Return the tree of booleans, shaped as ``params``, that is True at the chosen leaves.

    Parameters
    ----------
    params
        any pytree.
    where
        a function of the leaf's path (such as "[2]['bias']" or ".layers[0].weight"), or a sequence of pieces of
        text, of which a chosen path contains at least one.

    Raises
    ------
    InputError
        with all paths, when nothing is chosen.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> ug.leaves(params, ["bias"])
    [{'bias': True, 'weight': False}, {'bias': True, 'weight': False}]
    """
    if not callable(where):
        pieces = [where] if isinstance(where, str) else list(where)
        where = lambda path: any(piece in path for piece in pieces)  # noqa: E731
    chosen = jax.tree_util.tree_map_with_path(lambda path, _: bool(where(jax.tree_util.keystr(path))), params)
    if not any(jax.tree.leaves(chosen)):
        raise InputError(
            "where", rule="it chooses no leaf of params.", way_out=f"Its leaves are: {', '.join(names(params))}."
        )
    return chosen


def names(tree: Tree, root: str = "params") -> list[str]:
    """The path of each leaf, as text; ``root`` is the name of a tree that is one leaf."""
    return [jax.tree_util.keystr(path) or root for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


class Static:
    """A pytree of things that are no arrays, hashable so that a compiled function can depend on it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        self._key = (tuple(_key(leaf) for leaf in leaves), structure)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key


def _key(leaf: Any) -> Any:
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return (type(leaf), leaf)


def _outline(tree: Tree) -> str:
    text = str(jax.tree.structure(tree)).removeprefix("PyTreeDef(").removesuffix(")")
    return text if len(text) < 200 else f"{text[:200]}..."
