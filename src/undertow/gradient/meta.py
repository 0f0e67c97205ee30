"""The outer problem: the mean query loss over tasks after the inner step, and what is seen on the way."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.inner import solve
from undertow.gradient.inner_loop import ONE_STEP, InnerLoop, Reptile, check_inner
from undertow.gradient.leaves import Tree, join, part, split
from undertow.gradient.losses import LossFn, task_loss


class MetaInfo(NamedTuple):
    """Losses of each task, before and after its inner step."""

    support_before: jax.Array
    """(m,) mean support loss at params"""
    support_after: jax.Array
    """(m,) mean support loss at the adapted weights"""
    query_before: jax.Array
    """(m,) mean query loss at params"""
    query_after: jax.Array
    """(m,) mean query loss at the adapted weights; the meta-loss is their mean"""
    residual: Any = None
    """(m,) how well the implicit inner problem was solved, relative to |theta - omega|; None for other rules"""


def meta_loss(
    loss_fn: LossFn,
    params: Tree,
    tasks: TaskBatch,
    train_rate: Any,
    inner: InnerLoop = ONE_STEP,
    weighting: str = "rows",
) -> tuple[jax.Array, MetaInfo]:
    """Return (loss, info): the mean query loss after each task's inner step, and the losses of each task.

    loss_fn: loss_fn(params, x, y) -> scalar, a mean over rows. It must treat rows one by one (no batch normalisation
        over rows): otherwise query rows would tell each other about the task.
    tasks: a TaskBatch of arrays (m, n, ...), possibly with masks; padded rows have no influence, whatever they hold.
    train_rate, inner: the rate, of either sign, and the inner loop, as in ``adapt``.
    weighting: "rows" (each query row counts once) or "tasks" (each task once). They differ only for ragged tasks.

    The gradient with respect to params is MAML's; with InnerLoop(first_order=True) it is that of first-order MAML, with
    rule=Implicit() iMAML's and with rule=Reptile() Reptile's pseudo-gradient (mean over tasks). The gradient with
    respect to train_rate is exact for Explicit and Implicit and zero for Reptile. Raises InputError when shapes or
    options do not fit.
    Source: as for ``adapt``.
    """
    _check.one_of(weighting, "weighting", ("rows", "tasks"))
    check_inner(inner, train_rate, "train_rate")
    check_shapes(tasks)
    trained, rest = split(params)

    def one_task(task: TaskBatch) -> tuple[MetaInfo, Tree]:
        support = (task.support_x, task.support_y, task.support_mask)
        query = (task.query_x, task.query_y, task.query_mask)
        at = lambda t, rows: task_loss(loss_fn, join(t, rest), *rows)  # noqa: E731
        found = solve(lambda t: at(t, support), trained, train_rate, inner, "train_rate")
        after = found.trained
        info = MetaInfo(found.loss_before, at(after, support), at(trained, query), at(after, query), found.residual)
        return info, found.gradient_sum

    info, sums = jax.vmap(one_task)(tasks._replace(ids=None))
    loss = _mean(info.query_after, tasks.query_mask if weighting == "rows" else None)
    if isinstance(inner.rule, Reptile):
        loss = _with_gradient(loss, part(trained, inner.adapts)[0], jax.tree.map(lambda g: g.mean(axis=0), sums))
    return loss, info


def _mean(losses: jax.Array, mask: Any) -> jax.Array:
    if mask is None:
        return losses.mean()
    rows = jnp.asarray(mask).sum(axis=1).astype(losses.dtype)
    return (losses * rows).sum() / rows.sum()


def _with_gradient(value: jax.Array, at: Tree, gradient: Tree) -> jax.Array:
    """Return ``value``, but with ``gradient`` as its derivative with respect to ``at``."""
    pairs = zip(jax.tree.leaves(at), jax.tree.leaves(gradient), strict=True)
    linear = sum(jnp.sum((w - jax.lax.stop_gradient(w)) * jax.lax.stop_gradient(g)) for w, g in pairs)
    return jax.lax.stop_gradient(value) + linear.astype(value.dtype)  # type: ignore[union-attr]


def check_shapes(tasks: TaskBatch) -> None:
    """Raise InputError when the arrays of a TaskBatch do not agree on tasks and rows. Looks at shapes only."""
    m = None
    for name in ("support", "query"):
        x, y, mask = (getattr(tasks, f"{name}_{part}") for part in ("x", "y", "mask"))
        rows = jnp.shape(jax.tree.leaves(x)[0])[:2]
        m = rows[0] if m is None else m
        if len(rows) != 2 or 0 in rows or rows[0] != m:
            raise InputError(
                f"{name}_x",
                rule=f"its shape {jnp.shape(jax.tree.leaves(x)[0])} must be (tasks, rows, ...) with the same number of "
                f"tasks ({m}) in all arrays, at least one task and at least one row.",
            )
        for field, value in (("x", x), ("y", y), ("mask", mask)):
            if any(jnp.shape(leaf)[:2] != rows for leaf in jax.tree.leaves(value)):
                shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(value)]
                raise InputError(f"{name}_{field}", rule=f"its shape {shapes[0]} must begin with {rows}.")
