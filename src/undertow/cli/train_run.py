"""The runs behind ``undertow train``: with the inner loop and without one, and their losses on validation tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console

from undertow import gradient as ug
from undertow._check import InputError
from undertow.cli.train_cases import Case
from undertow.cli.train_settings import Settings
from undertow.tasks.losses import mean_over_tasks, t_quantile

_KINDS = {"no": lambda p, r: r, "one": lambda p, r: r, "layer": ug.per_layer, "parameter": ug.per_parameter}
_CHOSEN = {"all": lambda params: True, "last": ug.last_layer, "all_but_last": ug.all_but_last}


@dataclass(frozen=True)
class Measured:
    """Query losses of m validation tasks, and the gain of the run over them."""

    losses: np.ndarray
    """(m,) mean loss of each task's query rows"""
    rows: np.ndarray
    """(m,) query rows of each task, which its loss weighs by"""

    @property
    def mean(self) -> tuple[float, float]:
        """The mean over query rows, and its standard error, with tasks as the independent units."""
        return mean_over_tasks(self.losses, self.rows)

    def gain(self, over: Measured, level: float = 0.95) -> tuple[float, float, float]:
        """Share of the other's loss that this one saves, and its interval from the tasks' paired losses."""
        base = over.mean[0]
        gain = 1 - self.mean[0] / base
        # The ratio of two means, to first order in their errors.
        _, error = mean_over_tasks(((1 - gain) * over.losses - self.losses) / base, self.rows)
        half = t_quantile(self.rows, level) * error
        return gain, gain - half, gain + half


@dataclass(frozen=True)
class Done:
    """What came of it."""

    state: ug.TrainState
    history: ug.History
    adapted: Measured
    """after the step(s) on each validation task"""
    before: Measured
    """before it"""
    without: tuple[Measured, Measured] | None
    """the same network trained without an inner loop, after the same step(s) and before; None where not asked for"""


def run(settings: Settings, case: Case, folder: Path) -> Done:
    """Train, with checkpoints in the folder. Raises InputError where a loss is not finite."""
    inner = settings.inner
    rate = _KINDS[inner.learn](case.params, inner.train_rate)
    state, history = _train(settings, case, rate, inner.learn != "no", inner.adapt_rate, folder / "checkpoint")
    found = state.rate if inner.adapt_rate is None else inner.adapt_rate
    adapted, before = _measured(settings, case, state.params, found)
    without = None
    if settings.outer.baseline and (inner.learn != "no" or inner.train_rate != 0):
        plain, _ = _train(settings, case, 0.0, False, found, folder / "no_inner_loop")
        without = _measured(settings, case, plain.params, found)
    return Done(state, history, adapted, before, without)


def _loop(settings: Settings, case: Case) -> ug.InnerLoop:
    inner = settings.inner
    return ug.InnerLoop(inner.steps, first_order=inner.first_order, adapts=_CHOSEN[inner.adapts](case.params))


def _train(
    settings: Settings, case: Case, rate: Any, learn: bool, adapt_rate: Any, checkpoint: Path
) -> tuple[ug.TrainState, ug.History]:
    inner, outer = settings.inner, settings.outer
    step = outer.step if outer.schedule == "constant" else optax.cosine_decay_schedule(outer.step, outer.iterations)
    validation = ug.Validation(case.new_tasks, adapt_rate, inner.adapt_steps, outer.validate_every, outer.patience)
    try:
        return ug.train(
            case.loss_fn,
            case.params,
            case.source,
            optax.adam(step),
            rate,
            _loop(settings, case),
            iterations=outer.iterations,
            seed=outer.seed,
            learn_rate=learn,
            validation=validation,
            checkpoint=ug.Checkpoint(checkpoint, outer.checkpoint_every),
            progress=Console(stderr=True).is_terminal,
        )
    except ug.NonFiniteError as error:
        raise InputError(None, rule=str(error)) from None


def _measured(settings: Settings, case: Case, params: Any, rate: Any) -> tuple[Measured, Measured]:
    """Losses after adaptation and before it."""
    loop = _loop(settings, case)
    if settings.inner.adapt_steps is not None:
        loop = replace(loop, steps=settings.inner.adapt_steps)
    _, info = jax.jit(lambda p, r: ug.meta_loss(case.loss_fn, p, case.new_tasks, r, loop))(params, rate)
    mask, y = case.new_tasks.query_mask, case.new_tasks.query_y
    rows = np.full(len(y), 1.0) if mask is None else np.asarray(mask).sum(axis=1).astype(float)
    after, before = (np.asarray(one, dtype=np.float64) for one in (info.query_after, info.query_before))
    return Measured(after, rows), Measured(before, rows)
