"""What training says when it cannot go on: which task is at fault, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undertow._batch import TaskBatch
from undertow.gradient.curvature import stable_interval
from undertow.gradient.inner import solve, unsolved
from undertow.gradient.leaves import Tree, join, part, split, unwrap, wrap
from undertow.gradient.loop import look, order_at
from undertow.gradient.losses import Keyed, key_of, task_loss
from undertow.gradient.meta import meta_loss
from undertow.gradient.run import Run
from undertow.gradient.source import per_epoch
from undertow.gradient.state import NonFiniteError

_GUARD = "Keep its argument away from that point, as in jnp.sqrt(v + 1e-12) or optax.safe_norm"

_SMALLER = "Use a smaller learning rate of the optimiser, or optax.clip_by_global_norm."
_LOOK = "Look at the loss at these parameters; scale the targets if they are large."


class Cause(NamedTuple):
    """Why a number is not finite, and what helps."""

    name: str
    sentence: str
    way_out: str


def explain(run: Run) -> NonFiniteError:
    """Find the first task at fault and the cause; the stable interval of the rate on that task goes with it."""
    state, history = run.state(), run.records.history()
    tasks, bad = look(run.plan, run.given, run.variables, jnp.asarray(run.iteration, jnp.int32))
    place = int(np.asarray(bad).argmax())
    task = jax.tree.map(lambda a: a[place], tasks)
    support = (task.support_x, task.support_y, task.support_mask)
    loss_fn: Any = run.plan.loss_fn
    if run.given.noise_key is not None:
        loss_fn = Keyed(loss_fn, jax.random.fold_in(run.given.noise_key, run.iteration), place)
    low, high = stable_interval(loss_fn, state.params, support, adapts=run.plan.inner.adapts)
    if bool(np.asarray(bad).any()):
        cause = _cause(run, loss_fn, state.params, state.rate, task, high)
        where = f"task {_position(run, place)}: {cause.sentence}"
    else:
        cause = Cause("sum", "", "Make the losses smaller, or compute in a wider type of numbers.")
        where = "each task alone has a finite loss and gradient, but their mean overflows."
    before = history.meta_loss[:-1]
    earlier = f" The meta-loss was {before[0]:.4g} at first and {before[-1]:.4g} just before." if len(before) else ""
    return NonFiniteError(
        f"iteration {run.iteration}, {where}{earlier} {cause.way_out}",
        iteration=run.iteration,
        task=_position(run, place),
        cause=cause.name,
        rate=state.rate,
        stable_interval=(low, high),
        state=state,
        history=history,
    )


def _position(run: Run, place: int) -> int:
    """Where in the TaskBatch a task of the current mini-batch stands; its place in the batch for tasks drawn anew."""
    meta_batch = run.plan.feed.meta_batch
    if run.plan.feed.problem.tree is not None or meta_batch is None:
        return place
    order = order_at(run.plan, run.given, run.iteration)
    return int(order[run.iteration % per_epoch(len(order), meta_batch) * meta_batch + place])


def _cause(run: Run, loss_fn: Any, params: Tree, rate: Any, task: TaskBatch, high: float) -> Cause:
    """Follow one task from its numbers to its meta-gradient; the first that is not finite is the cause."""
    plan, inner = run.plan, run.plan.inner
    params, state = unwrap(params)
    trained, rest = split(params)
    bare, keyed = key_of(loss_fn)
    key = None if keyed is None else keyed.of_tasks(1)[0]
    noise = lambda call: None if key is None else jax.random.fold_in(key, call)  # noqa: E731
    support = (task.support_x, task.support_y, task.support_mask)
    query = (task.query_x, task.query_y, task.query_mask)

    def at(weights: Tree, rows: Any, call: Any = 0) -> jax.Array:
        return task_loss(bare, join(weights, rest), *rows, key=noise(call), state=state)[0]

    shown = f"train_rate {_rate_text(rate)} and steps={inner.steps}"
    if not _finite(trained):
        sentence = "the parameters are not finite, before anything is computed from them."
        return Cause("params", sentence, _SMALLER if run.iteration else "Start from finite parameters.")
    for name, rows in (("support", support), ("query", query)):
        if not _finite(_real(rows)):
            return Cause("data", f"its {name} rows hold numbers that are not finite.", "Look at the source of tasks.")
    for name, rows in (("support", support), ("query", query)):
        value, largest = at(trained, rows), _largest(_real(rows))
        if not jnp.isfinite(value):
            size = f" The largest number in its rows is {largest:.3g}, and {_limit(value)}." if largest > 1e3 else ""
            return Cause(
                "start",
                f"the {name} loss is {float(value):g} before any inner step, so the rate, {shown}, is not the cause."
                f"{size}",
                _SMALLER if run.iteration and not size else _LOOK,
            )
    moving, still = part(trained, inner.adapts)
    if not _finite(jax.grad(lambda m: at(join(m, still), support))(moving)):
        return _no_derivative("support", at(trained, support), "these parameters", shown)
    found = solve(lambda t, step: at(t, support, step), trained, rate, inner)
    limit = inner.max_residual
    if limit is not None and not float(found.residual) <= limit:
        return _unsolved(float(found.residual), limit, shown)
    ends = (found.trained, at(found.trained, support, inner.steps + 1), at(found.trained, query, inner.steps))
    # The interval is one of plain gradient steps, and says nothing about a rate inside of it.
    inside = all((np.asarray(leaf) >= 0).all() and (np.asarray(leaf) <= high).all() for leaf in jax.tree.leaves(rate))
    plain = getattr(inner.rule, "direction", None) is None
    blown = _too_large(shown, high if plain and not inside else np.nan)
    if not _finite(ends):
        return blown
    if not _finite(jax.grad(lambda t: at(t, query, inner.steps))(found.trained)):
        return _no_derivative("query", ends[2], "the adapted weights", shown)
    one = jax.tree.map(lambda a: a[None], task)
    first = inner.with_first_order()
    outer = jax.grad(lambda t: meta_loss(loss_fn, wrap(join(t, rest), state), one, rate, first, plan.weighting)[0])(
        trained
    )
    if np.isfinite(high) or not _finite(outer):
        return blown
    return Cause(
        "second_derivative",
        f"all losses and their gradients are finite, but not the second derivative of the support loss, with {shown}.",
        f"{_GUARD}, or leave second derivatives out with InnerLoop(first_order=True).",
    )


def _no_derivative(rows: str, value: Any, where: str, shown: str) -> Cause:
    return Cause(
        "derivative",
        f"the {rows} loss at {where} is finite ({float(value):.4g}) but has no finite derivative there, as a root or a "
        f"norm has none at 0. The rate, {shown}, is not the cause.",
        f"{_GUARD}.",
    )


def _unsolved(residual: float, limit: float, shown: str) -> Cause:
    return Cause(
        "unsolved",
        f"the implicit inner problem is not solved, with {shown}: {unsolved(residual, limit)}.",
        "It may have no solution at this rate, as at a negative one below -1 / lambda_max of the Hessian. Use a rate "
        "nearer to 0, or more steps.",
    )


def _too_large(shown: str, high: float) -> Cause:
    known = not np.isnan(high)
    interval = (
        f" At these parameters the stable interval of the rate on this task is [0, {high:.4g}]; outside of it, so at "
        "every negative rate, an inner step grows."
    )
    return Cause(
        "rate",
        f"the loss or its gradient is not finite after the inner steps, with {shown}.{interval if known else ''}",
        f"Use a rate nearer to {'it' if known else '0'}, fewer steps, a smaller learning rate of the optimiser, or "
        "optax.clip_by_global_norm.",
    )


def _rate_text(rate: Any) -> str:
    values = [np.abs(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(rate)]
    if len(values) == 1 and values[0].size == 1:
        return f"{float(np.asarray(jax.tree.leaves(rate)[0]).reshape(())):g}"
    return f"a tree of rates of size up to {max(float(value.max()) for value in values):g}"


def _limit(value: Any) -> str:
    kind = jnp.asarray(value).dtype
    return f"a square overflows {kind} from {float(jnp.finfo(kind).max) ** 0.5:.2g} on"


def _real(rows: tuple[Any, Any, Any]) -> list[Any]:
    """The floating point numbers in the real rows of one task."""
    x, y, mask = rows
    keep = slice(None) if mask is None else np.asarray(mask, bool)
    return [np.asarray(leaf)[keep] for leaf in jax.tree.leaves((x, y)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _largest(leaves: list[Any]) -> float:
    return max((float(np.abs(leaf.astype(np.float64)).max()) for leaf in leaves), default=0.0)


def _finite(tree: Tree) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
