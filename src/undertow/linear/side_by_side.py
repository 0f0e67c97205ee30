"""Several rules on the same tasks: what each adapts to, in as few passes over the support rows as will do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from undertow._batch import TaskBatch
from undertow._types import EachWeights, Starts
from undertow.linear.blocks import trace_nonfinite
from undertow.linear.ridge_solve import (
    covariance_root,
    eliminated,
    scaled,
    solve_small,
    unscaled,
    weighed,
    well_shifted,
)
from undertow.linear.rules import GradientRule, ProximalRule, Rule


def adapt_side_by_side(rules: Sequence[Rule], starts: Starts, tasks: TaskBatch) -> EachWeights:
    """Return theta of each task from omega (d,) of each of n rules, (m, d, n): what ``rule.adapt`` gives, to rounding.

    starts: (n, d) omega of each rule. tasks: as floating-point arrays that fit together, such as drawn rows are;
    nothing is checked but the result. Raises InputError where that is not finite since a value of the tasks is not.
    """
    x, y = tasks.support_x, tasks.support_y
    if tasks.support_mask is not None:
        x, y = np.where(tasks.support_mask[..., None], x, 0), np.where(tasks.support_mask, y, 0)
    starts = starts.astype(x.dtype)
    theta = np.repeat(starts.T[None], len(x), axis=0)
    by_steps: dict[int, list[int]] = {}
    proximal: list[int] = []
    for i, rule in enumerate(rules):
        if isinstance(rule, GradientRule):
            if rule.rate != 0:
                by_steps.setdefault(rule.steps, []).append(i)
        elif isinstance(rule, ProximalRule) and rule.ratio >= 0:
            if not math.isinf(rule.ratio):
                proximal.append(i)
        else:
            theta[..., i] = rule.adapt(starts[i], tasks)
    for steps, members in by_steps.items():
        rates = np.array([rules[i].rate for i in members], x.dtype)  # type: ignore[union-attr]
        own, share = theta[..., members], (rates / tasks.support_counts[:, None]).astype(x.dtype)[:, None]
        for _ in range(steps):
            own -= share * (x.transpose(0, 2, 1) @ (x @ own - y[..., None]))
        theta[..., members] = own
    if proximal:
        _add_proximal_steps(theta, [rules[i] for i in proximal], proximal, *weighed(tasks))  # type: ignore[misc]
    if not np.isfinite(theta).all():
        trace_nonfinite(theta, tasks)
    return theta


def _add_proximal_steps(
    theta: np.ndarray, rules: Sequence[ProximalRule], columns: list[int], x: np.ndarray, y: np.ndarray
) -> None:
    """Add to some columns of theta (m, d, n) the steps of their rules, solved as if each rule had tasks of its own."""
    m, n_t, d = x.shape
    roots = [covariance_root(rule.covariance, d) for rule in rules]
    ratios = np.repeat([rule.ratio for rule in rules], m)
    rest = (y[..., None] - x @ theta[..., columns]).transpose(2, 0, 1).reshape(-1, n_t)
    if n_t <= d and all(root is None for root in roots):
        matrix = x @ x.transpose(0, 2, 1)
        if well_shifted(matrix, ratios.min()).all():  # one Gram matrix serves all rules, and no row is copied
            inner = eliminated(np.tile(matrix, (len(rules), 1, 1)), ratios, rest[..., None]).reshape(-1, m, n_t)
            theta[..., columns] += x.transpose(0, 2, 1) @ inner.transpose(1, 2, 0)
            return
    z = np.zeros((len(rules), m, n_t, d), x.dtype)
    for own, root in zip(z, roots, strict=True):
        own[..., : root.shape[-1] if root is not None else d] = scaled(x, root)
    steps = solve_small(z.reshape(-1, n_t, d), rest, ratios).reshape(len(rules), m, d)
    for column, step, root in zip(columns, steps, roots, strict=True):
        theta[..., column] += unscaled(step[:, : root.shape[-1] if root is not None else d], root)
