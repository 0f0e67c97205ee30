"""Rates of the inner step: one number, one per layer, per leaf or per parameter, and per step; all signed.

A rate given to ``adapt``, ``meta_loss`` or ``train`` is one number, or a tree with the structure of the parameters (or
of its upper levels) whose leaves broadcast to the parameters below them, or ``PerStep`` of one of these. It is an
ordinary traced value: another rate of the same shape never compiles anew, and a gradient reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow.gradient.layers import each_layer
from undertow.gradient.leaves import Tree, part, split, spread, unwrap


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PerStep:
    """Rates that differ from step to step: each leaf of ``values`` has one entry per step on its first axis.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from undertow import gradient as ug
    >>> ug.PerStep(jnp.array([0.1, -0.05])).values.shape
    (2,)
    """

    values: Any
    """(steps,), or a tree of arrays (steps, ...)"""


def per_layer(params: Tree, value: float = 0.1) -> Tree:
    """Return one rate for each layer of ``params`` (see ``last_layer``): a tree of scalars, all ``value`` at first.

    Parameters
    ----------
    params
        any pytree with layers, as for ``last_layer``.
    value
        rate at first.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> [round(float(rate), 3) for rate in ug.per_layer(params, 0.05)]
    [0.05, 0.05]
    """
    check_finite(value, "value")
    return each_layer(split(unwrap(params)[0])[0], lambda: jnp.asarray(value, float))


def per_leaf(params: Tree, value: float = 0.1) -> Tree:
    """Return one rate for each trained array of ``params``: a tree of scalars, all ``value`` at first.

    Parameters
    ----------
    params
        any pytree.
    value
        rate at first.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> round(float(ug.per_leaf(params, 0.05)[0]["bias"]), 3)
    0.05
    """
    check_finite(value, "value")
    return jax.tree.map(lambda _: jnp.asarray(value, float), split(unwrap(params)[0])[0])


def per_parameter(params: Tree, value: float = 0.1) -> Tree:
    """Return one rate for each number in ``params``, as in Meta-SGD: a tree of arrays, all ``value`` at first.

    Parameters
    ----------
    params
        any pytree.
    value
        rate at first.

    References
    ----------
    Li et al., "Meta-SGD: learning to learn quickly for few-shot learning", 2017, arXiv:1707.09835. Theirs start
    positive; here nothing keeps them so.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 20, 1), key=0)
    >>> ug.per_parameter(params, 0.05)[0]["weight"].shape
    (1, 20)
    """
    check_finite(value, "value")
    return jax.tree.map(lambda leaf: jnp.full_like(jnp.asarray(leaf), value), split(unwrap(params)[0])[0])


def per_step(rate: Tree, steps: int) -> PerStep:
    """Repeat a rate of any kind for each of ``steps`` steps; one that is per step already goes on with its last entry.

    So rates learned for 3 steps serve for 10 on a new task: ``per_step(state.rate, 10)``.
    ``per_step(per_layer(params), steps)`` is the per-layer per-step rate of Antoniou et al., "How to train your MAML",
    ICLR 2019, arXiv:1810.09502.

    Parameters
    ----------
    rate
        a number, a tree of rates, or a PerStep.
    steps
        number of inner steps.

    Returns
    -------
    PerStep
        a rate for each step, which ``InnerLoop(steps=...)`` of as many steps takes.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.per_step(0.1, steps=3).values.shape
    (3,)
    """
    check_finite(rate, "rate")
    steps = _check.whole_number(steps, "steps", minimum=0)
    if isinstance(rate, PerStep):
        if any(jnp.shape(value)[:1] in ((), (0,)) for value in jax.tree.leaves(rate.values)):
            raise InputError("rate", rule="it is PerStep without a step, so there is no last one to go on with.")
        longer = lambda value: jnp.asarray(value)[jnp.minimum(jnp.arange(steps), jnp.shape(value)[0] - 1)]  # noqa: E731
        return PerStep(jax.tree.map(longer, rate.values))
    repeat = lambda value: jnp.repeat(jnp.asarray(value, float)[None], steps, axis=0)  # noqa: E731
    return PerStep(jax.tree.map(repeat, rate))


def align(rate: Tree, trained: Tree, adapts: Tree, steps: int, name: str = "rate") -> tuple[Tree, bool]:
    """Return (rate of each moving leaf, whether it has a leading axis of steps).

    Raises InputError when the structure, a leaf's shape or the number of steps does not fit.
    """
    stepwise = isinstance(rate, PerStep)
    moving, _ = part(trained, adapts)
    full = spread(rate.values if stepwise else rate, trained, name)
    aligned = jax.tree.map(lambda leaf, below: below, moving, _where(moving, full))
    for value, leaf in zip(jax.tree.leaves(aligned), jax.tree.leaves(moving), strict=True):
        shape = jnp.shape(value)
        if stepwise and (not shape or shape[0] != steps):
            raise InputError(
                name,
                rule=(
                    f"it is PerStep with leaves of shape {shape}, and with ",
                    Setting("steps", steps),
                    f" the first axis of each leaf must have length {steps}.",
                ),
                way_out=f"per_step(rate, {steps}) makes one.",
            )
        inner = shape[1:] if stepwise else shape
        if not _broadcasts(inner, jnp.shape(leaf)):
            raise InputError(
                name,
                rule=f"it has a leaf of shape {inner} for a parameter of shape {jnp.shape(leaf)}. A leaf must be one "
                "number or broadcast to its parameter.",
                way_out="Rates that differ from step to step are written PerStep(values).",
            )
    return aligned, stepwise


def is_scalar(rate: Tree) -> bool:
    """Whether the rate is one number."""
    return not isinstance(rate, PerStep) and jax.tree.structure(rate).num_nodes == 1 and jnp.ndim(rate) == 0


def check_finite(rate: Tree, name: str) -> None:
    """Raise InputError if a rate whose value is known is not finite; any sign is right."""
    for value in jax.tree.leaves(rate):
        if isinstance(value, jax.core.Tracer):
            continue
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(name, value, "it must be a number or a tree of numbers.") from None
        if not np.isfinite(array).all():
            bad = array[~np.isfinite(array)].flat[0]
            raise InputError(
                name,
                float(bad),
                "a rate may have either sign or be 0, but must be finite here.",
                "The rate infinity has a solution in the exact half only (undertow.rate_path).",
            )


def _where(moving: Tree, full: Tree) -> Tree:
    return jax.tree.map(
        lambda leaf, value: None if leaf is None else value, moving, full, is_leaf=lambda leaf: leaf is None
    )


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
