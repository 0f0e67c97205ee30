"""The report of ``undertow fit``: the strategies on held-out tasks, the train rate, and what each task gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow.choice import words as said
from undertow.choice.record import Choice, RateInterval
from undertow.estimators.regressor import MAMLRegressorCV
from undertow.estimators.summary import Summary
from undertow.linear.surface import LossSurface
from undertow.report import page, tables, words
from undertow.report.charts.circle import circle
from undertow.report.charts.gains import gains
from undertow.report.charts.rows import rows
from undertow.report.charts.sign import fold_picks
from undertow.report.charts.stability import stable_rates
from undertow.report.charts.strategies import strategies
from undertow.report.charts.surface import surface
from undertow.report.extra import require
from undertow.report.figure import Figure, Key, Table
from undertow.tasks import GroupedTable
from undertow.tasks.losses import TaskLosses


def write_fit_report(
    path: Path,
    name: str,
    raw: GroupedTable,
    estimator: MAMLRegressorCV,
    stability: np.ndarray | None,
    command: str,
    settings: Mapping[str, Any],
) -> None:
    """Write the report of a fitted estimator as one HTML file that needs nothing else. All figures are of ``choice_``.

    Parameters
    ----------
    path
        file to write.
    name
        of the table.
    raw
        the table as it was read, before standardisation.
    estimator
        fitted to ``raw``.
    stability
        (m,) 2 / lambda_max of the support rows of each task of ``raw``, a raw rate in standardised space; None
        leaves the part out.
    command
        what to type to get the same.
    settings
        as given.

    Raises
    ------
    InputError
        where a package is missing, the file cannot be written, or the records do not belong together.

    Examples
    --------
    >>> import tempfile, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.estimators.fit_table(ut.MAMLRegressorCV(n_draws=1, effort="fast"), table)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ut.report.write_fit_report(f"{folder}/life.html", "gapminder", table, model, None, "python life.py", {})
    """
    require()
    choice, found, held_out = _records(estimator)
    standard = estimator.model_.standard
    counts = tables.rows_of(raw, held_out.task_ids, "the estimator was fitted to")
    figures: dict[str, Figure | None] = {
        "circle": circle(choice),
        "surface": surface(found),
        "folds": fold_picks(choice),
        "stability": None,
        "gains": gains(held_out, choice.strategy, counts, raw.task),
        "strategies": strategies(choice),
        "rows": rows(raw.counts),
    }
    summary = estimator.summary()
    stable, gain = _stability(stability, raw, choice), held_out.gains(choice.strategy)
    if stable is not None:
        figures["stability"] = stable.figure
    made = {key: one for key, one in figures.items() if one is not None}
    page.write(
        path,
        "fit.html.j2",
        made.values(),
        made["circle"],
        title=f"{name}: a model for new tasks",
        sections=_sections(stable is not None),
        prediction=choice.prediction,
        prediction_table=_prediction_table(choice),
        prediction_inside=_inside(choice),
        interval_share=_share_of_circle(choice.interval),
        raw=raw,
        choice=choice,
        headline=said.recommended(choice),
        sentences=[words.typeset(text) for text in _sentences(choice, raw.task_noun, estimator.by_time_)],
        keys=_keys(choice, raw, summary),
        columns_table=_columns_table(summary),
        columns_sentences=[words.typeset(text) for text in summary.sentences],
        figures=dict.fromkeys(figures) | made,
        stable=stable,
        task_figures={"better": int((gain > 0).sum()), "total": len(gain)},
        strategy_table=_strategy_table(choice),
        data_table=tables.data(raw, standard),
        features_table=tables.features(raw, standard),
        settings_table=tables.settings(settings),
        versions_table=tables.versions(),
        clip=standard.clip,
        weighting=estimator.weighting,
        in_order=estimator.support == "first",
        infinity=np.inf,
        command=command,
        words=words,
    )


def _sections(with_stability: bool) -> list[tuple[str, str]]:
    """Identifier and words of each part of the page."""
    return [
        ("columns", "Columns"),
        ("strategies", "Strategies"),
        ("tasks", "Gain of each task"),
        ("rates", "Error and rate"),
        ("sign", "Sign"),
        ("theory", "Theory"),
        *([("stability", "Stable rates")] if with_stability else []),
        ("data", "Data"),
        ("methods", "Methods"),
        ("again", "Settings"),
    ]


def _records(estimator: MAMLRegressorCV) -> tuple[Choice, LossSurface, TaskLosses]:
    choice, found, held_out = (getattr(estimator, key, None) for key in ("choice_", "cv_surface_", "held_out_"))
    if choice is None or found is None or held_out is None:
        raise InputError(
            None,
            rule="The estimator holds no search: it was not fitted, or to fewer than three tasks.",
            way_out="Fit a MAMLRegressorCV to a table of several tasks.",
        )
    return choice, found, held_out


def _sentences(choice: Choice, task: str, by_time: Mapping[str, float]) -> list[str]:
    """What the choice says, sentence by sentence, as the command prints it.

    task: what an id is called after; by_time: errors of later tasks, none where these were not asked for.
    """
    error = said.held_out_error(choice)
    parts = said.parts_of_blend(choice)
    return [
        error[:1].upper() + error[1:],
        *([text] if (text := said.weight_note(choice, task)) else []),
        *([text] if (text := said.by_time(by_time, choice)) else []),
        *([f"The blend: {parts}."] if parts else []),
        said.verdict_sentence(choice),
        *([text] if (text := said.against_signed(choice)) else []),
    ]


def _keys(choice: Choice, raw: GroupedTable, found: Summary) -> list[Key]:
    """Key figures of the first screen."""
    assert found.error is not None  # there is a choice
    assert found.error_at_zero is not None
    step, kind, signed = choice.gains["step"], words.level(choice.interval.level), choice.signed
    return [
        Key(
            f"Error on a new task, {raw.target}",
            words.number(found.error),
            f"root mean squared, after {words.count(choice.n_support, 'support row')}; without rows "
            f"{words.number(found.error_at_zero)}",
        ),
        Key("Strategy used", words.strategy(choice.strategy), f"MSE {words.loss(choice.mse)} of the target's variance"),
        Key(
            "Gain of a signed train rate over no inner loop",
            words.percent(step.percent),
            f"{kind} interval {words.between(step.low, step.high)}",
        ),
        Key(
            "Best train rate",
            words.rate(signed["train_rate_spectral"]),
            f"{kind} interval: {words.interval(choice.interval)}; in units of 1/\u2060λmax = "
            f"{words.number(choice.scale)}",
        ),
        Key("Sign", f"{words.share(choice.interval.sign_probability)} negative", "share of bootstrap curves"),
        Key(
            "Data",
            words.count(raw.n_tasks, "task"),
            f"{words.count(raw.n_rows, 'row')}, {words.count(raw.n_features, 'feature')}"
            + (f"; {words.count(raw.n_left_out, 'task')} left out" if raw.n_left_out else ""),
        ),
    ]


def _stability(limits: np.ndarray | None, raw: GroupedTable, choice: Choice) -> Any:
    if limits is None:
        return None
    limits = np.asarray(limits, dtype=np.float64)
    if limits.shape != (raw.n_tasks,):
        rule = f"stability has shape {limits.shape}: it must be ({raw.n_tasks},), one rate for each task."
        raise InputError(None, rule=rule)
    rate = choice.signed["adapt_rate_spectral"]
    return stable_rates(limits, choice.scale, rate, raw.ids, raw.counts, raw.task)


def _strategy_table(choice: Choice) -> Table:
    body = []
    for row in said.rows(choice):
        name = f"{row.strategy} (used)" if row.name == choice.strategy else row.strategy
        cells = row[2:]
        body.append((name, *(words.typeset(cell) for cell in cells)))
    return Table(
        "Strategies on held-out tasks, least error first",
        (
            "strategy",
            "MSE / variance",
            "s.e.",
            "without rows",
            "gain",
            f"{words.level(choice.interval.level)} interval",
            "train",
            "adapt",
            "in the blend",
        ),
        body,
        f"Without rows: error of a strategy's common weights on tasks without rows of their own. Gain: by how much the "
        f"mean squared error is lower than {words.loss(choice.mse_at_zero)}, that of what predicts such tasks here: "
        f"common weights{' and the mean of the target' * ('constant' in choice.at_zero)}. Train and adapt: rates in "
        "units of 1/\u2060λmax, or ratios of ridge regression.",
    )


def _columns_table(found: Summary) -> Table:
    shown = found.coefficients[-1:] + found.coefficients[:-1]
    body = [(one.name, *(words.typeset(cell) for cell in one.cells())) for one in shown[: tables.FEATURES]]
    left = len(shown) - len(body)
    return Table(
        "Coefficients of the common model, in the units of the table",
        ("column", "coefficient", "s.e.", f"{words.level(0.95)} interval", "SD between tasks"),
        body,
        f"{left:,} more columns are not listed." if left else "",
    )


def _prediction_table(choice: Choice) -> Table | None:
    one, signed = choice.prediction, choice.signed
    if one.train_rate_spectral is None or one.adapt_rate_spectral is None:
        return None
    rows = [
        ("train rate (spectral)", words.rate(one.train_rate_spectral), words.rate(signed["train_rate_spectral"])),
        ("adapt rate (spectral)", words.rate(one.adapt_rate_spectral), words.rate(signed["adapt_rate_spectral"])),
    ]
    columns = ("", f"theory ({one.method})", "cross-validation")
    spreads = (("noise, standard deviation", one.noise_std), ("tasks, standard deviation of the weights", one.task_std))
    rows += [(name, words.number(value), "") for name, value in spreads if value is not None]
    return Table("Best rates by theory and by cross-validation", columns, rows)


def _share_of_circle(interval: RateInterval) -> float:
    """Share of the circle of rates that the interval takes."""
    if interval.whole_circle:
        return 1.0
    return (math.atan(interval.high_spectral) - math.atan(interval.low_spectral)) % math.pi / math.pi


def _inside(choice: Choice) -> bool:
    rate = choice.prediction.train_rate_spectral
    return rate is not None and rate * choice.scale in choice.interval
