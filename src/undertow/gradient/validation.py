"""Validation while training: new tasks, the step that is taken on them, and when to stop."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.inner import unsolved
from undertow.gradient.inner_loop import check_inner
from undertow.gradient.leaves import Tree, join, wrap
from undertow.gradient.loop import Given, Plan
from undertow.gradient.losses import evaluating
from undertow.gradient.meta import meta_loss
from undertow.gradient.rates import PerStep, check_finite, per_step
from undertow.gradient.source import as_arrays


@dataclass(frozen=True, eq=False)
class Validation:
    """New tasks on which training is measured: their mean query loss after adaptation. The best parameters are kept.

    Raises
    ------
    InputError
        when an entry does not fit.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> tasks = ut.Sinusoid().sample(ut.Design(n_tasks=10, n_support=5, n_query=5), seed=1)
    >>> ug.Validation(tasks, adapt_rate=0.02, every=50, patience=4).every
    50
    """

    tasks: TaskBatch
    """the new tasks: support rows to adapt on, query rows for the loss"""
    adapt_rate: Any = None
    """rate of the step(s) on them, of either sign: one number, a tree of rates, or PerStep. It may be left out only
    where the rate is learned, and then the learned rate serves: a train rate is not a rate to adapt with."""
    steps: int | None = None
    """number of steps; None means that of the inner loop. A rate per step goes on with its last entry"""
    every: int = 100
    """updates between two evaluations"""
    patience: int | None = None
    """stop after so many evaluations in a row without a new best; None means never"""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, TaskBatch):
            kind = type(self.tasks).__name__
            raise InputError("validation", rule=f"its tasks must be a TaskBatch, and are of type {kind}.")
        if self.adapt_rate is not None:
            check_finite(self.adapt_rate, "adapt_rate")
        for name, minimum in (("steps", 0), ("every", 1), ("patience", 1)):
            value = getattr(self, name)
            if value is not None or name == "every":
                object.__setattr__(self, name, _check.whole_number(value, name, minimum))

    def ready(self, plan: Plan) -> Validation:
        """Return the same with arrays of JAX and the number of steps, for one training run."""
        rate = self.adapt_rate
        if rate is None and not plan.learn_rate:
            raise InputError(
                "adapt_rate",
                rule="validation needs the rate of the step on a new task: it differs from the train rate, "
                "which may be negative.",
                way_out="Write Validation(tasks, adapt_rate).",
            )
        if rate is not None:
            check_inner(plan.inner, rate, "adapt_rate")
            rate = jax.tree.map(jnp.asarray, rate)
        steps = plan.inner.steps if self.steps is None else self.steps
        return replace(self, tasks=as_arrays(self.tasks, "validation"), adapt_rate=rate, steps=steps)

    def loss(self, plan: Plan, given: Given, variables: Tree) -> float:
        """Return the mean query loss after adaptation; infinite, with a warning, where a task has no solution."""
        trained, learned = variables if plan.learn_rate else (variables, None)
        rate = learned if self.adapt_rate is None else self.adapt_rate
        if isinstance(rate, PerStep):
            rate = per_step(rate, self.steps)  # type: ignore[arg-type]
        loss, residual = _evaluate(plan, self.steps, join(trained, given.rest), given.state, self.tasks, rate)
        limit = plan.inner.forward(self.steps).max_residual  # type: ignore[arg-type]
        if limit is None or residual is None or float(residual) <= limit:
            return float(loss)
        warnings.warn(
            f"the implicit inner problem of a validation task is not solved: {unsolved(float(residual), limit)}. The "
            "validation loss counts as infinite. It may have no solution at this adapt_rate.",
            stacklevel=2,
        )
        return float("inf")


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(plan: Plan, steps: int, params: Tree, state: Any, tasks: TaskBatch, rate: Any) -> tuple[jax.Array, Any]:
    params = wrap(join(params, plan.rest.tree), state)
    loss, info = meta_loss(evaluating(plan.loss_fn), params, tasks, rate, plan.inner.forward(steps), plan.weighting)
    return loss, None if info.residual is None else info.residual.max()
