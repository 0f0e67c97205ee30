"""A training run between two compiled calls: its state and its validation tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
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
from undertow.gradient.fingerprints import identify_transform
from undertow.gradient.inner_loop import check_inner, split_outer
from undertow.gradient.keys import as_key
from undertow.gradient.leaves import Tree, is_trained, join, unwrap, wrap
from undertow.gradient.loader import raising
from undertow.gradient.loop import STOPPED, Given, Plan, init_optimizer, run_chunk, update
from undertow.gradient.source import Source, fingerprint, identify
from undertow.gradient.state import Records, TrainState
from undertow.gradient.validation import Validation


def check_optimizer(optimizer: Any, name: str) -> optax.GradientTransformationExtraArgs:
    """Return the Optax optimiser (MultiSteps is one too), or raise InputError for what is none."""
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(name, optimizer, "it must be an Optax optimiser, such as optax.adam(1e-3).")
    return _with_extra_args(optimizer)


# The same optimiser must give the same object again, or its compiled chunk would not be found.
_with_extra_args = lru_cache(maxsize=256)(optax.with_extra_args_support)


def start_optimizer(plan: Plan, variables: Tree) -> Any:
    """State of the optimiser(s) at these variables. Raises InputError where they do not fit trees of this structure."""
    name = "optimizer" if plan.rate_optimizer is None else "optimizer or rate_optimizer"
    try:
        state = init_optimizer(plan, variables)
        before = jax.tree.map(jax.typeof, (variables, state))
        leaves, structure = jax.tree.flatten(before)
        fits = _keeps(plan.optimizer, plan.rate_optimizer, plan.learn_rate, structure, tuple(leaves))
    except InputError:
        raise
    except Exception as error:  # whatever a transformation raises that expects other parameters
        rule = f"it cannot update these parameters ({type(error).__name__}: {error})."
        raise InputError(name, rule=rule, way_out=_PLAIN) from error
    if not fits:
        raise InputError(
            name,
            rule="its update changes the structure, a shape or a type of the parameters or of its state.",
            way_out=_PLAIN,
        )
    return state


_PLAIN = "Take one that updates a tree of arrays as it is; optax.lookahead, for one, needs a pair of trees."


@lru_cache(maxsize=256)
def _keeps(optimizer: Any, rate_optimizer: Any, learn_rate: bool, structure: Any, leaves: tuple[Any, ...]) -> bool:
    """Whether an update gives back what it was given, by shapes and types alone."""
    variables, state = structure.unflatten([jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves])
    total = lambda tree: sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree))  # noqa: E731
    updated = lambda v, s: update(optimizer, rate_optimizer, v, v, s, total(v), total)  # noqa: E731
    new = jax.eval_shape(updated, variables, state)
    return _kinds(new) == _kinds((variables, state))


def task_mesh(devices: int | Sequence[Any] | None, n_tasks: int) -> Mesh | None:
    """A mesh of devices with one axis, "tasks"; None for the default device. Raises InputError if it cannot be."""
    if devices is None:
        return None
    if isinstance(devices, int):
        if not 1 <= devices <= jax.device_count():
            raise InputError("devices", devices, f"JAX sees {jax.device_count()}.", "Give at most that many.")
        devices = jax.devices()[:devices]
    if not isinstance(devices, Sequence) or not all(isinstance(one, jax.Device) for one in devices):
        raise InputError("devices", devices, "it must be a number of devices, or a sequence of jax.devices().")
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


def _put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Lay arrays out over the devices, those of other processes too: each process has the same and gives its part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(leaf: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

    return jax.tree.map(one, tree)


def _kinds(tree: Tree) -> Any:
    """Structure, shapes and types."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


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
        self.variables, self.optimizer_state = _put((self.variables, self.optimizer_state), everywhere)
        tasks = self.given.tasks
        if tasks is not None:
            whole = NamedSharding(mesh, PartitionSpec("tasks")) if self.plan.feed.meta_batch is None else everywhere
            tasks = _put(tasks, whole)
        self.given = _put(self.given._replace(tasks=None), everywhere)._replace(tasks=tasks)

    def advance(self, chunk: int, stop: int) -> float:
        """Run up to ``stop`` updates in all; return the last meta-loss."""
        before = jnp.asarray(self.iteration, jnp.int32)
        arguments = self.given, self.variables, self.optimizer_state, before, jnp.asarray(stop, jnp.int32)
        with raising(self.plan.feed.problem.tree):
            variables, state, model_state, iteration, status, series, rows = jax.block_until_ready(
                run_chunk(self.plan, chunk, *arguments)
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

    def go_on_from(self, state: TrainState) -> None:
        """Take over the iteration and the optimiser's state of another run; its params are there already."""
        if _kinds(state.optimizer_state) != _kinds(self.optimizer_state):
            raise InputError(
                "optimizer",
                rule="the TrainState has the state of another optimiser, or of other parameters.",
                way_out="Use the optimiser that it was trained with, or hand over its params alone.",
            )
        self.optimizer_state, self.iteration = state.optimizer_state, state.iteration

    def replace(self, state: TrainState) -> None:
        """Go on from what a callback returned."""
        params, model_state = unwrap(state.params)
        trained, _ = split_outer(params, self.plan.inner)
        new = (trained, state.rate) if self.plan.learn_rate else trained
        shapes = lambda tree: jax.tree.map(jnp.shape, tree)  # noqa: E731
        if shapes(new) != shapes(self.variables):
            raise InputError("callback", rule="the params that it returned have another structure or shape.")
        if _kinds(state.optimizer_state) != _kinds(self.optimizer_state):
            raise InputError("callback", rule="the optimizer_state that it returned is one of another optimiser.")
        check_inner(self.plan.inner, state.rate, "train_rate")
        self.variables = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, self.variables)
        real = jnp.result_type(float)
        rate = None if self.plan.learn_rate else jax.tree.map(lambda leaf: jnp.asarray(leaf, real), state.rate)
        self.given = self.given._replace(rate=rate, state=model_state)
        self.optimizer_state = state.optimizer_state

    def save(self) -> None:
        """Write a checkpoint, if there is one to keep."""
        if self.checkpoint is None:
            return
        params = self.variables[0] if self.plan.learn_rate else self.variables
        params = join(params, jax.tree.map(lambda leaf: leaf if is_trained(leaf) else None, self.given.rest))
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
        # Another version writes the same optimiser in other words.
        same = store.versions() == facts.get("versions")
        skip = () if same else ("optimizer", "rule")
        now = {name: value for name, value in settings.items() if name not in skip}
        store.check_settings("checkpoint", folder, facts["settings"], now)
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


def _optimisers(plan: Plan, variables: Tree) -> list[tuple[Any, Tree]]:
    """Each optimiser with what it updates."""
    if plan.rate_optimizer is None:
        return [(plan.optimizer, variables)]
    return list(zip((plan.optimizer, plan.rate_optimizer), variables, strict=True))


def settings_of(
    plan: Plan, source: Source, train_rate: Any, seed: Any, validation: Validation | None, run: Run
) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint, as JSON."""
    listed = lambda tree: [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]  # noqa: E731
    v = validation
    return {
        "train_rate": listed(train_rate),
        "learn_rate": plan.learn_rate,
        **plan.inner.settings(unwrap(run.state().params)[0]),
        "optimizer": [identify_transform(tx, at) for tx, at in _optimisers(plan, run.variables)],
        "weighting": plan.weighting,
        "meta_batch": plan.feed.meta_batch,
        "seed": listed(jax.random.key_data(as_key(seed))),
        "source": identify(source.tasks),
        "design": None if plan.feed.design is None else repr(plan.feed.design),
        "redraw": source.redraw is not False,
        "validation": v and [fingerprint(v.tasks), listed(v.adapt_rate), v.steps, v.every, v.patience],
    }
