"""The compiled part of training: a chunk of iterations in one call.

The number of iterations of a chunk, the rate and the seed are traced values; what is static is in a ``Plan``. So a
shorter last chunk, another rate or another seed do not compile anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.inner import norm
from undertow.gradient.inner_loop import InnerLoop
from undertow.gradient.leaves import Static, Tree, join, wrap
from undertow.gradient.loader import Loader
from undertow.gradient.losses import Keyed, LossFn
from undertow.gradient.meta import MetaInfo, meta_loss
from undertow.gradient.source import Feed, draw_tasks, epoch_order, per_epoch
from undertow.gradient.state import AUX

GO, NON_FINITE, TARGET, TOLERANCE = range(4)
STOPPED = {GO: "iterations", NON_FINITE: "non_finite", TARGET: "target_loss", TOLERANCE: "tolerance"}


@dataclass(frozen=True)
class Plan:
    """Everything about a training run that is no number."""

    loss_fn: LossFn
    inner: InnerLoop
    weighting: str
    feed: Feed
    optimizer: optax.GradientTransformationExtraArgs
    rate_optimizer: optax.GradientTransformationExtraArgs | None
    learn_rate: bool
    rest: Static
    """leaves of params that are no arrays"""
    mesh: Mesh | None


class Given(NamedTuple):
    """Numbers and arrays that an iteration reads."""

    tasks: TaskBatch | None
    rate: Any
    """the train rate; None where it is learned"""
    rest: Tree
    """arrays in params that are not trained"""
    key: jax.Array
    """for the tasks that are drawn"""
    shuffle_key: jax.Array
    """for the order of mini-batches"""
    target: Any
    """stop when the meta-loss is at most this"""
    tolerance: Any
    """stop when the norm of the gradient is at most this"""
    noise_key: Any = None
    """for the random numbers of the loss; None where it takes no key"""
    state: Any = None
    """state of a Stateful model when the chunk starts"""


class Carry(NamedTuple):
    """What an iteration hands on."""

    variables: Tree
    """trained leaves, or (trained leaves, rate) where the rate is learned"""
    optimizer_state: Any
    iteration: Any
    status: Any
    order: Any
    """order of the tasks in the current epoch; None without mini-batches"""
    state: Any = None
    """state of a Stateful model"""


def objective(
    plan: Plan, variables: Tree, given: Given, tasks: TaskBatch, iteration: Any, state: Any = None, first: Any = 0
) -> tuple[jax.Array, MetaInfo]:
    """Meta-loss of the variables on the batch of an iteration, or on its tasks from number ``first`` on."""
    trained, rate = variables if plan.learn_rate else (variables, given.rate)
    # A sweep keeps all other leaves in one tree; it has none that is static.
    rest = given.rest if plan.rest.tree is None else join(given.rest, plan.rest.tree)
    params = wrap(join(trained, rest), state)
    loss_fn: Any = plan.loss_fn
    if given.noise_key is not None:
        loss_fn = Keyed(loss_fn, jax.random.fold_in(given.noise_key, iteration), first)
    return meta_loss(loss_fn, params, tasks, rate, plan.inner, plan.weighting)


def aux_names(aux: Tree) -> list[str]:
    """What the leaves of ``aux`` are called in a history: their paths, as "accuracy" or "layer.0"."""
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(aux))
    found = [jax.tree_util.keystr(path, simple=True, separator=".") or "aux" for path in paths]
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise InputError("loss_fn", rule=f"two leaves of what it returns beside the loss (aux) are called {twice!r}.")
    return found


def solved(plan: Plan, info: MetaInfo) -> jax.Array:
    """(m,) whether each task's implicit inner problem is solved; True for other rules."""
    if info.residual is None or plan.inner.max_residual is None:
        return jnp.ones(info.query_after.shape, bool)
    return info.residual <= plan.inner.max_residual


def init_optimizer(plan: Plan, variables: Tree) -> Any:
    """State of the optimiser, or of both."""
    if plan.rate_optimizer is None:
        return plan.optimizer.init(variables)
    return plan.optimizer.init(variables[0]), plan.rate_optimizer.init(variables[1])


def update(
    optimizer: Any, rate_optimizer: Any, grads: Tree, variables: Tree, state: Any, loss: Any, value_fn: Any
) -> tuple[Tree, Any]:
    """One update: (new variables, new state of the optimiser or of both)."""
    if rate_optimizer is None:
        updates, state = optimizer.update(grads, state, variables, value=loss, grad=grads, value_fn=value_fn)
        return optax.apply_updates(variables, updates), state
    first, second = variables
    of = lambda make: {"value": loss, "value_fn": lambda v: value_fn(make(v))}  # noqa: E731
    one, state_one = optimizer.update(grads[0], state[0], first, grad=grads[0], **of(lambda v: (v, second)))
    two, state_two = rate_optimizer.update(grads[1], state[1], second, grad=grads[1], **of(lambda v: (first, v)))
    return (optax.apply_updates(first, one), optax.apply_updates(second, two)), (state_one, state_two)


def batch_at(plan: Plan, given: Given, iteration: Any, order: Any) -> TaskBatch:
    """The tasks of one iteration."""
    feed = plan.feed
    if isinstance(feed.problem.tree, Loader):
        batch = feed.problem.tree.at(iteration)
    elif feed.problem.tree is not None:
        key = jax.random.fold_in(given.key, iteration)
        batch = _once(lambda: draw_tasks(feed.problem.tree, feed.design, key, feed.meta_batch), iteration)
    else:
        batch = given.tasks
        if feed.meta_batch is not None:
            position = iteration % per_epoch(order.shape[0], feed.meta_batch) * feed.meta_batch
            chosen = jax.lax.dynamic_slice(order, (position,), (feed.meta_batch,))
            batch = jax.tree.map(lambda a: a[chosen], batch)
    if plan.mesh is None:
        return batch  # type: ignore[return-value]
    by_task = NamedSharding(plan.mesh, PartitionSpec("tasks"))
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, by_task), batch)


def _once(make: Any, iteration: Any) -> Any:
    """What ``make`` returns, computed once: on a CPU, XLA would compute it again within each operation that reads it.

    It fuses across an optimisation barrier there, but not across a branch whose condition is a traced number.
    """
    other = lambda: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(make))  # noqa: E731
    branch = lambda i: jax.lax.cond(i >= 0, make, other)  # noqa: E731
    return jax.lax.platform_dependent(iteration, cpu=branch, default=lambda i: make())


def order_at(plan: Plan, given: Given, iteration: Any) -> Any:
    """The order of the tasks in the epoch of an iteration; None without mini-batches."""
    meta_batch = plan.feed.meta_batch
    if plan.feed.problem.tree is not None or meta_batch is None:
        return None
    n = given.tasks.support_y.shape[0]  # type: ignore[union-attr]
    return epoch_order(given.shuffle_key, iteration // per_epoch(n, meta_batch), n)


def iterate(plan: Plan, given: Given, carry: Carry) -> tuple[Carry, dict[str, Any]]:
    """One iteration: draw tasks, look at the meta-loss and its gradient, and update if there is no reason to stop."""
    i, order = carry.iteration, carry.order
    if order is not None:
        at_start = i % per_epoch(order.shape[0], plan.feed.meta_batch) == 0  # type: ignore[arg-type]
        order = jax.lax.cond(at_start, lambda: order_at(plan, given, i), lambda: order)
    tasks = batch_at(plan, given, i, order)
    value = lambda v: objective(plan, v, given, tasks, i, carry.state)  # noqa: E731
    (loss, info), grads = jax.value_and_grad(value, has_aux=True)(carry.variables)
    size = norm(grads)
    status = jnp.where(size <= given.tolerance, TOLERANCE, GO)
    status = jnp.where(loss <= given.target, TARGET, status)
    status = jnp.where(jnp.isfinite(loss) & jnp.isfinite(size) & solved(plan, info).all(), status, NON_FINITE)
    both = plan.optimizer, plan.rate_optimizer
    new = update(*both, grads, carry.variables, carry.optimizer_state, loss, lambda v: value(v)[0])
    going = status == GO
    kept: tuple[Tree, Any, Any] = jax.tree.map(
        lambda a, b: jnp.where(going, a, b), (*new, info.state), (carry.variables, carry.optimizer_state, carry.state)
    )
    seen = {
        "meta_loss": loss,
        "support_before": info.support_before.mean(),
        "support_after": info.support_after.mean(),
        "gradient_norm": size,
    }
    if info.residual is not None:
        seen["residual"] = info.residual.max()
    for name, leaf in zip(aux_names(info.aux), jax.tree.leaves(info.aux), strict=True):
        seen[AUX + name] = leaf.mean(axis=0)
    rates = [jnp.ravel(leaf) for leaf in jax.tree.leaves(carry.variables[1])] if plan.learn_rate else []
    seen["rate_mean"] = jnp.array([leaf.mean() for leaf in rates])
    seen["rate_negative"] = jnp.array([(leaf < 0).mean() for leaf in rates])
    return Carry(kept[0], kept[1], i + going, status, order, kept[2]), seen


@partial(jax.jit, static_argnames=("plan", "length"))
def run_chunk(
    plan: Plan, length: int, given: Given, variables: Tree, optimizer_state: Any, start: Any, stop: Any
) -> tuple[Tree, Any, Any, Any, Any, dict[str, Any], Any]:
    """Run iterations start..stop-1, at most ``length`` of them.

    Returns (variables, optimizer_state, state of the model, updates made in all, status, series (length, ...), rows of
    them that are used).
    """
    carry = Carry(variables, optimizer_state, start, jnp.asarray(GO), order_at(plan, given, start), given.state)
    shapes = jax.eval_shape(lambda c: iterate(plan, given, c)[1], carry)
    series = jax.tree.map(lambda s: jnp.zeros((length, *s.shape), s.dtype), shapes)

    def body(loop: Any) -> Any:
        carry, series, row = loop
        after, seen = iterate(plan, given, carry)
        return after, jax.tree.map(lambda a, s: a.at[row].set(s), series, seen), row + 1

    going = lambda loop: (loop[0].iteration < stop) & (loop[0].status == GO)  # noqa: E731
    carry, series, rows = jax.lax.while_loop(going, body, (carry, series, jnp.asarray(0)))
    return carry.variables, carry.optimizer_state, carry.state, carry.iteration, carry.status, series, rows


@partial(jax.jit, static_argnames=("plan",))
def look(plan: Plan, given: Given, variables: Tree, iteration: Any) -> tuple[TaskBatch, jax.Array]:
    """Return (tasks, bad): the batch of an iteration, and which of its tasks have no finite loss and gradient, or no
    solution of their inner problem."""
    tasks = batch_at(plan, given, iteration, order_at(plan, given, iteration))

    def finite(task: TaskBatch, number: Any) -> jax.Array:
        alone = jax.tree.map(lambda a: a[None], task)
        value = lambda v: objective(plan, v, given, alone, iteration, given.state, number)  # noqa: E731
        (loss, info), grads = jax.value_and_grad(value, has_aux=True)(variables)
        return jnp.isfinite(loss) & jnp.isfinite(norm(grads)) & solved(plan, info).all()

    return tasks, ~jax.vmap(finite)(tasks, jnp.arange(jax.tree.leaves(tasks.support_y)[0].shape[0]))
