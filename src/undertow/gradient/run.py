"""A training run between two compiled calls: its state, its validation tasks, and what it says when it blows up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient import checkpoint as store
from undertow.gradient.curvature import stable_interval
from undertow.gradient.keys import as_key
from undertow.gradient.leaves import Tree, join
from undertow.gradient.loop import STOPPED, Given, Plan, look, order_at, run_chunk
from undertow.gradient.meta import meta_loss
from undertow.gradient.rates import check_finite
from undertow.gradient.source import as_arrays, fingerprint, identify, per_epoch
from undertow.gradient.state import NonFiniteError, Records, TrainState


def check_optimizer(optimizer: Any, name: str) -> optax.GradientTransformationExtraArgs:
    """Return the Optax optimiser, or raise InputError for what is none."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(f"{name}={optimizer!r}: it must be an Optax optimiser, such as optax.adam(1e-3).")
    return optax.with_extra_args_support(optimizer)


def task_mesh(devices: int | Sequence[Any] | None, n_tasks: int) -> Mesh | None:
    """A mesh of devices with one axis, "tasks"; None for the default device. Raises InputError if it cannot be."""
    if devices is None:
        return None
    if isinstance(devices, int):
        if not 1 <= devices <= jax.device_count():
            raise InputError(f"devices={devices}: JAX sees {jax.device_count()}. Give at most that many.")
        devices = jax.devices()[:devices]
    if not len(devices):
        raise InputError("devices=[]: give at least one of jax.devices(), a number of them, or None for the default.")
    if n_tasks % len(devices):
        raise InputError(
            f"{n_tasks} tasks per iteration cannot be shared equally by {len(devices)} devices: choose a meta_batch "
            f"that is a multiple of {len(devices)}."
        )
    return jax.make_mesh((len(devices),), ("tasks",), axis_types=(AxisType.Auto,), devices=list(devices))


class Validation:
    """Validation tasks, and how to evaluate them."""

    def __init__(self, plan: Plan, rest: Tree, tasks: TaskBatch, rate: Any, steps: int) -> None:
        self.plan, self.rest, self.tasks, self.rate, self.steps = plan, rest, tasks, rate, steps

    @classmethod
    def of(
        cls, plan: Plan, rest: Tree, tasks: Any, rate: Any, steps: Any, learn_rate: bool, patience: Any
    ) -> Validation | None:
        """Check the arguments; None without validation tasks."""
        if tasks is None:
            if patience is not None:
                raise InputError(f"patience={patience} needs validation tasks: give validation=.")
            return None
        if patience is not None:
            _check.positive_int(patience, "patience")
        if rate is None and not learn_rate:
            raise InputError(
                "validation needs adapt_rate, the rate of the step on a new task: it is another one than "
                "train_rate, which may be negative."
            )
        if rate is not None:
            check_finite(rate, "adapt_rate")
            rate = jax.tree.map(jnp.asarray, rate)
        steps = plan.steps if steps is None else _check.positive_int(steps, "adapt_steps", minimum=0)
        return cls(plan, rest, as_arrays(tasks, "validation"), rate, steps)

    def __call__(self, variables: Tree) -> float:
        """Mean query loss of the validation tasks after adaptation."""
        trained, learned = variables if self.plan.learn_rate else (variables, None)
        rate = learned if self.rate is None else self.rate
        params = join(trained, self.rest)
        return float(_evaluate(self.plan, self.steps, params, self.tasks, rate))


def _evaluate_once(plan: Plan, steps: int, params: Tree, tasks: TaskBatch, rate: Any) -> jax.Array:
    loss, _ = meta_loss(
        plan.loss_fn,
        join(params, plan.rest.tree),
        tasks,
        rate,
        steps,
        rule=plan.rule,
        adapts=plan.adapts.tree,
        weighting=plan.weighting,
    )
    return loss


_evaluate = jax.jit(_evaluate_once, static_argnums=(0, 1))


class Run:
    """The state of a training run between two compiled calls."""

    def __init__(self, plan: Plan, given: Given, variables: Tree, optimizer_state: Any, rate_names: list[str]) -> None:
        self.plan, self.given = plan, given
        self.variables, self.optimizer_state = variables, optimizer_state
        self.iteration, self.stopped, self.waited = 0, "iterations", 0
        self.best, self.best_loss, self.best_iteration = variables, float("inf"), 0
        self.validated = False
        self.records = Records(tuple(rate_names))

    def place(self, mesh: Mesh) -> None:
        """Copy everything to all devices, and share out the tasks of a TaskBatch that is used as a whole."""
        everywhere = NamedSharding(mesh, PartitionSpec())
        self.variables, self.optimizer_state = jax.device_put((self.variables, self.optimizer_state), everywhere)
        tasks = self.given.tasks
        if tasks is not None:
            whole = NamedSharding(mesh, PartitionSpec("tasks")) if self.plan.meta_batch is None else everywhere
            tasks = jax.device_put(tasks, whole)
        self.given = jax.device_put(self.given._replace(tasks=None), everywhere)._replace(tasks=tasks)

    def advance(self, chunk: int, stop: int) -> float:
        """Run up to ``stop`` updates in all; return the last meta-loss."""
        before = jnp.asarray(self.iteration, jnp.int32)
        variables, state, iteration, status, series, rows = run_chunk(
            self.plan, chunk, self.given, self.variables, self.optimizer_state, before, jnp.asarray(stop, jnp.int32)
        )
        self.variables, self.optimizer_state = variables, state
        self.iteration, self.stopped = int(iteration), STOPPED[int(status)]
        self.records.add(series, int(rows))
        return float(series["meta_loss"][int(rows) - 1])

    def note(self, loss: float, patience: int | None) -> None:
        """Take down a validation loss; stop when patience is at its end."""
        self.validated = True
        self.records.validation.append((self.iteration, loss))
        self.waited += 1
        if loss < self.best_loss:
            self.best, self.best_loss, self.best_iteration, self.waited = self.variables, loss, self.iteration, 0
        if patience is not None and self.waited >= patience:
            self.stopped = "patience"

    def state(self) -> TrainState:
        """What the caller gets."""

        def whole(variables: Tree) -> tuple[Tree, Any]:
            trained, rate = variables if self.plan.learn_rate else (variables, self.given.rate)
            return join(trained, join(self.given.rest, self.plan.rest.tree)), rate

        params, rate = whole(self.variables)
        best, best_rate = whole(self.best) if self.validated else (None, None)
        return TrainState(
            params,
            rate,
            self.optimizer_state,
            self.iteration,
            self.stopped,
            best,
            best_rate,
            self.best_loss,
            self.best_iteration,
        )

    def save(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write a checkpoint."""
        params = self.variables[0] if self.plan.learn_rate else self.variables
        rate = self.variables[1] if self.plan.learn_rate else self.given.rate
        trees = {
            "params": params,
            "rate": rate,
            "optimizer_state": self.optimizer_state,
            "best": self.best,
            "history": self.records.arrays(),
        }
        facts = {
            "stopped": self.stopped,
            "waited": self.waited,
            "validated": self.validated,
            "best_loss": self.best_loss if self.validated else None,
            "best_iteration": self.best_iteration,
            "settings": settings,
        }
        store.save_checkpoint(folder, self.iteration, trees, facts)

    def resume(self, folder: Path, settings: dict[str, Any]) -> None:
        """Take over a checkpoint, if there is one with the same settings."""
        facts = store.read_facts(folder)
        if facts is None:
            return
        for name, value in settings.items():
            if facts["settings"].get(name) != value:
                raise InputError(
                    f"checkpoint={str(folder)!r} was written with {name}={facts['settings'].get(name)!r}, and this run "
                    f"has {name}={value!r}. Use the same settings, or another folder."
                )
        arrays = store.load_arrays(folder, facts)
        take = lambda name, like: store.take(arrays, name, like, str(folder))  # noqa: E731
        if self.plan.learn_rate:
            self.variables = (take("params", self.variables[0]), take("rate", self.variables[1]))
        else:
            self.variables = take("params", self.variables)
        self.optimizer_state = take("optimizer_state", self.optimizer_state)
        self.best = take("best", self.best)
        prefix = "history['"
        self.records.restore({n[len(prefix) : -2]: a for n, a in arrays.items() if n.startswith(prefix)})
        self.iteration, self.waited, self.validated = facts["iteration"], facts["waited"], facts["validated"]
        self.best_iteration = facts["best_iteration"]
        self.best_loss = facts["best_loss"] if self.validated else float("inf")
        # A run that ended because its iterations were done goes on when more are asked for.
        # A loss that was low enough then is looked at again: the limit may be another one now.
        self.stopped = "iterations" if facts["stopped"] in ("target_loss", "tolerance") else facts["stopped"]


def explain(run: Run) -> NonFiniteError:
    """Find the first task at fault and the stable interval of the rate on it."""
    state, history = run.state(), run.records.history()
    tasks, bad = look(run.plan, run.given, run.variables, jnp.asarray(run.iteration, jnp.int32))
    place = int(np.asarray(bad).argmax())
    task = jax.tree.map(lambda a: a[place], tasks)
    support = (task.support_x, task.support_y, task.support_mask)
    low, high = stable_interval(run.plan.loss_fn, state.params, support, adapts=run.plan.adapts.tree)
    position = place
    if run.plan.problem.tree is None and run.plan.meta_batch is not None:
        order = order_at(run.plan, run.given, run.iteration)
        start = run.iteration % per_epoch(len(order), run.plan.meta_batch) * run.plan.meta_batch
        position = int(order[start + place])
    sizes = [float(np.abs(np.asarray(value)).max()) for value in jax.tree.leaves(state.rate)]
    rate = f"{float(jax.tree.leaves(state.rate)[0]):g}" if np.size(jax.tree.leaves(state.rate)[0]) == 1 else ""
    shown = rate if len(sizes) == 1 and rate else f"a tree of rates of size up to {max(sizes):g}"
    before = history.meta_loss[:-1]
    earlier = f"The meta-loss was {before[0]:.4g} at first and {before[-1]:.4g} just before. " if len(before) else ""
    message = (
        f"iteration {run.iteration}, task {position}: the loss or its gradient is not finite, with train_rate {shown} "
        f"and steps={run.plan.steps}. {earlier}At these parameters the stable interval of the rate on this task is "
        f"[{low:g}, {high:.4g}]; outside of it, so at every negative rate, an inner step grows. Use a rate nearer to "
        "it, fewer steps, a smaller learning rate of the optimiser, or optax.clip_by_global_norm. The parameters "
        "before this iteration are in the error's state."
    )
    return NonFiniteError(
        message,
        iteration=run.iteration,
        task=position,
        rate=state.rate,
        stable_interval=(low, high),
        state=state,
        history=history,
    )


def settings_of(
    plan: Plan,
    source: Any,
    train_rate: Any,
    seed: Any,
    redraw: bool,
    validate: Validation | None,
    validate_every: int,
    patience: Any,
) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint, as JSON."""
    listed = lambda tree: [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]  # noqa: E731
    validation = None
    if validate is not None:
        validation = [fingerprint(validate.tasks), listed(validate.rate), validate.steps, validate_every, patience]
    return {
        "train_rate": listed(train_rate),
        "learn_rate": plan.learn_rate,
        "steps": plan.steps,
        "first_order": plan.first_order,
        "rule": repr(plan.rule),
        "adapts": listed(plan.adapts.tree),
        "weighting": plan.weighting,
        "meta_batch": plan.meta_batch,
        "seed": listed(jax.random.key_data(as_key(seed))),
        "source": identify(source),
        "design": None if plan.design is None else repr(plan.design),
        "redraw": bool(redraw),
        "validation": validation,
    }
