"""``undertow fit``: a model for new tasks of one's own grouped table, and what it is worth on held-out tasks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.cli import options

if TYPE_CHECKING:
    from undertow.cli.own_table import Job


_Folds = Annotated[int, typer.Option(min=3, help="Folds of tasks.")]
_Draws = Annotated[
    int | None,
    typer.Option(min=1, help="Random draws of support rows of each task.", show_default="10; fewer if it is large"),
]
_Effort = Annotated[
    str, typer.Option(help="Curves beside straight lines: fast (none), default (where they promise), thorough (all).")
]
_Out = Annotated[Path | None, typer.Option(help="Folder for figure and tables.", show_default="NAME-fit")]
_Save = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Save the fitted model: a .safetensors file, for predict.")
]
_Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Ceiling of memory; rows are read out of core.", show_default="2GB"),
]
_Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler, whose workers sum up folders of files.")
]
_Work = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep sorted rows and sums there, to go on after an interruption.")
]
_Rule = Annotated[
    str,
    typer.Option(
        help="What is saved: linear, the strategy found; logistic or poisson, a mixed model of these targets."
    ),
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings, and files of --save and --report.")
]


def fit(
    ctx: typer.Context,
    table: options.TableName,
    task: options.TaskColumn = None,
    target: options.TargetColumn = None,
    features: options.Features = None,
    formula: options.Formula = None,
    n_support: options.NSupport = 5,
    folds: _Folds = 5,
    draws: _Draws = None,
    clip: options.Clip = math.inf,
    categories: options.Categories = "raise",
    categorical: options.Categorical = None,
    max_levels: options.MaxLevels = 50,
    on_small: options.OnSmall = None,
    weighting: options.Weighting = "tasks",
    target_kind: options.TargetKind = "auto",
    rule: _Rule = "linear",
    order: options.Order = None,
    task_order: options.TaskOrder = None,
    weights: options.Weights = None,
    weights_are: options.WeightsAre = "frequency",
    random_intercept: options.RandomIntercept = "outer",
    random_slopes: options.RandomSlopes = None,
    effort: _Effort = "default",
    on_missing: options.OnMissing = "refuse",
    on_constant: options.OnConstant = "drop",
    sep: options.Sep = None,
    decimal: options.Decimal = None,
    anonymous: options.Anonymous = False,
    seed: options.Seed = 0,
    out: _Out = None,
    save: _Save = None,
    report: options.Report = None,
    memory: _Memory = None,
    scheduler: _Scheduler = None,
    work: _Work = None,
    overwrite: _Overwrite = False,
) -> None:
    """Fit a model that adapts to new tasks, and compare strategies on held-out tasks.

    A task is a group of rows: the pupils of a school, the visits of a patient. Features and target are standardised.
    TABLE may be a folder or a glob of .parquet or .csv files, larger than memory (extra 'scale').

    Example: undertow fit sales.csv --task shop --target units_sold --save model.safetensors
    """
    from undertow.cli.own_table import is_several, job_of

    job = job_of(ctx)
    if is_several(table) or any(option is not None for option in (memory, scheduler, work)):
        from undertow.cli.fit_out_of_core import fit_out_of_core

        fit_out_of_core(job, memory or "2GB", scheduler, work, save, report)
    else:
        _fit_in_memory(job, save, report)


def _fit_in_memory(job: Job, save: Path | None, report: Path | None) -> None:
    from undertow.cli.fit_link import LINEAR, LINES, check_rule, fitted_link, offers_link, print_link
    from undertow.cli.fit_model import fit_estimator, stable_rates, unfitted
    from undertow.cli.fit_output import FILES, measure, print_results, write_results, write_rule
    from undertow.cli.output import height, say
    from undertow.cli.own_table import read_own_table, what_was_read
    from undertow.cli.saved_model import save_fitted

    raw, rule = read_own_table(job), job.settings["rule"]
    check_rule(rule, raw)
    estimator = unfitted(raw, job.settings)
    job.claim()
    read = what_was_read(job.name, raw, job.settings["n_support"])
    say(*read)
    fit_estimator(estimator, raw)
    read.append(measure(job, raw.n_tasks, estimator.n_clipped_))
    say(read[-1])
    limits = stable_rates(raw, estimator)
    others = height(read) + FILES + (LINES if offers_link(raw) else 0)
    print_results(raw.target, estimator, limits, raw.task_noun, others)
    print_link(job, raw, estimator)
    files = write_results(job, raw, estimator, limits)
    saved = estimator if rule == LINEAR else fitted_link(job, raw)
    if rule != LINEAR:
        files += f"; {write_rule(job, saved)}"
    if save is not None:
        save_fitted(saved, save, raw, job.settings["anonymous"])
        files += f"; model {save}"
    if report is not None:
        from undertow.report import write_fit_report

        write_fit_report(report, job.name, raw, estimator, limits, job.command, job.settings)
        files += f"; report {report}"
    say(f"files: {files}")
