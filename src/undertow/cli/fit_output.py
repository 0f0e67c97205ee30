"""What ``undertow fit`` prints and writes: all figures are those of the estimator's ``choice_``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from undertow._write import whole, write_figure
from undertow.choice import words
from undertow.choice.record import Choice
from undertow.cli.output import SCREEN, console, count, height, say, show_table, write_parquet
from undertow.cli.own_table import Job, write_summary, write_unfinished
from undertow.estimators import Coefficient, MAMLRegressorCV
from undertow.tasks import GroupedTable

FILES = 2
"""Lines that name the files"""


def measure(job: Job, n_tasks: int, n_clipped: int) -> str:
    """Return how errors are measured. n_clipped: values that the limit of a feature touches."""
    clip, n_folds = job.settings["clip"], min(job.settings["folds"], n_tasks)
    clipped = "" if clip is None else f" ({count(n_clipped, 'value')} clipped at {clip:g} s.d.)"
    return (
        f"standardised{clipped}; a new task brings {count(job.settings['n_support'], 'row')}; errors are of held-out "
        f"tasks, {n_folds} folds"
    )


def print_results(target: str, estimator: MAMLRegressorCV, limits: np.ndarray, task: str, others: int) -> None:
    """Print the recommendation, the error in the target's unit, the strategies, and the verdict on the train rate.

    limits: stable raw adapt rate of each task (m,). task: what an id is called after. others: lines of the screen for
    what is said before and after; strategies that find no place are in their file alone.
    """
    choice = estimator.choice_
    assert choice is not None  # three tasks or more, each with rows to spare
    first = _answer(target, estimator, task)
    stable = np.median(limits) / choice.scale
    last = [
        f"MSE per target variance; gain over 0 rows; train, adapt: rates (unit {choice.scale:.3g}, stable "
        f"below {stable:.3g}) or ratios",
        words.verdict_sentence(choice),
    ]
    say(*first)
    _show_strategies(choice, SCREEN - others - height([*first, *last]))
    say(*last)


def _answer(target: str, estimator: MAMLRegressorCV, task: str) -> list[str]:
    choice, found = estimator.choice_, estimator.summary()
    assert choice is not None
    assert found.error is not None
    assert found.error_at_zero is not None
    rows, deviation = count(found.n_support, "row"), words.number(found.target_std, 3)
    # The errors are those of tasks whose level of the second grouping other tasks show.
    elsewhere = "" if found.level_std is None else "; larger where its level is new"
    tried = [f"{name} {words.share(error)}" for name, error in estimator.curve_errors_.items() if name != "chosen"]
    said = (
        words.weight_note(choice, task),
        words.recommendation(choice),
        words.repelling(choice),
        f"RMS error on a new task: {words.number(found.error, 3)} with {rows}, "
        f"{words.number(found.error_at_zero, 3)} with none ({target}, s.d. {deviation}){elsewhere}.",
        words.simplest(choice),
        words.by_time(estimator.by_time_, choice),
        f"Common relation, held-out MSE: {', '.join(tried)} ({estimator.curve_} used)." if len(tried) > 1 else "",
    )
    return [text for text in said if text]


def _show_strategies(choice: Choice, room: int) -> None:
    """Print a table of strategies, best first, in so many lines."""
    rows, most = words.rows(choice), max(room - 1, _FEWEST)
    if len(rows) > most:
        kept = {choice.strategy, "joint", "signed"}
        kept.update([row.name for row in rows if row.name not in kept][: most - 1 - len(kept)])
        rows = [row for row in rows if row.name in kept]
    body = [(f"{row.strategy} *" if row.name == choice.strategy else row.strategy, row.mse, *row[4:]) for row in rows]
    if left := len(choice.candidates) - len(rows):
        body.append((f"({left} more in strategies.parquet)", *[""] * (len(body[0]) - 1)))
    level = f"{100 * choice.interval.level:g} % CI"
    titles = ("strategy", "MSE", "0 rows", "gain", level, "train", "adapt", "in blend")
    show_table(console(soft_wrap=True), titles, body)


def write_results(
    job: Job, raw: GroupedTable, estimator: MAMLRegressorCV, limits: np.ndarray, n_left_out: int | None = None
) -> str:
    """Write figure and tables, and return their names in one line. limits: stable raw adapt rate of each task (m,)."""
    from undertow.plots import choice_figure, style

    choice, folder = estimator.choice_, job.folder
    assert choice is not None
    found = estimator.summary()
    tables = _tables(raw, estimator, limits, found.coefficients)
    write_unfinished(job)
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", _arrow(table))
    with whole(folder / "summary.txt") as beside:
        beside.write_text(f"{found}\n", encoding="utf-8")
    with style.context():
        made = choice_figure(estimator, f"{job.name}: {words.recommendation(choice)}")
        write_figure(made, folder)
    write_summary(
        folder,
        {
            "settings": job.settings,
            "finished": True,
            "target_variance": float(estimator.model_.standard.target_spread[0] ** 2),
            "values_clipped": estimator.n_clipped_,
            "tasks_left_out": raw.n_left_out if n_left_out is None else n_left_out,
            "recommendation": words.recommendation(choice),
            "simplest": words.simplest(choice),
            "verdict": words.verdict_sentence(choice),
            "by_time": estimator.by_time_,
            "choice": choice.to_dict(),
            "summary": found.to_dict(),
            "files_elsewhere": job.files_elsewhere,
        },
    )
    first = "summary.txt (what columns do, which tasks are odd)"
    return f"{folder}/: {first}, summary.json, figure, {', '.join(tables)} (.parquet)"


def write_rule(job: Job, estimator: Any) -> str:
    """Write the summary of a mixed model of two values or of counts, and return the file's name."""
    with whole(job.folder / "rule.txt") as beside:
        beside.write_text(f"{estimator.summary()}\n", encoding="utf-8")
    return "rule.txt"


def _tables(
    raw: GroupedTable, estimator: MAMLRegressorCV, limits: np.ndarray, coefficients: tuple[Coefficient, ...]
) -> dict[str, dict[str, Any]]:
    """Columns of each table: the curve over train rates, strategies, held-out tasks, and common weights."""
    choice, held_out, standard = estimator.choice_, estimator.held_out_, estimator.model_.standard
    assert choice is not None
    assert held_out is not None
    curve, scale = choice.curve, choice.scale
    rates, adapt = np.abs(curve.train_rates), np.array(curve.adapt_rates)
    # Plus and minus infinity are one point, written in one way.
    rates = np.where(np.isinf(rates), rates, curve.train_rates)
    of_tasks = dict(zip(raw.ids.tolist(), limits, strict=True))
    strategies = [
        {"strategy": name, "mse_over_variance": one.mse, "standard_error": one.standard_error}
        | {"mse_over_variance_without_rows": one.mse_at_zero}
        | {f"gain_percent_{key}": value for key, value in one.gain._asdict().items()}
        | {key: None if name == "blend" else one.settings.get(key) for key in _SETTINGS}
        | {"share_in_blend": choice.candidates["blend"].settings.get(name) if "blend" in choice.candidates else None}
        for name, one in choice.candidates.items()
    ]
    return {
        "curve": {
            "train_rate": rates,
            "train_rate_spectral": rates / scale,
            "best_adapt_rate": adapt,
            "best_adapt_rate_spectral": adapt / scale,
            "cv_mse_over_variance": curve.mse,
            "standard_error_of_difference_from_0": curve.standard_errors,
        },
        "strategies": {key: [row[key] for row in strategies] for key in strategies[0]},
        "held_out": {
            "task": held_out.task_ids,
            "query_rows": held_out.rows,
            "weight": held_out.weights,
            "stable_adapt_rate": [of_tasks[task] for task in held_out.task_ids.tolist()],
        }
        | {f"mse_over_variance_{name}": held_out.of(name) for name in held_out.names},
        "weights": {
            "feature": [*raw.feature_names, *(one.name for one in coefficients[raw.n_features : -1]), "intercept"],
            "weight": [
                *estimator.coef_,
                *(one.value for one in coefficients[raw.n_features : -1]),
                estimator.intercept_,
            ],
            "standard_error": [*(one.standard_error for one in coefficients[:-1]), None],
            "std_between_tasks": [*(one.task_std for one in coefficients[:-1]), None],
            "weight_standardised": estimator.model_.alone[0],
            "centre": [*standard.centre, 0.0],
            "spread": [*standard.spread, 1.0],
        },
        "tasks": {"task": estimator.task_ids_, "intercept": estimator.task_intercept_}
        | dict(zip(raw.feature_names, estimator.task_coef_.T, strict=True)),
    }


# Strategies that are shown however much else there is to say.
_FEWEST = 6

_SETTINGS = (
    "train_rate", "train_rate_spectral", "adapt_rate", "adapt_rate_spectral", "train_ratio", "adapt_ratio", "ridge",
    "steps", "noise_std", "task_std", "icc",
)  # fmt: skip


def _arrow(columns: dict[str, Any]) -> Any:
    # Arrow knows days as an array, and not one by one.
    arrays = {name: one if isinstance(one, np.ndarray) else list(one) for name, one in columns.items()}
    return pa.table({name: pa.array(values) for name, values in arrays.items()})
