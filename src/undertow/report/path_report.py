"""The report of ``undertow path``: both rates chosen on a grouped table, and what the choice is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow.choice.rate_comparison import RateComparison
from undertow.choice.rate_picks import STRATEGIES
from undertow.choice.record import Choice, RateInterval
from undertow.estimators.regressor import MAMLRegressorCV
from undertow.linear.surface import LossSurface
from undertow.report import page, tables, verdict, words
from undertow.report.charts.circle import circle
from undertow.report.charts.gains import gains
from undertow.report.charts.rows import rows
from undertow.report.charts.sign import fold_picks
from undertow.report.charts.stability import stable_rates
from undertow.report.charts.strategies import order, strategies
from undertow.report.charts.surface import surface
from undertow.report.extra import require
from undertow.report.figure import Figure, Table
from undertow.tasks import GroupedTable
from undertow.tasks.losses import TaskLosses
from undertow.tasks.standard import Standard


def write_path_report(
    path: Path,
    *,
    name: str,
    raw: GroupedTable,
    standard: Standard,
    comparison: RateComparison,
    estimator: MAMLRegressorCV,
    stability: np.ndarray | None,
    command: str,
    settings: Mapping[str, Any],
) -> None:
    """Write the report of a choice of rates as one HTML file that needs nothing else.

    name: of the table. raw: the table as it was read, before standardisation; standard: what standardised it.
    comparison: of ``undertow.choice.compare_rates`` on the standardised table. estimator: fitted to ``raw`` with the
    gradient rule among its rules. stability: (m,) 2 / lambda_max of the support rows of each task of ``raw``, a raw
    rate in standardised space; None leaves the part out. command: what to type to get the same. settings: as given.
    Raises InputError where a package is missing, the file cannot be written, or the records do not belong together.
    """
    require()
    choice, found, held_out = _records(estimator)
    counts = tables.rows_of(raw, held_out.task_ids, "the estimator was fitted to")
    std = float(np.std(raw.y))
    figures: dict[str, Figure | None] = {
        "circle": circle(found, choice, comparison),
        "surface": surface(found),
        "folds": fold_picks(comparison, choice.interval),
        "stability": None,
        "gains": gains(held_out, choice.strategy, counts, raw.task),
        "strategies": strategies(choice, choice.interval.level),
        "rows": rows(raw.counts),
    }
    stable = _stability(stability, raw, found.scale, choice)
    if stable is not None:
        figures["stability"] = stable.figure
    made = {key: one for key, one in figures.items() if one is not None}
    page.write(
        path,
        "path.html.j2",
        made.values(),
        made["circle"],
        title=f"{name}: choice of training and adaptation rate",
        sections=_sections(stable is not None, choice.prediction is not None),
        prediction=choice.prediction,
        prediction_table=_prediction_table(choice),
        prediction_inside=_inside(choice),
        interval_share=_share_of_circle(choice.interval),
        blend_table=_blend_table(choice),
        name=name,
        raw=raw,
        choice=choice,
        headline=verdict.headline(choice),
        meaning=verdict.meaning(choice),
        advice=verdict.advice(choice),
        keys=verdict.keys(choice, raw, found.scale),
        figures=dict.fromkeys(figures) | made,
        stable=stable,
        task_figures=_task_figures(held_out, choice.strategy),
        strategy_table=_strategy_table(choice, std, raw.target),
        picks_table=_picks_table(comparison),
        data_table=tables.data(raw, standard),
        features_table=tables.features(raw, standard),
        settings_table=tables.settings(settings),
        versions_table=tables.versions(),
        estimator=_search(estimator),
        scale=found.scale,
        clip=standard.clip,
        n_held_out=len(held_out.task_ids),
        command=command,
        words=words,
    )


def _sections(with_stability: bool, with_theory: bool) -> list[tuple[str, str]]:
    """Identifier and words of each part of the page."""
    parts = [
        ("rates", "Loss and rate"),
        ("sign", "Sign"),
        ("strategies", "Ways to adapt"),
        ("tasks", "Gain of each task"),
        ("data", "Data"),
        ("methods", "Methods"),
        ("again", "Settings"),
    ]
    if with_stability:
        parts.insert(4, ("stability", "Stable rates"))
    if with_theory:
        parts.insert(1, ("theory", "Theory"))
    return parts


def _records(estimator: MAMLRegressorCV) -> tuple[Choice, LossSurface, TaskLosses]:
    choice, found, held_out = (getattr(estimator, key, None) for key in ("choice_", "cv_surface_", "held_out_"))
    if choice is None or found is None or held_out is None:
        raise InputError(
            "the estimator holds no search: fit a MAMLRegressorCV to two tasks or more, with 'gradient' among its "
            "rules. A loaded estimator has no surface: fit it again."
        )
    return choice, found, held_out


def _stability(limits: np.ndarray | None, raw: GroupedTable, scale: float, choice: Choice) -> Any:
    if limits is None:
        return None
    limits = np.asarray(limits, dtype=np.float64)
    if limits.shape != (raw.n_tasks,):
        raise InputError(f"stability has shape {limits.shape}: it must be ({raw.n_tasks},), one rate for each task.")
    return stable_rates(limits, scale, choice.adapt_rate, raw.ids, raw.counts, raw.task)


def _task_figures(held_out: TaskLosses, strategy: str) -> dict[str, Any]:
    gain = held_out.gains(strategy)
    weights = held_out.weights / held_out.weights.sum()
    total = float(np.abs(gain * weights).sum())
    top = np.sort(gain * weights)[::-1][: max(1, len(gain) // 10)]
    return {
        "better": int((gain > 0).sum()),
        "total": len(gain),
        "top": len(top),
        "top_share": float(top.clip(0).sum() / total) if total > 0 else 0.0,
    }


def _strategy_table(choice: Choice, std: float, target: str) -> Table:
    body = []
    for name in order(choice):
        loss, error = (2 * value for value in choice.losses[name])
        over = choice.best_gains.get(name)
        said = "used" if name == choice.strategy else "" if over is None else words.gain(over)
        figures = (words.loss(loss), words.number(error, 2), verdict.error(loss, std), words.fixed(1 - loss))
        body.append((f"{words.strategy(name)} ({name})", *figures, said))
    kind = words.level(choice.interval.level)
    return Table(
        "Strategies on held-out tasks, least error first",
        ("strategy", "MSE / variance", "s.e.", f"root MSE ({target})", "R²", f"gain of the one used ({kind})"),
        body,
        "Gain: by how much the mean squared error of the strategy used is lower. R² is 1 minus MSE / variance.",
    )


def _blend_table(choice: Choice) -> Table | None:
    if choice.strategy != "blend":
        return None
    return Table(
        "What the blend is made of",
        ("strategy", "share"),
        [(f"{words.strategy(name)} ({name})", words.share(part)) for name, part in choice.settings.items()],
    )


def _prediction_table(choice: Choice) -> Table | None:
    one = choice.prediction
    if one is None or one.train_rate is None or one.adapt_rate is None:
        return None
    rows = [
        ("training rate (spectral)", words.rate(one.train_rate), words.rate(choice.train_rate)),
        ("adaptation rate (spectral)", words.rate(one.adapt_rate), words.rate(choice.adapt_rate)),
    ]
    columns = ("", f"theory ({one.method})", "cross-validation")
    spreads = (("noise, standard deviation", one.noise_std), ("tasks, standard deviation of the weights", one.task_std))
    rows += [(name, words.number(value), "") for name, value in spreads if value is not None]
    return Table("Best rates by theory and by cross-validation", columns, rows)


def _share_of_circle(interval: RateInterval) -> float:
    """Share of the circle of rates that the interval takes."""
    if interval.whole_circle:
        return 1.0
    return (math.atan(interval.high) - math.atan(interval.low)) % math.pi / math.pi


def _inside(choice: Choice) -> bool:
    one = choice.prediction
    return one is not None and one.train_rate is not None and one.train_rate in choice.interval


def _picks_table(comparison: RateComparison) -> Table:
    body = []
    for name, pick in comparison.picks.items():
        both = (pick.train_rate, pick.adapt_rate)
        pairs = [words.rate(rate / unit) for rate in both for unit in (1.0, comparison.scale)]
        body.append((STRATEGIES[name], *pairs, f"{pick.ridge:g}"))
    return Table(
        "Rates of the gradient rule by the second cross-validation, on all tasks",
        ("strategy", "training rate", "spectral", "adaptation rate", "spectral", "ridge"),
        body,
    )


def _search(estimator: MAMLRegressorCV) -> dict[str, Any]:
    """What the text on methods says of the search."""
    folds = estimator.cv if isinstance(estimator.cv, int) else "several"
    return {
        "folds": folds,
        "draws": estimator.n_draws_,
        "intercept": estimator.fit_intercept,
        "n_support": estimator.n_support,
    }
