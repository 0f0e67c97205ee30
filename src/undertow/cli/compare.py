"""``undertow compare``: ways to predict new tasks of one's own grouped table, measured on held-out tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli import options

if TYPE_CHECKING:
    from undertow.cli.own_table import Job
    from undertow.comparison import Comparison, Plan
    from undertow.tasks import GroupedTable


_Folds = Annotated[int, typer.Option(min=2, help="Folds of tasks.")]
_Draws = Annotated[int, typer.Option(min=1, help="Random draws of support rows of each held-out task.")]
_Repeats = Annotated[int, typer.Option(min=1, help="Times that folds are drawn anew.")]
_Rivals = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Rivals; left out: all of pooled, alone, pooled_ridge, mixedlm, mixedlm_slopes, mixedlm_rs, "
        "logistic_mixed, poisson_mixed, trees, gpboost, step, tied, signed, default. See docs/how-to/compare.md.",
    ),
]
_Level = Annotated[float, typer.Option(help="Level of the intervals.")]
_TimeLimit = Annotated[float, typer.Option(help="Seconds that a rival may take for a fold; inf for no limit.")]
_Out = Annotated[Path | None, typer.Option(help="Folder for figure and tables.", show_default="NAME-compare")]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings, and the file of --report.")
]


def compare(
    ctx: typer.Context,
    table: options.TableName,
    task: options.TaskColumn = None,
    target: options.TargetColumn = None,
    features: options.Features = None,
    formula: options.Formula = None,
    n_support: options.NSupport = 5,
    folds: _Folds = 5,
    draws: _Draws = 5,
    repeats: _Repeats = 1,
    rivals: _Rivals = None,
    clip: options.Clip = math.inf,
    level: _Level = 0.95,
    time_limit: _TimeLimit = 120.0,
    categories: options.Categories = "raise",
    categorical: options.Categorical = None,
    max_levels: options.MaxLevels = 50,
    on_small: options.OnSmall = None,
    weighting: options.Weighting = "tasks",
    target_kind: options.TargetKind = "auto",
    order: options.Order = None,
    task_order: options.TaskOrder = None,
    weights: options.Weights = None,
    weights_are: options.WeightsAre = "frequency",
    random_intercept: options.RandomIntercept = "outer",
    random_slopes: options.RandomSlopes = None,
    on_missing: options.OnMissing = "refuse",
    on_constant: options.OnConstant = "drop",
    sep: options.Sep = None,
    decimal: options.Decimal = None,
    anonymous: options.Anonymous = False,
    seed: options.Seed = 0,
    out: _Out = None,
    report: options.Report = None,
    overwrite: _Overwrite = False,
) -> None:
    """Compare MAML, ridge regressions, mixed models and trees on held-out tasks of a grouped table.

    Finished fits are kept in the folder: after an interruption the same command goes on where it was.

    Example: undertow compare sales.csv --task shop --target units_sold
    """
    from undertow.cli.output import say
    from undertow.cli.own_table import job_of, read_own_table
    from undertow.comparison.registry import chosen
    from undertow.comparison.run import check_table, checked

    asked = [rival.name for rival in chosen(None if rivals is None else [r.strip() for r in rivals.split(",")])]
    job = job_of(ctx, {"rivals": asked})
    limit = None if time_limit == math.inf else time_limit
    checked(_plan(job), repeats, level, limit)
    raw = read_own_table(job)
    plan = _plan(job, raw)
    check_table(raw, plan)
    job.claim()
    _print_table(job, raw)
    comparison = _compared(job, raw, plan, limit)
    _print_results(comparison, raw.task_noun)
    files = _write(job, comparison)
    if report is not None:
        from undertow.report import write_compare_report

        _, standard = raw.standardized(job.settings["clip"], target=True)
        write_compare_report(report, job.name, raw, standard, comparison, job.command, job.settings)
        files += f"; report {report}"
    say(f"files: {files}")


def _plan(job: Job, raw: GroupedTable | None = None) -> Plan:
    """What the settings say, and where the table is read what it says too."""
    from undertow.cli.fit_model import slopes_of
    from undertow.comparison import Plan

    settings = job.settings
    plan = Plan(*(settings[name] for name in ("n_support", "folds", "draws", "clip", "seed", "weighting")))
    if raw is None:
        return plan
    slopes = slopes_of(raw, settings["random_slopes"])
    return plan._replace(
        floor=0.0 if raw.target_kind == "count" and raw.levels is None else None,
        random_slopes=None if slopes is None else tuple(raw.feature_names.index(one) for one in slopes),
    )


def _compared(job: Job, raw: GroupedTable, plan: Plan, time_limit: float | None) -> Comparison:
    """Fit what is not there yet."""
    from undertow.cli.own_table import progress_bar, write_unfinished
    from undertow.comparison import compare as compare_rivals
    from undertow.comparison.registry import chosen

    settings, cells = job.settings, job.folder / "cells.jsonl"
    with progress_bar("fits") as progress, _what_is_kept(cells):

        def tick(done: int, total: int) -> None:
            if done == 0 and _settings_in(job.folder) != settings:
                # So that the folder is known again after an interruption.
                write_unfinished(job)
            progress(done, total)

        return compare_rivals(
            raw,
            plan,
            n_repeats=settings["repeats"],
            # All that there are were not asked for by name: some are for other kinds of targets.
            rivals=None if settings["rivals"] == [rival.name for rival in chosen(None)] else settings["rivals"],
            level=settings["level"],
            time_limit=time_limit,
            cells=cells,
            progress=tick,
        )


@contextmanager
def _what_is_kept(cells: Path) -> Iterator[None]:
    """Say after Ctrl-C where the finished fits are."""
    try:
        yield
    except KeyboardInterrupt:
        if cells.is_file():
            typer.echo(f"Finished fits are kept in {cells}: the same command goes on from them.", err=True)
        raise


def _print_table(job: Job, raw: GroupedTable) -> None:
    from undertow.cli.output import count, say
    from undertow.cli.own_table import what_was_read

    settings = job.settings
    repeats = "" if settings["repeats"] == 1 else f", {settings['repeats']} times"
    for line in what_was_read(job.name, raw, settings["n_support"]):
        say(line)
    if raw.levels is not None:
        below = "; predictions may be below 0" if raw.target_kind == "count" else ""
        say(f"what levels of {','.join(raw.levels_from)} add is predicted from training tasks for every rival{below}")
    say(
        f"each task held out once in {settings['folds']} folds{repeats}; it brings "
        f"{count(settings['n_support'], 'row')} and is measured on the others ({count(settings['draws'], 'draw')})"
    )


def _print_results(comparison: Comparison, task: str) -> None:
    from undertow.cli.output import console, say, show_table

    if note := comparison.weight_note(task):
        say(note)
    body = []
    for row in comparison.table():
        if row["loss"] is None:
            continue
        gap = ("", "")
        if row["difference"] is not None:
            gap = (f"{row['difference']:+.4f}", f"{row['low']:+.4f} to {row['high']:+.4f}")
        later = (f"{row['loss_later']:.4f}",) if "loss_later" in row else ()
        error = f"{row['standard_error']:.4f}"
        body.append((row["label"], f"{row['loss']:.4f}", error, *later, *gap, _seconds(row)))
    level = f"{100 * comparison.level:g} % CI"
    by_time = () if comparison.later_losses is None else ("by time",)
    titles = ("rival, on held-out tasks", "MSE/variance", "s.e.", *by_time, "difference", level, "seconds of a fit")
    show_table(console(soft_wrap=True), titles, body)
    say(f"difference: MSE/variance minus that of {comparison.label(comparison.base)}; positive is worse")
    for name in comparison.names:
        if name not in comparison.measured:
            say(f"{comparison.label(name)}: {comparison.notes[name]}")
    say(comparison.verdict)


def _seconds(row: dict[str, Any]) -> str:
    return f"{row['fit_seconds']:.2g}" if row["fit_seconds"] < 99.5 else f"{row['fit_seconds']:.0f}"


def _write(job: Job, comparison: Comparison) -> str:
    """Write figure and tables, and return their names in one line."""
    import pyarrow as pa

    from undertow._write import write_figure
    from undertow.cli.output import write_parquet
    from undertow.cli.own_table import write_summary
    from undertow.plots import style
    from undertow.plots.comparison import ComparisonDisplay

    folder = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "comparison.parquet", pa.Table.from_pylist(comparison.table()))
    losses = {f"mse_over_variance_{rival}": comparison.losses(rival) for rival in comparison.measured}
    if comparison.later_losses is not None:
        columns = zip(comparison.names, comparison.later_losses.T, strict=True)
        losses |= {f"mse_over_variance_later_{name}": one for name, one in columns if name in comparison.measured}
    held_out = {"task": comparison.task_ids, "query_rows": comparison.task_rows} | losses
    write_parquet(folder / "held_out.parquet", pa.table(held_out))
    with style.context():
        made = ComparisonDisplay.from_comparison(comparison).plot().figure_
        made.suptitle(f"{job.name}: {len(comparison.task_ids)} held-out tasks", x=0.01, ha="left", fontsize=10.5)
        write_figure(made, folder)
    limits = {"time_limit": comparison.settings["time_limit"], "files_elsewhere": job.files_elsewhere}
    results = {key: value for key, value in comparison.to_dict().items() if key != "settings"}
    results["target_variance"] = comparison.settings["target_variance"]
    write_summary(folder, {"settings": job.settings, "finished": True} | limits | results)
    return f"{folder}/: figure.png, figure.svg, summary.json; comparison, held_out (.parquet)"


def _settings_in(folder: Path) -> Any:
    try:
        return json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("settings")
    except (OSError, ValueError, AttributeError):
        return None
