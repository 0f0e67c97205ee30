"""Meta-training: a thin loop around compiled chunks of iterations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.inner import Reptile, Rule, check_rule
from undertow.gradient.keys import SHUFFLE, TASKS, as_key
from undertow.gradient.leaves import Tree, names, split
from undertow.gradient.loop import Given, Plan, Static, init_optimizer
from undertow.gradient.losses import LossFn
from undertow.gradient.progress import Progress, reporter
from undertow.gradient.rates import check_finite
from undertow.gradient.run import Run, Validation, check_optimizer, explain, settings_of, task_mesh
from undertow.gradient.source import feed
from undertow.gradient.state import History, TrainState


def train(
    loss_fn: LossFn,
    params: Tree,
    source: Any,
    optimizer: optax.GradientTransformation,
    train_rate: Any = -0.1,
    steps: int = 1,
    first_order: bool = False,
    *,
    iterations: int = 1000,
    rule: Rule | None = None,
    adapts: Tree = True,
    remat: bool = False,
    weighting: str = "rows",
    design: Any = None,
    redraw: bool = True,
    meta_batch: int | None = None,
    seed: int = 0,
    learn_rate: bool = False,
    rate_optimizer: optax.GradientTransformation | None = None,
    target_loss: float = -np.inf,
    tolerance: float | None = None,
    validation: TaskBatch | None = None,
    validate_every: int = 100,
    adapt_rate: Any = None,
    adapt_steps: int | None = None,
    patience: int | None = None,
    checkpoint: Any = None,
    checkpoint_every: int = 1000,
    chunk: int = 100,
    progress: Progress = False,
    devices: int | Sequence[Any] | None = None,
) -> tuple[TrainState, History]:
    """Minimise the meta-loss over params with an Optax optimiser; return (state, history).

    loss_fn, params, train_rate, steps, first_order, rule, adapts, remat, weighting: as in ``meta_loss``.
    source: a TaskBatch, or a problem with draw(source, design) such as ``MixedLinearRegression``.
    optimizer: any Optax optimiser, L-BFGS included. Hand over the same object again and nothing is compiled anew.
    iterations: number of updates, those of a resumed run included.
    design: with a problem, the sizes of what is drawn. redraw: draw new tasks at each iteration, inside the compiled
        loop; False draws ``design.n_tasks`` tasks once, from the seed.
    meta_batch: tasks per iteration. None means all of a TaskBatch, or ``design.n_tasks`` new ones. Mini-batches of a
        TaskBatch follow a new random order in each epoch.
    seed: of the tasks that are drawn and of the order of mini-batches, a whole number.
    learn_rate: train the rate too (of any kind: one number, per leaf, per parameter, per step). Its sign is free.
    rate_optimizer: optimiser of the rate; None means that ``optimizer`` has both.
    target_loss, tolerance: stop once an iteration's meta-loss, or the norm of its gradient, is at most this.
    validation: tasks whose mean query loss, after ``adapt_steps`` (None: ``steps``) steps at ``adapt_rate``, is
        evaluated after every ``validate_every`` updates; the best parameters are kept in ``state.best_params``.
        adapt_rate must be given, unless the rate is learned: a training rate is not a rate to adapt with.
    patience: stop after so many validations in a row without a new best.
    checkpoint: a folder. It is written after every ``checkpoint_every`` updates and at the end; when it holds a
        checkpoint of the same settings, training goes on from there, and gives bit for bit what an uninterrupted run
        on the same machine gives.
    chunk: iterations per compiled call; between calls progress is shown. progress: True, or a function
        of (iteration, iterations, meta_loss).
    devices: a number of JAX devices, or the devices: each computes an equal share of the tasks.

    Raises NonFiniteError at the first loss or gradient that is not finite, naming iteration, task, rate and the stable
    interval of the rate; InputError when arguments do not fit.
    """
    iterations = _check.positive_int(iterations, "iterations", minimum=0)
    chunk = _check.positive_int(chunk, "chunk")
    every = (
        _check.positive_int(validate_every, "validate_every"),
        _check.positive_int(checkpoint_every, "checkpoint_every"),
    )
    check_finite(train_rate, "train_rate")
    trained, rest = split(
        jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, params)
    )
    arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else None, rest)
    others = jax.tree.map(lambda leaf: None if isinstance(leaf, jax.Array) else leaf, rest)
    rate = jax.tree.map(lambda value: jnp.asarray(value, jnp.result_type(float)), train_rate)
    key = as_key(seed)
    fed = feed(source, design, redraw, meta_batch, key)
    mesh = task_mesh(devices, fed.meta_batch or fed.n_tasks)
    plan = Plan(
        loss_fn=loss_fn,
        optimizer=check_optimizer(optimizer, "optimizer"),
        rate_optimizer=None if rate_optimizer is None else check_optimizer(rate_optimizer, "rate_optimizer"),
        learn_rate=bool(learn_rate),
        steps=_check.positive_int(steps, "steps", minimum=0),
        first_order=bool(first_order),
        rule=check_rule(rule, train_rate, "train_rate"),
        adapts=Static(adapts),
        remat=bool(remat),
        weighting=weighting,
        problem=Static(fed.problem),
        design=fed.design,
        meta_batch=fed.meta_batch,
        rest=Static(others),
        mesh=mesh,
    )
    if learn_rate and isinstance(plan.rule, Reptile):
        raise InputError("learn_rate=True with rule=Reptile(): Reptile has no gradient with respect to the rate.")
    if rate_optimizer is not None and not learn_rate:
        raise InputError("rate_optimizer is given, but learn_rate=False: the rate is fixed. Set learn_rate=True.")
    validate = Validation.of(plan, arrays, validation, adapt_rate, adapt_steps, learn_rate, patience)
    given = Given(
        fed.tasks,
        None if learn_rate else rate,
        arrays,
        jax.random.fold_in(key, TASKS),
        jax.random.fold_in(key, SHUFFLE),
        jnp.asarray(target_loss, jnp.result_type(float)),
        jnp.asarray(-1.0 if tolerance is None else tolerance, jnp.result_type(float)),
    )
    variables = (trained, rate) if learn_rate else trained
    run = Run(plan, given, variables, init_optimizer(plan, variables), names(rate, "train_rate") if learn_rate else [])
    if mesh is not None:
        run.place(mesh)
    folder = None if checkpoint is None else Path(checkpoint)
    settings = (
        {} if folder is None else settings_of(plan, source, train_rate, seed, redraw, validate, every[0], patience)
    )
    if folder is not None:
        run.resume(folder, settings)
        if mesh is not None:
            run.place(mesh)

    with reporter(progress, run.iteration, iterations) as report:
        while run.iteration < iterations and run.stopped == "iterations":
            ends = [iterations, run.iteration + chunk]
            ends += [_next_multiple(run.iteration, every[0])] if validate else []
            ends += [_next_multiple(run.iteration, every[1])] if folder else []
            last = run.advance(chunk, min(ends))
            if run.stopped == "non_finite":
                raise explain(run)
            if validate and run.iteration % every[0] == 0 and run.stopped == "iterations":
                run.note(validate(run.variables), patience)
            if folder and run.iteration % every[1] == 0 and run.iteration < iterations:
                run.save(folder, settings)
            report(run.iteration, iterations, last)
    if folder is not None:
        run.save(folder, settings)
    return run.state(), run.records.history()


def _next_multiple(value: int, of: int) -> int:
    return (value // of + 1) * of
