"""``undertow reproduce``: run experiments into folders, go on where a run was stopped, draw again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.errors import INTERRUPTED

if TYPE_CHECKING:
    from undertow.experiments import Experiment, ExperimentConfig, Result


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Experiments; none means those of the paper.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer runs and points, into OUT/NAME-quick.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results; each experiment has its own in it.")] = Path(
        "undertow-results"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results and start anew.")] = False,
    redraw: Annotated[bool, typer.Option("--redraw", help="Only draw again from what is stored.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all draws.", show_default="0")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Labelled images for omniglot: a folder with one folder a class, or an .npz.")
    ] = None,
) -> None:
    """Run the experiments and compare them with theory.

    Finished parts are stored at once: after Ctrl-C the same command goes on from there.
    """
    from undertow import experiments
    from undertow._check import InputError

    if redraw and (overwrite or seed is not None):
        raise InputError(None, rule="--redraw computes nothing.", way_out="Leave --overwrite and --seed out.")
    # All names are looked up before the first one runs.
    every = [experiments.get(name) for name in dict.fromkeys(names or experiments.names())]
    records = [record for record in every if names or redraw or not record.by_name]
    if images is not None and not images.exists():
        raise InputError(None, rule=f"--images {images} does not exist.", way_out="Give a folder or an .npz file.")
    shown: list[tuple[Experiment, Result]] = []
    for record in records:
        folder = experiments.folder_of(record.name, out, quick)
        if redraw:
            if names or folder.exists():
                shown.append((record, experiments.redraw(folder)))
                _show(*shown[-1])
            continue
        settings: dict[str, Any] = {} if seed is None else {"seed": seed}
        if images is not None and "images" in record.Config.model_fields:
            settings["images"] = str(images.resolve())
        config = record.config(quick, **settings)
        if not names and (reason := _skipped(record, config)):
            typer.echo(f"{record.name}: skipped, {reason}")
            continue
        if not record.runs_by_itself(config):
            raise InputError(
                None, rule=f"{record.name} needs data that the package does not ship.", way_out="Give --images PATH."
            )
        shown.append((record, _run(record, config, out, quick, overwrite)))
        _show(*shown[-1])
    if redraw and not shown:
        raise InputError(None, rule=f"{out} holds no results to draw.", way_out="Run first, without --redraw.")
    if len(shown) > 1:
        _summarise(shown)
    if shown:
        typer.echo("All details: verdict.txt, finding.json and table.parquet beside each figure.")


def _skipped(record: Experiment, config: ExperimentConfig) -> str | None:
    """Why an experiment that was not asked for by name is left out, or None."""
    if not record.runs_by_itself(config):
        return "its data do not come with the package: give --images PATH"
    return record.missing()


def _run(record: Experiment, config: ExperimentConfig, out: Path, quick: bool, overwrite: bool) -> Result:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from undertow import experiments
    from undertow.cli.output import console

    to = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        # Piped output gets no bar: its control characters would be noise in a file.
        with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
            task = bar.add_task(record.name, total=None)
            return experiments.reproduce(
                record.name,
                out,
                quick=quick,
                config=config,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        folder = experiments.folder_of(record.name, out, quick)
        done, total = experiments.cells_kept(record, config, folder)
        typer.echo(
            f"Interrupted: {done} of {total} parts of {record.name} are kept in {folder}. "
            f"The same command{' without --overwrite' if overwrite else ''} goes on from there.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _show(record: Experiment, result: Result) -> None:
    state = ""
    if result.was_complete:
        state = ", from the stored runs"
    elif result.kept:
        state = f", {result.kept} of {result.kept + result.computed} parts kept from before"
    typer.echo(f"{record.name}: {record.claim}")
    for line in result.finding.lines:
        typer.echo(f"  {line}")
    typer.echo(f"  {result.finding.result}{state}; figure: {result.figure}")


def _summarise(shown: list[tuple[Experiment, Result]]) -> None:
    """Print one row for each experiment."""
    from undertow.trials.finding import stated

    rows = [("experiment", "claim", "statistic", "95 % interval", "result")]
    for record, result in shown:
        found = result.finding
        value, ends = stated(found.estimate, found.low, found.high, found.unit)
        rows.append((record.name, record.short, f"{found.statistic} {value}", ends, found.result))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
