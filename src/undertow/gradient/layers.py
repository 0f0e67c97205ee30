"""The layers of a model, in order: which is the last, and one value for each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax

from undertow._check import InputError
from undertow.gradient.leaves import Stateful, Tree, is_trained, names


def last_layer(params: Tree) -> Tree:
    """Return ANIL's choice: the tree of booleans that is True in the last layer of ``params`` only.

    The layers are the top-level children that hold trained arrays; where there is only one (as "params" of a Flax tree,
    or ``layers`` of an Equinox perceptron), its children. Lists, tuples and the fields of a module have an order; so
    have the entries of a dict that differ in a number only, such as Dense_0, Dense_1.

    Parameters
    ----------
    params
        any pytree with layers.

    Raises
    ------
    InputError
        for a dict with other names: use ``leaves`` there.

    References
    ----------
    Raghu et al., "Rapid learning or feature reuse?", ICLR 2020, arXiv:1909.09157.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> ug.last_layer(params)
    [{'bias': False, 'weight': False}, {'bias': True, 'weight': True}]
    """
    params = params.params if isinstance(params, Stateful) else params

    def choose(keys: list[Any], holding: list[int]) -> list[bool]:
        last = _last(keys, holding, params)
        return [i == last for i in range(len(keys))]

    return _by_layer(params, choose, everywhere=True)


def all_but_last(params: Tree) -> Tree:
    """Return BOIL's choice: the tree of booleans that is True everywhere but in the last layer.

    Parameters
    ----------
    params
        any pytree with layers, as for ``last_layer``.

    Raises
    ------
    InputError
        as ``last_layer``.

    References
    ----------
    Oh et al., "BOIL: towards representation change for few-shot learning", ICLR 2021, arXiv:2008.08882.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> ug.all_but_last(params)
    [{'bias': True, 'weight': True}, {'bias': False, 'weight': False}]
    """
    return jax.tree.map(lambda flag: not flag, last_layer(params))


def each_layer(trained: Tree, value: Callable[[], Any]) -> Tree:
    """A tree with ``value()`` in place of each layer (see ``last_layer``) of the trained leaves."""
    return _by_layer(trained, lambda keys, holding: [value() for _ in keys], everywhere=False)


def _by_layer(tree: Tree, values: Callable[[list[Any], list[int]], list[Any]], everywhere: bool) -> Tree:
    """Put a value at each layer: at each leaf of it, and False at all leaves above (everywhere), or in its place."""
    keys, children, structure = _level(tree)
    if not keys:
        return values([], [])
    holding = [i for i, child in enumerate(children) if any(is_trained(leaf) for leaf in jax.tree.leaves(child))]
    spread = lambda child, flag: jax.tree.map(lambda _: flag, child)  # noqa: E731
    if len(holding) == 1 and any(not jax.tree_util.all_leaves([c]) for c in _level(children[holding[0]])[1]):
        below = _by_layer(children[holding[0]], values, everywhere)
        others = [spread(child, False) if everywhere else child for child in children]
        return structure.unflatten([below if i == holding[0] else other for i, other in enumerate(others)])
    found = values(keys, holding)
    if everywhere:
        found = [spread(child, flag) for child, flag in zip(children, found, strict=True)]
    return structure.unflatten(found)


def _level(tree: Tree) -> tuple[list[Any], list[Tree], Any]:
    """The children of a node: (their keys, the children, how to put them together)."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    return [path[0] for path, _ in pairs if path], [child for path, child in pairs if path], structure


def _last(keys: list[Any], holding: list[int], params: Tree) -> int:
    """Position of the last layer among the children of a node."""
    texts = [getattr(keys[i], "key", None) for i in holding]
    if any(isinstance(text, str) for text in texts):
        parts = [re.fullmatch(r"(.*?)_?(\d*)", str(text)) for text in texts]
        stems = {part[1] for part in parts if part}
        if len(stems) > 1:
            shown = ", ".join(map(str, texts))
            raise InputError(
                "params",
                rule=f"the names of its layers do not say which is the last ({shown}).",
                way_out=f"Choose by path, as in leaves(params, [{texts[-1]!r}]).",
            )
        return max(holding, key=lambda i: int((re.search(r"\d+$", str(keys[i].key)) or ["-1"])[0]))
    if not holding:
        raise InputError("params", rule=f"it has no layers, only {', '.join(names(params)) or 'nothing'}.")
    return holding[-1]
