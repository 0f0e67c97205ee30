"""``undertow reproduce``: run experiments into folders, go on where a run was stopped, draw again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
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
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Experiments at the same time.", show_default="one for each core")
    ] = None,
) -> None:
    """Run the experiments and compare them with theory.

    Finished parts are stored at once: after Ctrl-C the same command goes on from there.
    """
    from undertow import experiments
    from undertow._check import InputError
    from undertow.cli.output import check_folder

    if redraw and (overwrite or seed is not None):
        raise InputError(None, rule="--redraw computes nothing.", way_out="Leave --overwrite and --seed out.")
    # All names are looked up before the first one runs.
    every = [experiments.get(name) for name in dict.fromkeys(names or experiments.names())]
    records = [record for record in every if names or redraw or not record.by_name]
    if images is not None and not images.exists():
        raise InputError(None, rule=f"--images {images} does not exist.", way_out="Give a folder or an .npz file.")
    with_images = [record.name for record in records if "images" in record.Config.model_fields]
    if images is not None and not with_images:
        raise InputError("images", images, "only omniglot reads images.", "Leave it out.")
    if not redraw:
        check_folder(out)
    shown: list[tuple[Experiment, Result]] = []
    todo: list[tuple[Experiment, ExperimentConfig]] = []
    skipped: list[str] = []
    for record in records:
        folder = experiments.folder_of(record.name, out, quick)
        if redraw:
            if names or folder.exists():
                shown.append((record, experiments.redraw(folder)))
                _show(*shown[-1])
            continue
        settings: dict[str, Any] = {} if seed is None else {"seed": seed}
        if images is not None and record.name in with_images:
            settings["images"] = str(images.resolve())
        config = record.config(quick, **settings)
        if not names and (reason := _skipped(record, config)):
            skipped.append(f"{record.name}: skipped, {reason}")
            continue
        if not record.runs_by_itself(config):
            raise InputError(
                None, rule=f"{record.name} needs data that the package does not ship.", way_out="Give --images PATH."
            )
        todo.append((record, config))
    with closing(_results(todo, out, quick, overwrite, jobs)) as results:  # so that no process outlives a Ctrl-C here
        for record, result in results:
            shown.append((record, result))
            _show(record, result)
    for line in skipped:
        typer.echo(line)
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


def _results(
    todo: Sequence[tuple[Experiment, ExperimentConfig]], out: Path, quick: bool, overwrite: bool, jobs: int | None
) -> Generator[tuple[Experiment, Result]]:
    """Run experiments, several at the same time, and yield each with its result, in their order."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from undertow import experiments
    from undertow.cli.output import console
    from undertow.cli.processes import n_processes, side_by_side

    to, n = console(stderr=True), n_processes(jobs, len(todo))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    calls = [
        partial(experiments.reproduce, record.name, out, quick=quick, config=config, overwrite=overwrite)
        for record, config in todo
    ]
    # Piped output gets no bar: its control characters would be noise in a file.
    bar = Progress(
        *columns, console=to, transient=True, disable=not to.is_terminal, redirect_stdout=False, redirect_stderr=False
    )
    task = bar.add_task("experiments" if n > 1 else "", total=len(todo) if n > 1 else None)

    def one_by_one() -> Generator[Result]:
        for (record, _), call in zip(todo, calls, strict=True):
            bar.reset(task, description=record.name)
            yield call(progress=lambda done, total: bar.update(task, completed=done, total=total))

    try:
        with closing(side_by_side(calls, n) if n > 1 else one_by_one()) as results:
            for record, _ in todo:
                with bar:
                    result = next(results)
                if n > 1:
                    bar.advance(task)
                yield record, result
    except KeyboardInterrupt:
        folders = [experiments.folder_of(record.name, out, quick) for record, _ in todo]
        kept = [experiments.cells_kept(*one, folder) for one, folder in zip(todo, folders, strict=True)]
        done, total = (sum(counts) for counts in zip(*kept, strict=True))
        what, where = (todo[0][0].name, folders[0]) if len(todo) == 1 else (f"{len(todo)} experiments", out)
        typer.echo(
            f"Interrupted: {done} of {total} parts of {what} are kept in {where}. "
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
