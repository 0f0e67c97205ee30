"""What a fitted regressor says about the columns, the tasks and its own error, in the user's units."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from undertow._check import InputError
from undertow._plain import plain
from undertow.choice.record import Choice
from undertow.choice.words import number
from undertow.estimators.fitted import FittedModel
from undertow.mixed.families import FAMILIES
from undertow.tasks import labels
from undertow.tasks.curve import Curve, Splines

_ODDEST = 3
_LEVEL = 0.95
# Rows may be kept in single precision.
_ROUNDING = 1e-6
_WIDTHS = (11, 10, 22, 16)
AT_MEANS = "(level at column means)"
"""Name of the row of the intercept: the prediction where every column has its mean."""


class Coefficient(NamedTuple):
    """One column of the common model. Standard error and interval are None where no mixed model was fitted.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor(rule=ut.MixedRule("diagonal")).fit(table.x, table.y, groups=table.groups)
    >>> year = model.summary().coefficients[1]
    >>> year.name, bool(year.low < year.value < year.high), bool(year.task_std > 0)
    ('x1', True, True)
    """

    name: str
    value: float
    """target per unit of the column; for the level, target"""
    standard_error: float | None = None
    """by the mixed model, its variances taken as known"""
    low: float | None = None
    """ends of the 95 % interval"""
    high: float | None = None
    task_std: float | None = None
    """standard deviation between tasks; None where the column has one value in each task, which then cannot differ in
    its coefficient"""

    def cells(self) -> list[str]:
        """Return coefficient, standard error, interval and spread between tasks as text; empty where there is none."""
        # A value far from 0 has digits enough to tell the ends of its interval apart.
        spread = abs(self.standard_error or self.value)
        most = max(abs(self.value), spread)
        digits = 4
        if 0 < spread <= most < math.inf:
            digits = min(max(4, 2 + math.floor(math.log10(most)) - math.floor(math.log10(spread))), 15)
        parts = [
            "" if value is None else number(value, n)
            for value, n in ((self.standard_error, 3), (self.low, digits), (self.high, digits), (self.task_std, 3))
        ]
        interval = f"{parts[1]} to {parts[2]}" if parts[1] else ""
        return [number(self.value, digits), parts[0], interval, parts[3]]


class Bend(NamedTuple):
    """What a column adds to the curve, beside its straight line.

    Examples
    --------
    >>> from undertow.estimators import Bend
    >>> Bend("year", low=-1.2, high=1.1).name
    'year'
    """

    name: str
    low: float
    """least, over the fitted range of the column, in units of the target"""
    high: float


class TaskDistance(NamedTuple):
    """How far a task's own model is from the common one.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor(rule=ut.MixedRule("diagonal")).fit(table.x, table.y, groups=table.groups)
    >>> [one.task for one in model.summary().oddest]
    ['Angola', 'Mozambique', 'South Africa']
    """

    task: Any
    distance: float
    """root mean square difference of the two predictions over training rows, in units of the target"""


@dataclass(frozen=True)
class Summary:
    """Coefficients, spread between tasks, noise and error of a regressor, in the user's units. ``print`` shows it.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor(rule=ut.MixedRule("diagonal")).fit(table.x, table.y, groups=table.groups)
    >>> summary = model.summary()
    >>> [one.name for one in summary.coefficients]
    ['x0', 'x1', 'x2', '(level at column means)']
    >>> summary.n_tasks, round(summary.icc, 1)
    (142, 1.0)
    """

    coefficients: tuple[Coefficient, ...]
    structure: str
    """of the mixed model behind standard errors and spreads; empty where there was none"""
    noise_std: float | None
    """standard deviation of the rows of a task around its own model"""
    icc: float | None
    """intraclass correlation: share of the variance at the column means that lies between tasks, levels of a second
    grouping in the whole; below 0 rows of a task repel each other, and ``task_std`` of the level is 0"""
    level_std: float | None
    """standard deviation of the levels of a second grouping; None without one"""
    n_levels: int
    target_std: float
    n_tasks: int
    n_support: int
    error: float | None
    """root mean squared error on a new task after adaptation to ``n_support`` rows, held out"""
    error_low: float | None
    error_high: float | None
    """ends of its 95 % interval"""
    error_at_zero: float | None
    """the same without rows of the task"""
    expected_error: float | None
    """root mean squared error that the mixed model expects of itself with ``n_support`` rows"""
    oddest: tuple[TaskDistance, ...]
    """the tasks that are furthest from the common model, the furthest first"""
    median_distance: float | None
    curve: str
    """how the common relation bends: "straight", "splines" or "trees"; where it does coefficients are those of its
    straight part alone, and of the curve as a column"""
    bends: tuple[Bend, ...]
    """of splines, the columns that bend, the widest first; none of trees, where columns act together"""
    link: str = ""
    """of a model of two values or of counts, what the columns add up to, "log odds" or "log of the mean": the scale of
    coefficients, spreads and distances"""
    dispersion: float | None = None
    """of a model of counts, mean of (y - mean)^2 / variance at the tasks' own weights: far above 1 they vary more than
    Poisson's do"""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        values = asdict(self)
        values["coefficients"] = [one._asdict() for one in self.coefficients]
        values["bends"] = [one._asdict() for one in self.bends]
        values["oddest"] = [one._asdict() for one in self.oddest]
        return plain(values)

    def __str__(self) -> str:
        """Return the summary as a screen of at most 24 lines."""
        lines = []
        if self.error is not None and self.error_low is not None:
            rows = f"{self.n_support} row{'s' * (self.n_support != 1)}"
            lines.append(
                f"Error on a new task (root mean squared): {number(self.error)} with {rows} of it "
                f"(95 % CI {number(self.error_low)} to {number(self.error_high or 0)}), "
                f"{number(self.error_at_zero or 0)} with none;"
            )
            own = "" if self.expected_error is None else f"; expected by the mixed model {number(self.expected_error)}"
            lines.append(f"standard deviation of the target {number(self.target_std)}{own}.")
            lines.append("")
        shown = self.coefficients[-1:] + self.coefficients[:-1]
        width = max(12, *(min(len(one.name), 32) for one in shown[:12]))
        lines.append(
            f"{'':{width}}  {'coefficient':>11}  {'std. error':>10}  {'95 % CI':>22}  {'SD between tasks':>16}"
        )
        for one in shown[:12]:
            name = one.name if len(one.name) <= 32 else one.name[:31] + "…"
            cells = zip(one.cells(), _WIDTHS, strict=True)
            lines.append((f"{name:{width}}" + "".join(f"  {cell:>{n}}" for cell, n in cells)).rstrip())
        if len(shown) > 12:
            lines.append(f"... and {len(shown) - 12} more columns, in .coefficients")
        return "\n".join([*lines, *self.sentences])

    @property
    def sentences(self) -> list[str]:
        """What there is to say of columns, spread and tasks, beside the table of coefficients."""
        lines = []
        if any(one.standard_error is not None and one.task_std is None for one in self.coefficients):
            lines.append("A column without an SD between tasks has one value in each task.")
        if self.curve != "straight":
            lines.append(self._bending())
        if self.link:
            more = "" if self.dispersion is None else f"; dispersion {self.dispersion:.3g} (1 for Poisson's counts)"
            lines.append(f"On the scale of the {self.link}{more}.")
        if self.noise_std is not None:
            share = (
                ""
                if self.icc is None
                else (
                    f"; {100 * self.icc:.0f} % of the variance at the column means lies between tasks (ICC)"
                    if self.icc >= 0
                    else f"; rows of a task repel each other (ICC {self.icc:.3g})"
                )
            )
            lines.append(f"Standard deviation within a task {number(self.noise_std)}{share}.")
        if self.level_std is not None:
            lines.append(f"Random intercept of {self.n_levels} levels: standard deviation {number(self.level_std)}.")
        if self.oddest and self.median_distance is not None:
            far = ", ".join(f"{one.task} ({number(one.distance, 3)})" for one in self.oddest)
            lines.append(
                f"Furthest from the common model (RMS difference of predictions): {far}; median of "
                f"{self.n_tasks} tasks {number(self.median_distance, 3)}."
            )
        return lines

    def _bending(self) -> str:
        said = f"The common relation bends ({self.curve}); coefficients are those of its straight part."
        if not self.bends:
            return f"{said} In the curve columns act together."
        parts = ", ".join(f"{one.name} {number(one.low, 3)} to {number(one.high, 3)}" for one in self.bends[:_ODDEST])
        return f"{said} Beside it, over a column's range: {parts}."


def _errors(choice: Choice, unit: float) -> tuple[float, float, float, float]:
    used = choice.candidates[choice.strategy]
    half = float(scipy.stats.norm.ppf((1 + _LEVEL) / 2)) * used.standard_error
    mses = used.mse, used.mse - half, used.mse + half, choice.mse_at_zero
    error, low, high, zero = (unit * math.sqrt(max(mse, 0.0)) for mse in mses)
    return error, low, high, zero


def summary_of(model: FittedModel, names: list[str], choice: Choice | None, n_support: int) -> Summary:
    """Return the summary of a fitted regressor with one target. names: (p,) of its columns."""
    if model.n_targets != 1:
        raise InputError(None, rule=f"a summary is of one target: this estimator has {model.n_targets}.")
    standard, own = model.standard, model.uncertainty
    unit = float(standard.target_spread[0])
    omega = model.omega[0].astype(np.float64)
    p = len(standard.centre)
    scales = np.concatenate([unit / standard.spread, [unit] * standard.intercept])
    values = omega * scales
    if standard.intercept:
        values[p] += float(standard.target_centre[0])
    kind = "straight" if standard.curve is None else standard.curve.kind
    columns = [*names, *([] if standard.curve is None else [f"({kind})"]), *([AT_MEANS] if standard.intercept else [])]
    mixed, link = own if own is not None and own.structure else None, model.link
    fixed = _of_tasks(model)
    noise = expected = icc = None
    if link is not None:
        spread = np.diag(link.rule.variances)
        coefficients = _coefficients(columns, values, link.mean_covariance, spread, scales, fixed)
    elif mixed is not None:
        coefficients = _coefficients(columns, values, mixed.mean_covariance[0], mixed.task_covariance[0], scales, fixed)
        noise, expected = math.sqrt(mixed.noise[0]) * unit, math.sqrt(mixed.expected_mse[0, 1]) * unit
        between = float(mixed.task_covariance[0][p, p]) if standard.intercept else 0.0
        of_levels = 0.0 if model.levels is None else float(model.levels.variances[0]) / unit**2
        icc = between / (between + of_levels + float(mixed.noise[0])) if standard.intercept else None
    else:
        coefficients = tuple(Coefficient(name, float(value)) for name, value in zip(columns, values, strict=True))
    error, low, high, zero = (None,) * 4 if choice is None else _errors(choice, unit)
    distances = _distances(model, None if mixed is None else mixed.second_moment)
    order = np.argsort(-distances, kind="stable")[:_ODDEST]
    return Summary(
        coefficients=coefficients,
        structure=own.structure if own is not None else "",
        noise_std=noise,
        icc=icc,
        level_std=None if model.levels is None else math.sqrt(float(model.levels.variances[0])),
        n_levels=0 if model.levels is None else len(model.levels.ids),
        target_std=unit,
        n_tasks=len(model.task_ids),
        n_support=n_support,
        error=error,
        error_low=low,
        error_high=high,
        error_at_zero=zero,
        expected_error=expected,
        oddest=tuple(
            TaskDistance(task, float(distances[i]) * unit)
            for task, i in zip(labels.values(model.task_ids[order]), order, strict=True)
        ),
        median_distance=float(np.median(distances)) * unit if len(distances) else None,
        curve=kind,
        bends=_bends(standard.curve, names, float(values[standard.n_inputs])) if standard.curve is not None else (),
        link="" if link is None else FAMILIES[link.rule.family].link,
        dispersion=None if link is None or link.rule.family != "poisson" else link.dispersion,
    )


def _coefficients(
    names: list[str],
    values: np.ndarray,
    covariance: np.ndarray,
    spread: np.ndarray,
    scales: np.ndarray,
    fixed: np.ndarray,
) -> tuple[Coefficient, ...]:
    """Coefficients (d,). covariance, spread: (d, d), of the common weights' estimate, and between tasks.

    fixed: (d,) columns of one value in each task.
    """
    errors, spreads = (np.sqrt(one.diagonal().clip(0)) * scales for one in (covariance, spread))
    z = scipy.stats.norm.ppf((1 + _LEVEL) / 2)
    table = zip(names, values, errors, spreads, fixed, strict=True)
    return tuple(
        Coefficient(
            name,
            float(value),
            float(error),
            float(value - z * error),
            float(value + z * error),
            None if one_value else float(spread),
        )
        for name, value, error, spread, one_value in table
    )


def _of_tasks(model: FittedModel) -> np.ndarray:
    """Which columns (d,) have one value in each task, the intercept aside; none where rows are not kept."""
    known, p = model.task_rows, len(model.standard.centre)
    fixed = np.zeros(model.omega.shape[1], dtype=bool)
    if known is None or not model.standard.intercept:
        return fixed
    starts, one = known.offsets[:-1], known.rows[:, p].astype(np.float64)
    weight = np.add.reduceat(one * one, starts)
    for j in range(p):
        z = known.rows[:, j].astype(np.float64)
        squares = np.add.reduceat(z * z, starts)
        between = np.divide(np.add.reduceat(z * one, starts) ** 2, weight, out=np.zeros_like(weight), where=weight > 0)
        within = squares - between
        fixed[j] = within.sum() <= _ROUNDING * squares.sum()
    return fixed


def _bends(curve: Curve, names: list[str], weight: float) -> tuple[Bend, ...]:
    """What each column adds, times the weight of the curve in units of the target."""
    if not isinstance(curve, Splines):
        return ()
    found = []
    for i, j in enumerate(curve.features):
        values = weight * curve.of_feature(i, np.linspace(curve.knots[i, 0], curve.knots[i, -1], 200))[:, 0]
        found.append(Bend(names[j], float(values.min()), float(values.max())))
    return tuple(sorted(found, key=lambda one: one.low - one.high))


def _distances(model: FittedModel, moment: np.ndarray | None) -> np.ndarray:
    """Distance of each task's weights from the common ones (m,), in standardised units of the target."""
    if model.task_omega is None:
        return np.zeros(0)
    away = (model.task_omega[0] - model.omega[0]).astype(np.float64)
    # Standardised columns have a second moment of about the identity.
    return np.sqrt(np.einsum("md,de,me->m", away, np.eye(away.shape[1]) if moment is None else moment, away).clip(0))
