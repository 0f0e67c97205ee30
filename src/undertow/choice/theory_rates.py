"""What theory predicts for the gradient rule's best rates, from the noise and the spread of tasks that a table shows.

The theory is that of linear regression with normal inputs, alike in all tasks, and without a ridge
(docs/explanation/theory.md): beside the cross-validated rates it says whether the table behaves like that model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from undertow import _circle
from undertow.choice.mixed_family import MixedFamily, task_statistics
from undertow.choice.record import Prediction
from undertow.linear.block_moments import BlockMoments
from undertow.mixed.fit import MixedFit
from undertow.mixed.model import fit_mixed
from undertow.problem import Design, MixedLinearRegression
from undertow.theory.expected_loss import loss_form

if TYPE_CHECKING:
    from undertow.choice.plan import Plan

_MOST_TASKS = 200
# Points of the circle, and of the finer grid around the best of them.
_GRID = 41
_SHALLOW = 0.02
# That of "auto" for correlated inputs, but for few directions: there it draws data sets, and many rates of these take
# seconds, which a second opinion must not cost.
_METHOD = "equivalent"


def predicted(plan: Plan, mixed: MixedFamily | None, moments: BlockMoments, steps: int = 1) -> Prediction:
    """Return theory's best rates for the tasks of a search. Never raises: ``note`` says why something is missing.

    mixed: whose isotropic fit serves if it is there; else a fit to a few hundred tasks is made. moments: for the second
        moment of the inputs and the spectral unit.
    """
    d, most = plan.rows.n_columns, plan.limits.theory_columns
    if d > most:
        return _nothing(f"not computed: {d} columns, and the formulas are used up to {most}.")
    try:
        with np.errstate(all="ignore"):
            return _from_fit(plan, _fit(plan, mixed), moments, steps)
    except Exception as error:  # a second opinion must never cost the fit, whatever goes wrong
        return _nothing(f"not computed: {error}")


def _nothing(why: str) -> Prediction:
    return Prediction(None, None, None, None, "", why)


def _fit(plan: Plan, mixed: MixedFamily | None) -> MixedFit:
    if mixed is not None and "isotropic" in mixed.structures:
        return mixed.fits("isotropic")[0]
    rows = plan.rows
    some = np.unique(np.linspace(0, rows.n_tasks - 1, min(_MOST_TASKS, rows.n_tasks)).round().astype(int))
    return fit_mixed(task_statistics(rows.select(some), 0), "isotropic", tolerance=1e-2)


def _from_fit(plan: Plan, fit: MixedFit, moments: BlockMoments, steps: int) -> Prediction:
    scale = moments.scale
    n_query = max(1, int(np.median(plan.rows.counts)) - plan.n_support)
    design = Design(n_tasks=plan.rows.n_tasks, n_support=plan.n_support, n_query=n_query)
    problem = fit.problem(input_covariance=moments.support / moments.support_tasks)
    parts = [
        f"theory for normal inputs of the same second moment in all tasks, {design.n_tasks} tasks of {plan.n_support} "
        f"support and {n_query} query rows (the median), and no ridge"
    ]
    if plan.rows.standard.intercept:
        parts.append(
            "the constant feature is taken for a normal one of variance 1, which makes it look noisier than it is"
        )
    if steps != 1:
        parts.append(f"one inner step, where {steps} were chosen")
    if plan.n_targets > 1:
        parts.append("the first target only")
    train, adapt, least, trivial = _best(problem, design, scale)
    if not math.isfinite(least):
        parts.append("the expected loss is infinite at every rate")
        return Prediction(fit.noise_std, fit.task_std, None, None, _METHOD, "; ".join(parts) + ".")
    if trivial < (1 + _SHALLOW) * least:
        parts.append(f"the optimum is shallow: rate 0 or infinity comes within {100 * _SHALLOW:g} % of its loss")
    return Prediction(fit.noise_std, fit.task_std, train / scale, adapt / scale, _METHOD, "; ".join(parts) + ".")


def _best(problem: MixedLinearRegression, design: Design, scale: float) -> tuple[float, float, float, float]:
    """Both best raw rates, the loss there, and the lower of the losses at train rates 0 and infinity.

    On a grid of the circle and a finer one around its best point, and from there to the vertex of a parabola: two calls
    with many rates, where ``theory.optimal_train_rate`` makes many calls with one.
    """
    # Training starts at weights of 0, the mean of the standardised target.
    start = np.zeros(problem.n_features)

    def loss(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rates = _circle.rates_of(angles, scale)
        form = loss_form(problem, design, rates, 0.0, _METHOD, init=start, steps=1)
        with np.errstate(all="ignore"):
            adapt = np.where(form[1] == 0, 0.0, -form[1] / (2 * form[2]))
            value = form[0] + adapt * form[1] + adapt**2 * form[2]
        return rates, adapt, np.where(np.isfinite(value), value, np.inf)

    angles = _circle.grid(_GRID)[:-1]
    _, _, coarse = loss(angles)
    least = int(coarse.argmin())
    width = angles[1] - angles[0]
    fine = angles[least] + width * np.linspace(-1, 1, _GRID)
    rates, adapt, value = loss((fine + np.pi / 2) % np.pi - np.pi / 2)
    zero, end = int(np.abs(angles).argmin()), int(np.abs(np.abs(angles) - np.pi / 2).argmin())
    trivial = float(min(coarse[zero], coarse[end]))
    best = int(value[1:-1].argmin()) + 1
    before, least, after = value[best - 1 : best + 2]
    bend = before - 2 * least + after
    if not (0 < bend < math.inf):
        return float(rates[best]), float(adapt[best]), float(least), trivial
    share = 0.5 * (before - after) / bend
    angle = np.array([fine[best] + share * (fine[1] - fine[0])])
    other = adapt[best + 1 if share > 0 else best - 1]
    return (
        float(_circle.rates_of((angle + np.pi / 2) % np.pi - np.pi / 2, scale)[0]),
        float(adapt[best] + abs(share) * (other - adapt[best])),
        float(least - 0.25 * share * (before - after)),
        trivial,
    )
