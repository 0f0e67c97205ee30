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
from undertow.gradient.leaves import Tree, join, part, split, unwrap
from undertow.gradient.losses import LossFn, key_of, task_loss
from undertow.gradient.masks import check_rows, without_full_masks


class MetaInfo(NamedTuple):
    """Losses of each task, before and after its inner step.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> tasks = ut.MixedLinearRegression(n_features=3).sample(ut.Design(n_tasks=4, n_support=8, n_query=5), seed=0)
    >>> _, info = ug.meta_loss(loss_fn, jnp.zeros(3), tasks, train_rate=-0.1)
    >>> bool((info.support_after > info.support_before).all())  # a negative rate goes up the support loss
    True
    """

    support_before: jax.Array
    """(m,) mean support loss at params"""
    support_after: jax.Array
    """(m,) mean support loss at the adapted weights"""
    query_before: jax.Array
    """(m,) mean query loss at params"""
    query_after: jax.Array
    """(m,) mean query loss at the adapted weights; the meta-loss is their mean"""
    residual: Any = None
    """(m,) how well the implicit inner problem was solved, relative to |theta - omega|, infinite where no minimum lies
    between them; None for other rules"""
    aux: Any = None
    """what the query loss at the adapted weights returns beside its value, with a leading axis of tasks (m, ...)"""
    state: Any = None
    """the new state of a Stateful model: the mean over tasks of what these losses return"""


def meta_loss(
    loss_fn: LossFn,
    params: Tree,
    tasks: TaskBatch,
    train_rate: Any,
    inner: InnerLoop = ONE_STEP,
    weighting: str = "rows",
) -> tuple[jax.Array, MetaInfo]:
    """Return (loss, info): the mean query loss after each task's inner step, and the losses of each task.

    Parameters
    ----------
    loss_fn
        loss_fn(params, x, y) -> scalar, or (scalar, aux) with a tree of numbers to look at. A mean over rows that
        treats them one by one; a loss that does not (class weights, batch statistics) must have an argument
        ``mask`` where tasks have masks. It may have arguments ``mask`` (n,) (True where a row is real), ``key``
        (see ``with_key``) and ``state`` (see ``Stateful``).
    params
        any pytree, or Stateful.
    tasks
        a TaskBatch of arrays (m, n, ...), possibly with masks; padded rows have no influence, whatever they hold.
    train_rate, inner
        the rate, of either sign, and the inner loop, as in ``adapt``.
    weighting
        "rows" (each query row counts once) or "tasks" (each task once). They differ only for ragged tasks.

    Raises
    ------
    InputError
        when shapes or options do not fit.

    Notes
    -----
    The gradient with respect to params is MAML's; with InnerLoop(first_order=True) it is that of first-order MAML, with
    rule=Implicit() iMAML's and with rule=Reptile() Reptile's pseudo-gradient (mean over tasks). The gradient with
    respect to train_rate is exact for Explicit and Implicit and zero for Reptile.

    References
    ----------
    As for ``adapt``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> tasks = ut.MixedLinearRegression(n_features=3).sample(ut.Design(n_tasks=4, n_support=8, n_query=5), seed=0)
    >>> loss, info = ug.meta_loss(loss_fn, jnp.zeros(3), tasks, train_rate=-0.1)
    >>> loss.shape, info.query_after.shape
    ((), (4,))
    """
    _check.one_of(weighting, "weighting", ("rows", "tasks"))
    check_inner(inner, train_rate, "train_rate")
    check_shapes(tasks)
    params, state = unwrap(params)
    tasks = without_full_masks(tasks._replace(ids=None))
    check_rows(loss_fn, params, tasks)
    loss_fn, keyed = key_of(loss_fn)
    trained, rest = split(params)
    if inner.trains is not True:
        moved, fixed = part(trained, inner.trains, "trains")
        trained = join(moved, jax.tree.map(jax.lax.stop_gradient, fixed))
    state = jax.tree.map(jax.lax.stop_gradient, state)

    def one_task(task: TaskBatch, key: Any) -> tuple[MetaInfo, Tree]:
        support = (task.support_x, task.support_y, task.support_mask)
        query = (task.query_x, task.query_y, task.query_mask)

        def at(weights: Tree, rows: Any, call: Any) -> tuple[jax.Array, Any]:
            noise = None if key is None else jax.random.fold_in(key, call)
            return task_loss(loss_fn, join(weights, rest), *rows, key=noise, state=state)

        k = inner.steps
        found = solve(lambda t, step: at(t, support, step)[0], trained, train_rate, inner, "train_rate")
        last, seen = at(found.trained, query, k)
        losses = found.loss_before, at(found.trained, support, k + 1)[0], at(trained, query, k + 2)[0], last
        return MetaInfo(*losses, found.residual, *jax.lax.stop_gradient(seen)), found.gradient_sum

    m = jax.tree.leaves(tasks.support_y)[0].shape[0]
    info, sums = jax.vmap(one_task)(tasks, None if keyed is None else keyed.of_tasks(m))
    info = info._replace(state=jax.tree.map(lambda leaf: leaf.mean(axis=0).astype(leaf.dtype), info.state))
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
    if not isinstance(tasks, TaskBatch):
        raise InputError("tasks", rule=f"they must be a TaskBatch, and are of type {type(tasks).__name__}.")
    m = None
    for name in ("support", "query"):
        x, y, mask = (getattr(tasks, f"{name}_{part}") for part in ("x", "y", "mask"))
        leaves = jax.tree.leaves(x)
        if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
            raise InputError(f"{name}_x", rule="it must be an array (tasks, rows, ...).", way_out="Use np.asarray.")
        rows = jnp.shape(leaves[0])[:2]
        m = rows[0] if m is None and rows else m
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
