"""Many training runs, rates x seeds, as one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow.gradient.block_folder import BlockFolder
from undertow.gradient.fingerprints import identify_transform
from undertow.gradient.inner_loop import ONE_STEP, InnerLoop, check_inner, split_outer
from undertow.gradient.keys import INIT, NOISE, SHUFFLE, TASKS, TEST, as_key, seeds_of
from undertow.gradient.leaves import Static, Tree, from_numpy, join, split, start_of, unwrap, warn_of_ties, wrap
from undertow.gradient.loader import Loader
from undertow.gradient.loop import (
    GO,
    STOPPED,
    Carry,
    Given,
    Plan,
    batch_at,
    init_optimizer,
    iterate,
    objective,
    order_at,
)
from undertow.gradient.losses import LossFn, evaluating, takes
from undertow.gradient.masks import check_rows, without_full_masks
from undertow.gradient.meta import meta_loss
from undertow.gradient.progress import Progress, reporter
from undertow.gradient.run import check_optimizer, start_optimizer
from undertow.gradient.source import Feed, Source, as_arrays, check_problem, draw_tasks, fingerprint, identify
from undertow.gradient.train import limit
from undertow.problem import Design


def sweep(
    loss_fn: LossFn,
    init_fn: Callable[[Any], Tree],
    source: Any,
    optimizer: optax.GradientTransformation,
    train_rates: Any,
    seeds: Any,
    inner: InnerLoop = ONE_STEP,
    *,
    iterations: int = 1000,
    weighting: str = "rows",
    target_loss: float = -np.inf,
    tolerance: float | None = None,
    test: TaskBatch | Design | None = None,
    adapt_rates: Any = None,
    adapt_steps: int | None = None,
    strategy: str = "auto",
    block: int | None = None,
    store: Any = None,
    progress: Progress = False,
    devices: Sequence[Any] | None = None,
) -> pa.Table:
    """Train once for each train rate and seed, and test each run; all runs are one compiled program.

    Parameters
    ----------
    loss_fn, source, optimizer, inner, weighting, target_loss, tolerance
        as in ``train``.
    init_fn
        init_fn(key) -> params, called with a key of the seed.
    train_rates
        (k,) rates of either sign.
    seeds
        (s,) whole numbers, or how many (0, 1, ...). A seed fixes the start, the tasks and the test tasks, alike for
        all rates: differences between rates are paired.
    iterations
        most updates of a run. A run also stops at ``target_loss``, ``tolerance``, or the first value that is not
        finite, which is reported in the table and does not disturb the others.
    test
        new tasks, their support rows to adapt on and their query rows to test on: a TaskBatch, or the Design of
        what is drawn from the problem of ``source`` for each seed. None means no test.
    adapt_rates
        (r,) rates, of either sign, of the ``adapt_steps`` (None: ``inner.steps``) steps on the test tasks; None
        means 0, the weights as they are.
    adapt_steps
        steps on the test tasks; None for ``inner.steps``.
    strategy
        "map" (one run after the other), "vmap" (all runs of a block side by side) or "auto": map on a CPU, where it
        is faster, and vmap elsewhere.
    block
        runs per compiled call and device, 16 by default.
    store
        a folder where each block is kept when it is finished (Parquet); a sweep with the same settings goes on from
        there.
    progress
        as in ``train``.
    devices
        JAX devices that share the blocks; None means the default one.

    Returns
    -------
    pa.Table
        a table with one row per rate, seed and adapt rate: train_rate, seed, iterations (updates made),
        stopped, meta_loss, support_before, support_after, query_before (at the final parameters, means over the
        batch that the next iteration would see), and with test tasks adapt_rate, test_loss.

    Raises
    ------
    InputError
        when arguments do not fit, or when one would do nothing.

    Examples
    --------
    >>> import optax, undertow as ut
    >>> from undertow import gradient as ug
    >>> source = ug.Source(ut.Sinusoid(), ut.Design(n_tasks=5, n_support=5, n_query=5))
    >>> loss_fn = ug.squared_loss(ug.mlp((1, 10, 1), key=0)[1])
    >>> init = lambda key: ug.mlp((1, 10, 1), key)[0]
    >>> table = ug.sweep(loss_fn, init, source, optax.adam(1e-3), [-0.01, 0.0, 0.02], seeds=2, iterations=5)
    >>> table.num_rows
    6
    """
    rates = np.atleast_1d(_check.rates(train_rates, "train_rates"))
    numbers = seeds_of(seeds)
    check_inner(inner, 0.0)
    source = Source.of(source)
    for name, value in (("adapt_rates", adapt_rates), ("adapt_steps", adapt_steps)):
        if test is None and value is not None:
            raise InputError(name, value, "without test tasks nothing is adapted.", ("Give ", Setting("test"), "."))
    adapt = np.atleast_1d(_check.rates(0.0 if adapt_rates is None else adapt_rates, "adapt_rates"))
    steps = inner.steps if adapt_steps is None else _check.whole_number(adapt_steps, "adapt_steps", minimum=0)
    strategy = _check.one_of(strategy, "strategy", ("auto", "map", "vmap"))
    devices = [jax.devices()[0]] if devices is None else devices if isinstance(devices, int) else list(devices)
    if isinstance(devices, int) or not devices:
        raise InputError("devices", devices, "give at least one of jax.devices(), or None for the default.")
    if strategy == "auto":
        strategy = "map" if devices[0].platform == "cpu" else "vmap"
    size = 16 if block is None else _check.whole_number(block, "block")
    drawn = test if isinstance(test, Design) else None
    if drawn is not None:
        check_problem(source.tasks, drawn, "the source from which test is drawn")
    if isinstance(source.tasks, Loader):
        rule = "runs side by side share their tasks, and a Loader reads them one after the other."
        raise InputError("source", "a Loader", rule, "Call train for each rate, or give a TaskBatch.")
    once = source.redraw is False
    program = Program(
        plan=Plan(
            loss_fn=loss_fn,
            inner=inner,
            weighting=weighting,
            feed=Feed.of(source),
            optimizer=check_optimizer(optimizer, "optimizer"),
            rate_optimizer=None,
            learn_rate=False,
            rest=Static(None),
            mesh=None,
        ),
        init_fn=init_fn,
        once=Static(source.tasks if once else None),
        design=source.design,
        test=drawn,
        test_problem=Static(None if drawn is None else source.tasks),
        test_inner=inner.forward(steps),
        strategy=strategy,
    )
    fixed_test = None if test is None or drawn is not None else as_arrays(test, "test")
    stop_at = (
        _check.whole_number(iterations, "iterations", minimum=0),
        limit(target_loss, "target_loss"),
        -1.0 if tolerance is None else limit(tolerance, "tolerance", minimum=0.0),
    )
    shapes = jax.eval_shape(lambda key: split_outer(unwrap(from_numpy(start_of(init_fn, key)))[0], inner)[0], as_key(0))
    start_optimizer(program.plan, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    folder = None
    if store is not None:
        settings = {"train_rates": rates.tolist(), "seeds": numbers, "adapt_rates": adapt.tolist(), "block": size}
        settings["stop_at"] = [repr(value) for value in stop_at]
        shapes = jax.eval_shape(lambda key: _arrays(init_fn(key)), as_key(numbers[0]))
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        folder = BlockFolder(store, settings | _settings(program, source, fixed_test, start))
    for batch in (source.tasks, fixed_test):
        if isinstance(batch, TaskBatch) and not (batch.support_mask is None and batch.query_mask is None):
            start, _ = unwrap(init_fn(jax.random.fold_in(as_key(numbers[0]), INIT)))
            check_rows(loss_fn, start, without_full_masks(batch))
    cells = [(rate, seed) for rate in rates for seed in numbers]
    # The tasks of a problem that are drawn once are drawn for each seed, within its run.
    tasks = None if once else source.fixed_tasks(as_key(0))
    return _run(program, cells, size, tasks, fixed_test, adapt, stop_at, folder, devices, progress)


@dataclass(frozen=True)
class Program:
    """What is compiled: everything about a sweep that is no number."""

    plan: Plan
    init_fn: Callable[[Any], Tree]
    once: Static
    """the problem whose tasks are drawn once per seed, or None"""
    design: Design | None
    test: Design | None
    test_problem: Static
    test_inner: InnerLoop
    strategy: str


@partial(jax.jit, static_argnames=("program",))
def run_block(
    program: Program, rates: Any, seeds: Any, tasks: Any, test: Any, adapt_rates: Any, stop_at: Any
) -> dict[str, Any]:
    """Train and test one block of runs; returns arrays (runs, ...)."""
    run = lambda cell: _one_run(program, cell[0], cell[1], tasks, test, adapt_rates, stop_at)  # noqa: E731
    if program.strategy == "vmap":
        return jax.vmap(run)((rates, seeds))
    return jax.lax.map(run, (rates, seeds))


def _one_run(
    program: Program, rate: Any, seed: Any, tasks: Any, test: Any, adapt_rates: Any, stop_at: Any
) -> dict[str, Any]:
    plan = program.plan
    key = as_key(seed)
    iterations, target, tolerance = stop_at
    if program.once.tree is not None:
        tasks = draw_tasks(program.once.tree, program.design, jax.random.fold_in(key, TASKS))  # type: ignore[arg-type]
    params = program.init_fn(jax.random.fold_in(key, INIT))
    warn_of_ties(params)
    params = from_numpy(params)
    params, state = unwrap(params)
    trained, rest = split_outer(params, plan.inner)
    given = Given(
        tasks,
        rate,
        rest,
        jax.random.fold_in(key, TASKS),
        jax.random.fold_in(key, SHUFFLE),
        target,
        tolerance,
        jax.random.fold_in(key, NOISE) if "key" in takes(plan.loss_fn) else None,
    )
    zero = jnp.asarray(0, jnp.int32)
    carry = Carry(trained, init_optimizer(plan, trained), zero, jnp.asarray(GO), order_at(plan, given, zero), state)
    carry = jax.lax.while_loop(
        lambda c: (c.iteration < iterations) & (c.status == GO), lambda c: iterate(plan, given, c)[0], carry
    )
    # The batch that the next iteration would see: with fixed tasks it is the training set itself.
    last = batch_at(plan, given, carry.iteration, order_at(plan, given, carry.iteration))
    loss, info = objective(plan, carry.variables, given, last, carry.iteration, carry.state)
    out = {
        "iterations": carry.iteration,
        "status": carry.status,
        "meta_loss": loss,
        "support_before": info.support_before.mean(),
        "support_after": info.support_after.mean(),
        "query_before": info.query_before.mean(),
    }
    if program.test is not None:
        drawn = draw_tasks(program.test_problem.tree, program.test, jax.random.fold_in(key, TEST))
        test = drawn
    if test is not None:
        params = wrap(join(carry.variables, rest), carry.state)
        loss_fn = evaluating(plan.loss_fn)
        after = lambda r: meta_loss(loss_fn, params, test, r, program.test_inner, plan.weighting)[0]  # noqa: E731
        out["test_loss"] = jax.lax.map(after, adapt_rates)
    return out


def _run(
    program: Program,
    cells: list[tuple[Any, int]],
    size: int,
    tasks: Any,
    test: Any,
    adapt: np.ndarray,
    stop_at: tuple[int, float, float],
    folder: BlockFolder | None,
    devices: Sequence[Any],
    progress: Progress,
) -> pa.Table:
    blocks = [cells[i : i + size] for i in range(0, len(cells), size)]
    tables = {i: table for i in range(len(blocks)) if folder and (table := folder.read(i)) is not None}
    real = jnp.result_type(float)
    limits = (jnp.asarray(stop_at[0], jnp.int32), jnp.asarray(stop_at[1], real), jnp.asarray(stop_at[2], real))
    shared = [jax.device_put((tasks, test, jnp.asarray(adapt, real), limits), device) for device in devices]
    waiting = [i for i in range(len(blocks)) if i not in tables]
    done = sum(len(blocks[i]) for i in tables)
    with reporter(progress, done, len(cells)) as report:
        for first in range(0, len(waiting), len(devices)):
            started: list[tuple[int, dict[str, Any]]] = []
            # Calls return before the work is done, so that all devices work at once.
            for index, device, rest in zip(waiting[first:], devices, shared, strict=False):
                block = blocks[index]
                # A short last block is filled up with its last run: another length would compile anew.
                full = block + [block[-1]] * (size - len(block))
                rates = jnp.asarray([rate for rate, _ in full], real)
                seeds = jnp.asarray([seed for _, seed in full], jnp.uint32)
                rates, seeds = jax.device_put((rates, seeds), device)
                started.append((index, run_block(program, rates, seeds, *rest)))
            for index, arrays in started:
                out = {name: np.asarray(array) for name, array in arrays.items()}
                tables[index] = _table(blocks[index], out, adapt)
                if folder:
                    folder.write(index, tables[index])
                done += len(blocks[index])
                losses = out["meta_loss"][np.isfinite(out["meta_loss"])]
                report(done, len(cells), float(losses.mean()) if losses.size else float("nan"))
    return pa.concat_tables([tables[i] for i in range(len(blocks))])


def _table(block: list[tuple[Any, int]], out: dict[str, np.ndarray], adapt: np.ndarray) -> pa.Table:
    n = len(block)
    test = out.get("test_loss")
    times = 1 if test is None else len(adapt)
    repeat = lambda values: np.repeat(np.asarray(values)[:n], times)  # noqa: E731
    columns = {
        "train_rate": repeat([rate for rate, _ in block]),
        "seed": repeat([seed for _, seed in block]),
        "iterations": repeat(out["iterations"]),
        "stopped": repeat([STOPPED[int(status)] for status in out["status"][:n]]),
    }
    for name in ("meta_loss", "support_before", "support_after", "query_before"):
        columns[name] = repeat(out[name].astype(np.float64))
    if test is not None:
        columns["adapt_rate"] = np.tile(adapt, n)
        columns["test_loss"] = test[:n].astype(np.float64).ravel()
    return pa.table(columns)


def _arrays(params: Tree) -> Tree:
    """The trained leaves of a start, without its state."""
    return split(unwrap(params)[0])[0]


def _settings(program: Program, source: Source, test: TaskBatch | None, start: Tree) -> dict[str, Any]:
    """What must be the same for a stored sweep to go on, apart from its numbers, as JSON."""
    plan = program.plan
    return {
        **plan.inner.settings(start),
        "optimizer": identify_transform(plan.optimizer, start),
        "adapt_steps": program.test_inner.steps,
        "weighting": plan.weighting,
        "meta_batch": plan.feed.meta_batch,
        "source": identify(source.tasks),
        "design": repr(program.design),
        "redraw": plan.feed.problem.tree is not None,
        "test": repr(program.test) if test is None else fingerprint(test),
    }
