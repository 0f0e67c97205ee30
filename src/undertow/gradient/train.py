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
from undertow._check import InputError, Setting
from undertow.gradient.blow_up import explain
from undertow.gradient.callback import Callback
from undertow.gradient.checkpoint import Checkpoint
from undertow.gradient.inner_loop import ONE_STEP, InnerLoop, Reptile, check_inner, split_outer
from undertow.gradient.keys import NOISE, SHUFFLE, TASKS, as_key
from undertow.gradient.leaves import Static, Tree, from_numpy, names, split, unwrap, warn_of_ties
from undertow.gradient.loader import Loader
from undertow.gradient.loop import Given, Plan
from undertow.gradient.losses import LossFn, takes
from undertow.gradient.masks import check_rows
from undertow.gradient.progress import Progress, Report, reporter
from undertow.gradient.rates import PerStep, align, per_step
from undertow.gradient.run import Run, check_optimizer, settings_of, start_optimizer, task_mesh
from undertow.gradient.source import Feed, Source
from undertow.gradient.state import History, TrainState
from undertow.gradient.validation import Validation


def train(
    loss_fn: LossFn,
    params: Tree | TrainState,
    source: Any,
    optimizer: optax.GradientTransformation,
    train_rate: Any,
    inner: InnerLoop = ONE_STEP,
    *,
    iterations: int = 1000,
    seed: int = 0,
    weighting: str = "rows",
    learn_rate: bool = False,
    rate_optimizer: optax.GradientTransformation | None = None,
    target_loss: float = -np.inf,
    tolerance: float | None = None,
    validation: Validation | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    chunk: int = 100,
    progress: Progress | Callback = False,
    devices: int | Sequence[Any] | None = None,
) -> tuple[TrainState, History]:
    """Minimise the meta-loss over params with an Optax optimiser; return (state, history).

    Parameters
    ----------
    loss_fn, params, train_rate, inner, weighting
        as in ``meta_loss``. params may be the TrainState of another run: its params, optimizer_state and iteration
        are gone on from, with what is handed over now (first order at first, say, then second order; another rate;
        another source). ``iterations`` counts those of that run too.
    source
        a TaskBatch, or Source(problem, design) for tasks that are drawn, or a Source for anything else.
    optimizer
        any Optax optimiser, L-BFGS included. Hand over the same object again and nothing is compiled anew.
    iterations
        number of updates, those of a resumed run included.
    seed
        of the tasks that are drawn and of the order of mini-batches, a whole number.
    learn_rate
        train the rate too (of any kind: one number, per leaf, per parameter, per step). Its sign is free.
    rate_optimizer
        optimiser of the rate; None means that ``optimizer`` has both.
    target_loss, tolerance
        stop once an iteration's meta-loss, or the norm of its gradient, is at most this.
    validation
        new tasks to evaluate while training; the best parameters are kept in ``state.best_params``.
    checkpoint
        a folder, or Checkpoint(folder, every). When it holds a checkpoint of the same settings, training goes on
        from there, and gives bit for bit what an uninterrupted run on the same machine gives.
    chunk
        iterations per compiled call; between calls progress is shown.
    progress
        True, a function of (iteration, iterations, meta_loss), or Callback(call, every) with a function of (state,
        history).
    devices
        a number of JAX devices, or the devices: each computes an equal share of the tasks.

    Raises
    ------
    NonFiniteError
        at the first loss or gradient that is not finite, or at an implicit inner problem that is not solved, naming
        iteration, task and cause
    InputError
        when arguments do not fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> tasks = ut.MixedLinearRegression(n_features=3).sample(ut.Design(n_tasks=4, n_support=8, n_query=5), seed=0)
    >>> import optax
    >>> state, history = ug.train(loss_fn, jnp.zeros(3), tasks, optax.sgd(0.1), train_rate=-0.1, iterations=50)
    >>> bool(history.meta_loss[-1] < history.meta_loss[0])
    True
    """
    iterations = _check.whole_number(iterations, "iterations", minimum=0)
    chunk = _check.whole_number(chunk, "chunk")
    check_inner(inner, train_rate, "train_rate")
    _check_learning(learn_rate, rate_optimizer, inner)
    source, key = Source.of(source), as_key(seed)
    start = params if isinstance(params, TrainState) else None
    params = params if start is None else start.params
    warn_of_ties(params)
    params = from_numpy(params)
    params, model_state = unwrap(params)
    trained, rest = split_outer(params, inner)
    arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else None, rest)
    others = jax.tree.map(lambda leaf: None if isinstance(leaf, jax.Array) else leaf, rest)
    real = jnp.result_type(float)
    rate = jax.tree.map(lambda value: jnp.asarray(value, real), train_rate)
    feed = Feed.of(source)
    plan = Plan(
        loss_fn=loss_fn,
        inner=inner,
        weighting=weighting,
        feed=feed,
        optimizer=check_optimizer(optimizer, "optimizer"),
        rate_optimizer=None if rate_optimizer is None else check_optimizer(rate_optimizer, "rate_optimizer"),
        learn_rate=bool(learn_rate),
        rest=Static(others),
        mesh=task_mesh(devices, feed.meta_batch or source.n_tasks),
    )
    if validation is not None:
        if not isinstance(validation, Validation):
            kind = type(validation).__name__
            raise InputError("validation", rule=f"it must be Validation(tasks, adapt_rate), and is of type {kind}.")
        validation = validation.ready(plan)
        if validation.adapt_rate is not None and validation.steps:
            wanted, steps = validation.adapt_rate, validation.steps
            wanted = per_step(wanted, steps) if isinstance(wanted, PerStep) else wanted
            align(wanted, split(params)[0], inner.adapts, steps, "adapt_rate")
    tasks = source.fixed_tasks(key)
    loader = source.tasks if isinstance(source.tasks, Loader) else None
    if loader is not None and devices is not None:
        raise InputError("devices", devices, "a Loader gives tasks to one device.", "Leave it out.")
    for batch in (tasks, loader and loader.example, None if validation is None else validation.tasks):
        if batch is not None:
            check_rows(loss_fn, params, batch)
    given = Given(
        tasks,
        None if learn_rate else rate,
        arrays,
        jax.random.fold_in(key, TASKS),
        jax.random.fold_in(key, SHUFFLE),
        jnp.asarray(limit(target_loss, "target_loss"), real),
        jnp.asarray(-1.0 if tolerance is None else limit(tolerance, "tolerance", minimum=0.0), real),
        jax.random.fold_in(key, NOISE) if "key" in takes(loss_fn) else None,
        model_state,
    )
    variables = (trained, rate) if learn_rate else trained
    run = Run(plan, given, variables, start_optimizer(plan, variables), names(rate, "train_rate") if learn_rate else [])
    if start is not None:
        run.go_on_from(start)
    if checkpoint is not None:
        checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        run.keep(checkpoint, settings_of(plan, source, train_rate, seed, validation, run))
    if plan.mesh is not None:
        run.place(plan.mesh)
    callback = progress if isinstance(progress, Callback) else None
    with reporter(False if callback else progress, run.iteration, iterations) as report:  # type: ignore[arg-type]
        _loop(run, iterations, chunk, validation, report, callback)
    return run.state(), run.records.history()


def limit(value: Any, name: str, minimum: float = -np.inf) -> float:
    """Return a limit that may be infinite, or raise InputError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not number >= minimum:
        raise InputError(name, value, "it must be a number." if minimum < 0 else "it must be a number of at least 0.")
    return number


def _check_learning(learn_rate: bool, rate_optimizer: Any, inner: InnerLoop) -> None:
    """Raise InputError where a rate is to be learned that cannot be, or an optimiser of the rate would do nothing."""
    if learn_rate and isinstance(inner.rule, Reptile):
        why = "it has no gradient with respect to the rate."
        raise InputError("rule", inner.rule, why, ("Leave ", Setting("learn_rate", True), " out."))
    if rate_optimizer is not None and not learn_rate:
        why = ("with ", Setting("learn_rate", False), " the rate is fixed.")
        raise InputError("rate_optimizer", rule=why, way_out=("Set ", Setting("learn_rate", True), "."))


def _loop(
    run: Run, iterations: int, chunk: int, validation: Validation | None, report: Report, callback: Callback | None
) -> None:
    """Run compiled chunks, each up to the next update at which something is due, until training stops."""
    while run.iteration < iterations and run.stopped == "iterations":
        due = [record.every for record in (validation, run.checkpoint, callback) if record is not None]
        last = run.advance(chunk, min([iterations, run.iteration + chunk, *(_next(run.iteration, n) for n in due)]))
        if run.stopped == "non_finite":
            raise explain(run)
        if validation and run.iteration % validation.every == 0 and run.stopped == "iterations":
            run.validate(validation)
        if callback and run.iteration % callback.every == 0:
            _call(run, callback)
        if run.checkpoint and run.iteration % run.checkpoint.every == 0 and run.iteration < iterations:
            run.save()
        report(run.iteration, iterations, last)
    run.save()


def _call(run: Run, callback: Callback) -> None:
    """Call the caller's function, and do as it says."""
    answer = callback.call(run.state(), run.records.history())
    if isinstance(answer, TrainState):
        run.replace(answer)
    elif isinstance(answer, bool | np.bool_):
        run.stopped = "callback" if answer else run.stopped
    elif answer is not None:
        kind = type(answer).__name__
        raise InputError("callback", rule=f"it must return None, True or a TrainState, and returned a {kind}.")


def _next(value: int, of: int) -> int:
    """The next multiple."""
    return (value // of + 1) * of
