"""``undertow path``: the choice of both rates on one's own grouped table, and what it is worth on held-out tasks."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from undertow.estimators import MAMLRegressorCV
    from undertow.tasks import GroupedTable


def path(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A .csv or .parquet file, or a data set's name.")],
    task: Annotated[str | None, typer.Option(metavar="COL", help="Column that says which task a row is of.")] = None,
    target: Annotated[str | None, typer.Option(metavar="COL", help="Column to predict.")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns to use; none means all others.")
    ] = None,
    n_support: Annotated[int, typer.Option(min=1, help="Rows of a task that the step may use.")] = 5,
    folds: Annotated[int, typer.Option(min=2, help="Folds of tasks.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of support and query rows for each task.")] = 5,
    clip: Annotated[float, typer.Option(help="Largest standardised value of a feature; inf for no limit.")] = 4.0,
    intercept: Annotated[bool, typer.Option("--intercept/--no-intercept", help="Add a constant feature.")] = True,
    categories: Annotated[str, typer.Option(help="Text among the features: raise, or onehot.")] = "raise",
    on_small: Annotated[
        str | None,
        typer.Option(help="Tasks with too few rows: raise, or drop.", show_default="raise; drop for our data sets"),
    ] = None,
    on_constant: Annotated[str, typer.Option(help="Features with one value only: raise, drop or keep.")] = "raise",
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for figure and tables.", show_default="NAME-path")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the fitted model: a .safetensors file, for predict.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an .html report; needs the extra 'report'.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of other settings, and files of --save and --report.")
    ] = False,
) -> None:
    """Choose both rates on a grouped table, and say on held-out tasks whether the choice matters.

    A task is a group of rows: the pupils of a school, the visits of a patient. Features and target are standardised.
    """
    from undertow._check import InputError
    from undertow.choice import compare_rates
    from undertow.cli.command_line import command_line
    from undertow.cli.output import check_folder
    from undertow.cli.own_table import (
        files_elsewhere,
        on_small_of,
        progress_bar,
        read_own_table,
        refuse_other_results,
        source_of,
    )
    from undertow.cli.path_output import print_results, print_table, write_results
    from undertow.cli.saved_model import Columns, levels_of, save_model
    from undertow.cli.wording import in_options

    name, source = source_of(table, task, target)
    on_small = on_small_of(on_small, source)
    limit = None if clip == math.inf else clip
    chosen = None if features is None else [part.strip() for part in features.split(",")]
    settings = {
        "table": table,
        "task": task,
        "target": target,
        "features": chosen,
        "n_support": n_support,
        "folds": folds,
        "draws": draws,
        "clip": limit,
        "intercept": intercept,
        "categories": categories,
        "on_small": on_small,
        "on_constant": on_constant,
        "seed": seed,
    }
    folder = Path(f"{name}-path") if out is None else out
    refuse_other_results(folder, settings, overwrite)
    check_folder(folder)
    elsewhere = files_elsewhere(folder, save, report, overwrite, settings)
    if save is not None and not intercept:
        raise InputError(
            "--save needs an intercept: leave --no-intercept out. A saved model reads raw, uncentred rows."
        )
    if report is not None:
        from undertow.report.extra import require

        require()
    with in_options(n_support):
        raw = read_own_table(source, settings)
        data, scaling = raw.standardized(limit, target=True)
        data = data.with_intercept() if intercept else data
        limits = _stability_limits(data, n_support, seed)
        print_table(name, raw, scaling, limits, n_support, folds)
        with progress_bar("paths") as progress:
            comparison = compare_rates(data, n_support, n_folds=folds, n_draws=draws, seed=seed, progress=progress)
        estimator = _fit(raw if intercept else data, intercept, limit, n_support, folds, draws, seed)
    choice = estimator.choice_
    assert choice is not None  # two tasks or more, each with rows to spare
    print_results(comparison, choice)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, name, settings, raw, data, scaling, comparison, choice, limits, elsewhere)
    typer.echo(f"files: {folder}/figure.png, figure.svg, path.parquet, held_out.parquet, weights.parquet, summary.json")
    if save is not None:
        known = levels_of(source, _feature_columns(source, raw, chosen), raw.rows) if categories == "onehot" else ()
        save_model(estimator, save, Columns(raw.task, raw.target, *known))
        typer.echo(f"model: {save} ({choice.strategy}, fitted to all {raw.n_tasks} tasks)")
    if report is not None:
        from undertow.report import write_path_report

        write_path_report(
            report,
            name=name,
            raw=raw,
            scaling=scaling,
            comparison=comparison,
            estimator=estimator,
            stability=limits,
            command=command_line(ctx),
            settings=settings,
        )
        typer.echo(f"report: {report}")


def _stability_limits(data: GroupedTable, n_support: int, seed: int) -> np.ndarray:
    """Rate (m,) up to which a step shrinks the error on a task's support rows, of the first draw of these."""
    import numpy as np

    from undertow.linear import stability_limit

    limits = np.empty(data.n_tasks)
    for batch in data.draw_buckets(n_support, np.random.SeedSequence(seed, spawn_key=(0,))):
        limits[np.searchsorted(data.ids, batch.ids)] = stability_limit(batch)
    return limits


def _fit(
    table: GroupedTable, intercept: bool, clip: float | None, n_support: int, folds: int, draws: int, seed: int
) -> MAMLRegressorCV:
    """The estimator on the same rows and settings: on raw rows, or without intercept on standardised ones."""
    import numpy as np

    from undertow.cli.output import console
    from undertow.estimators import MAMLRegressorCV

    # Without an intercept an estimator would not centre, and would be fitted to another problem than the comparison.
    estimator = MAMLRegressorCV(
        n_support,
        folds,
        n_draws=draws,
        standardize=intercept,
        clip=clip if intercept else None,
        fit_intercept=intercept,
        on_small="raise",
        random_state=seed,
    )
    to = console(stderr=True)
    with warnings.catch_warnings(record=True) as said, to.status("fitting the estimator"):
        warnings.simplefilter("always")
        # In the rows' own order: draws go by their numbers, and so are those of the comparison where none is left out.
        order = np.argsort(table.rows)
        estimator.fit(table.x[order], table.y[order], groups=table.groups[order])
    for text in dict.fromkeys(str(one.message) for one in said):
        typer.echo(f"Warning: {text}", err=True)
    # As after a fit to a data frame.
    setattr(estimator, "feature_names_in_", np.array(table.feature_names, dtype=object))  # noqa: B010
    return estimator


def _feature_columns(source: Any, raw: GroupedTable, chosen: list[str] | None) -> list[str]:
    """Columns of the source that the features were made of."""
    from undertow.tasks.source import open_source

    if chosen is None:
        chosen = getattr(source, "features", None)
    return open_source(source).others(raw.task, raw.target) if chosen is None else list(chosen)
