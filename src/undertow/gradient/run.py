"""A training run between two compiled calls: its state and its validation tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from undertow._check import InputError, Setting
from undertow.gradient import checkpoint as store
from undertow.gradient.checkpoint import Checkpoint
from undertow.gradient.keys import as_key
from undertow.gradient.leaves import Tree, join, wrap
from undertow.gradient.loop import STOPPED, Given, Plan, run_chunk
from undertow.gradient.source import Source, fingerprint, identify
from undertow.gradient.state import Records, TrainState
from undertow.gradient.validation import Validation


def check_optimizer(optimizer: Any, name: str) -> optax.GradientTransformationExtraArgs:
    """Return the Optax optimiser, or raise InputError for what is none."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(name, optimizer, "it must be an Optax optimiser, such as optax.adam(1e-3).")
    return optax.with_extra_args_support(optimizer)


def task_mesh(devices: int | Sequence[Any] | None, n_tasks: int) -> Mesh | None:
    """A mesh of devices with one axis, "tasks"; None for the default device. Raises InputError if it cannot be."""
    if devices is None:
        return None
    if isinstance(devices, int):
        if not 1 <= devices <= jax.device_count():
            raise InputError("devices", devices, f"JAX sees {jax.device_count()}.", "Give at most that many.")
        devices = jax.devices()[:devices]
    if not len(devices):
        raise InputError(
            "devices", [], "give at least one of jax.devices(), a number of them, or None for the default."
        )
    if n_tasks % len(devices):
        raise InputError(
            "devices",
            rule=f"{n_tasks} tasks per iteration cannot be shared equally by {len(devices)} devices.",
            way_out=("Choose a ", Setting("meta_batch"), f" that is a multiple of {len(devices)}."),
        )
    return jax.make_mesh((len(devices),), ("tasks",), axis_types=(AxisType.Auto,), devices=list(devices))


class Run:
    """The state of a training run between two compiled calls."""

    def __init__(self, plan: Plan, given: Given, variables: Tree, optimizer_state: Any, rate_names: list[str]) -> None:
        self.plan, self.given = plan, given
        self.variables, self.optimizer_state = variables, optimizer_state
        self.iteration, self.stopped, self.waited = 0, "iterations", 0
        self.best, self.best_loss, self.best_iteration = self.now(), float("inf"), 0
        self.validated = False
        self.checkpoint: Checkpoint | None = None
        self.settings: dict[str, Any] = {}
        self.records = Records(tuple(rate_names))

    def place(self, mesh: Mesh) -> None:
        """Copy everything to all devices, and share out the tasks of a TaskBatch that is used as a whole."""
        everywhere = NamedSharding(mesh, PartitionSpec())
        self.variables, self.optimizer_state = jax.device_put((self.variables, self.optimizer_state), everywhere)
        tasks = self.given.tasks
        if tasks is not None:
            whole = NamedSharding(mesh, PartitionSpec("tasks")) if self.plan.feed.meta_batch is None else everywhere
            tasks = jax.device_put(tasks, whole)
        self.given = jax.device_put(self.given._replace(tasks=None), everywhere)._replace(tasks=tasks)

    def advance(self, chunk: int, stop: int) -> float:
        """Run up to ``stop`` updates in all; return the last meta-loss."""
        before = jnp.asarray(self.iteration, jnp.int32)
        variables, state, model_state, iteration, status, series, rows = run_chunk(
            self.plan, chunk, self.given, self.variables, self.optimizer_state, before, jnp.asarray(stop, jnp.int32)
        )
        self.variables, self.optimizer_state = variables, state
        self.given = self.given._replace(state=model_state)
        self.iteration, self.stopped = int(iteration), STOPPED[int(status)]
        self.records.add(series, int(rows))
        return float(series["meta_loss"][int(rows) - 1])

    def validate(self, validation: Validation) -> None:
        """Evaluate the validation tasks and take down their loss; stop when patience is at its end."""
        loss = validation.loss(self.plan, self.given, self.variables)
        self.validated = True
        self.records.validation.append((self.iteration, loss))
        self.waited += 1
        if loss < self.best_loss:
            self.best, self.best_loss, self.best_iteration, self.waited = self.now(), loss, self.iteration, 0
        if validation.patience is not None and self.waited >= validation.patience:
            self.stopped = "patience"

    def now(self) -> tuple[Tree, Any]:
        """What is evaluated: (variables, state of the model)."""
        return self.variables, self.given.state

    def state(self) -> TrainState:
        """What the caller gets."""

        def whole(at: tuple[Tree, Any]) -> tuple[Tree, Any]:
            variables, model_state = at
            trained, rate = variables if self.plan.learn_rate else (variables, self.given.rate)
            return wrap(join(trained, join(self.given.rest, self.plan.rest.tree)), model_state), rate

        params, rate = whole(self.now())
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

    def save(self) -> None:
        """Write a checkpoint, if there is one to keep."""
        if self.checkpoint is None:
            return
        params = self.variables[0] if self.plan.learn_rate else self.variables
        rate = self.variables[1] if self.plan.learn_rate else self.given.rate
        trees = {
            "params": params,
            "rate": rate,
            "optimizer_state": self.optimizer_state,
            "best": self.best[0],
            "model_state": self.given.state,
            "best_model_state": self.best[1],
            "history": self.records.arrays(),
        }
        facts = {
            "stopped": self.stopped,
            "waited": self.waited,
            "validated": self.validated,
            "best_loss": self.best_loss if self.validated else None,
            "best_iteration": self.best_iteration,
            "settings": self.settings,
        }
        store.save_checkpoint(Path(self.checkpoint.folder), self.iteration, trees, facts)

    def keep(self, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
        """Keep a checkpoint from now on, and go on from the one in its folder, if its settings are the same."""
        self.checkpoint, self.settings = checkpoint, settings
        folder = Path(checkpoint.folder)
        facts = store.read_facts(folder)
        if facts is None:
            return
        store.check_settings("checkpoint", folder, facts["settings"], settings)
        arrays = store.load_arrays(folder, facts)
        take = lambda name, like: store.take(arrays, name, like, folder)  # noqa: E731
        if self.plan.learn_rate:
            self.variables = (take("params", self.variables[0]), take("rate", self.variables[1]))
        else:
            self.variables = take("params", self.variables)
        self.optimizer_state = take("optimizer_state", self.optimizer_state)
        self.given = self.given._replace(state=take("model_state", self.given.state))
        self.best = (take("best", self.best[0]), take("best_model_state", self.best[1]))
        prefix = "history['"
        self.records.restore({n[len(prefix) : -2]: a for n, a in arrays.items() if n.startswith(prefix)})
        self.iteration, self.waited, self.validated = facts["iteration"], facts["waited"], facts["validated"]
        self.best_iteration = facts["best_iteration"]
        self.best_loss = facts["best_loss"] if self.validated else float("inf")
        # A run that ended because its iterations were done goes on when more are asked for.
        # A loss that was low enough then is looked at again: the limit may be another one now.
        self.stopped = "iterations" if facts["stopped"] in ("target_loss", "tolerance") else facts["stopped"]


def settings_of(
    plan: Plan, source: Source, train_rate: Any, seed: Any, validation: Validation | None
) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint, as JSON."""
    listed = lambda tree: [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]  # noqa: E731
    v = validation
    return {
        "train_rate": listed(train_rate),
        "learn_rate": plan.learn_rate,
        **plan.inner.settings(),
        "weighting": plan.weighting,
        "meta_batch": plan.feed.meta_batch,
        "seed": listed(jax.random.key_data(as_key(seed))),
        "source": identify(source.tasks),
        "design": None if plan.feed.design is None else repr(plan.feed.design),
        "redraw": source.redraw is not False,
        "validation": v and [fingerprint(v.tasks), listed(v.adapt_rate), v.steps, v.every, v.patience],
    }
