"""``undertow compare``: ways to predict new tasks of one's own grouped table, measured on held-out tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from undertow.comparison import Comparison


def compare(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A .csv or .parquet file, or a data set's name.")],
    task: Annotated[str | None, typer.Option(metavar="COL", help="Column that says which task a row is of.")] = None,
    target: Annotated[str | None, typer.Option(metavar="COL", help="Column to predict.")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns to use; none means all others.")
    ] = None,
    n_support: Annotated[int, typer.Option(min=1, help="Rows that a new task brings.")] = 5,
    folds: Annotated[int, typer.Option(min=2, help="Folds of tasks.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of support rows of each held-out task.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Times that folds are drawn anew.")] = 1,
    rivals: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Rivals; none means all. See docs/compare.md.")
    ] = None,
    clip: Annotated[float, typer.Option(help="Largest standardised value of a feature; inf for no limit.")] = 4.0,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a rival may take for a fold; inf for no limit.")
    ] = 120.0,
    categories: Annotated[str, typer.Option(help="Text among the features: raise, or onehot.")] = "raise",
    on_small: Annotated[
        str | None,
        typer.Option(help="Tasks with too few rows: raise, or drop.", show_default="raise; drop for our data sets"),
    ] = None,
    on_constant: Annotated[str, typer.Option(help="Features with one value only: raise, drop or keep.")] = "raise",
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for figure and tables.", show_default="NAME-compare")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an .html report; needs the extra 'report'.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of other settings, and the file of --report.")
    ] = False,
) -> None:
    """Compare MAML, ridge regressions and mixed models on tasks of a grouped table that none of them has seen.

    Finished fits are kept in the folder: after an interruption the same command goes on where it was.
    """
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
    from undertow.cli.wording import in_options
    from undertow.comparison import compare as compare_rivals
    from undertow.comparison.registry import chosen

    name, source = source_of(table, task, target)
    on_small = on_small_of(on_small, source)
    with in_options(n_support):
        asked = [rival.name for rival in chosen(None if rivals is None else [r.strip() for r in rivals.split(",")])]
    columns = None if features is None else [part.strip() for part in features.split(",")]
    limit = None if clip == math.inf else clip
    settings = {
        "table": table,
        "task": task,
        "target": target,
        "features": columns,
        "n_support": n_support,
        "folds": folds,
        "draws": draws,
        "repeats": repeats,
        "rivals": asked,
        "clip": limit,
        "level": level,
        "categories": categories,
        "on_small": on_small,
        "on_constant": on_constant,
        "seed": seed,
    }
    folder = Path(f"{name}-compare") if out is None else out
    refuse_other_results(folder, settings, overwrite)
    check_folder(folder)
    elsewhere = files_elsewhere(folder, None, report, overwrite, settings)
    if report is not None:
        from undertow.report import require

        require()
    with in_options(n_support):
        raw = read_own_table(source, settings)
        _print_table(name, raw, settings)
        cells = folder / "cells.jsonl"
        with progress_bar("fits") as progress, _what_is_kept(cells):

            def tick(done: int, total: int) -> None:
                if done == 0 and _settings_in(folder) != settings:
                    # So that the folder is known again after an interruption.
                    _write_summary(folder, {"settings": settings, "finished": False})
                progress(done, total)

            comparison = compare_rivals(
                raw,
                n_support,
                n_folds=folds,
                n_draws=draws,
                n_repeats=repeats,
                rivals=asked,
                clip=limit,
                level=level,
                seed=seed,
                time_limit=None if time_limit == math.inf else time_limit,
                cells=cells,
                progress=tick,
            )
    _print_results(comparison)
    _write(folder, name, settings, comparison, elsewhere)
    typer.echo(f"files: {folder}/figure.png, figure.svg, comparison.parquet, held_out.parquet, summary.json")
    if report is not None:
        from undertow.report import write_compare_report

        _, scaling = raw.standardized(limit, target=True)
        write_compare_report(
            report,
            comparison,
            name=name,
            raw=raw,
            scaling=scaling,
            command=command_line(ctx),
            settings=settings,
        )
        typer.echo(f"report: {report}")


class _what_is_kept:
    """Say after Ctrl-C where the finished fits are."""

    def __init__(self, cells: Path) -> None:
        self._cells = cells

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._cells.is_file():
            typer.echo(f"Finished fits are kept in {self._cells}: the same command goes on from them.", err=True)


def _print_table(name: str, raw: Any, settings: dict[str, Any]) -> None:
    from undertow.cli.output import say
    from undertow.cli.own_table import say_what_was_read

    say_what_was_read(name, raw, settings["n_support"])
    repeats = "" if settings["repeats"] == 1 else f", {settings['repeats']} times"
    say(
        f"each task held out once in {settings['folds']} folds{repeats}; it brings {settings['n_support']} rows and is "
        f"measured on the others ({settings['draws']} draws)"
    )


def _print_results(comparison: Comparison) -> None:
    from undertow.cli.output import console, show_table

    to = console(soft_wrap=True)
    rows = []
    for row in comparison.table():
        if row["loss"] is None:
            continue
        gap = ("", "")
        if row["difference"] is not None:
            gap = (f"{row['difference']:+.4f}", f"{row['low']:+.4f} to {row['high']:+.4f}")
        rows.append((row["label"], f"{row['loss']:.4f}", f"{row['standard_error']:.4f}", *gap, _short(row)))
    base = comparison.label(comparison.base)
    titles = (
        "on held-out tasks",
        "MSE/variance",
        "s.e.",
        "difference",
        f"{100 * comparison.level:g} % interval",
        "seconds of a fit",
    )
    show_table(to, titles, rows)
    to.print(f"differences are from {base}; lower is better")
    for name in comparison.names:
        if comparison.notes[name]:
            to.print(f"{comparison.label(name)}: {comparison.notes[name]}")
    to.print(comparison.verdict)


def _short(row: dict[str, Any]) -> str:
    return f"{row['fit_seconds']:.2g}" if row["fit_seconds"] < 99.5 else f"{row['fit_seconds']:.0f}"


def _write(
    folder: Path, name: str, settings: dict[str, Any], comparison: Comparison, elsewhere: dict[str, str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from undertow.plots import style
    from undertow.plots.comparison import ComparisonDisplay

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(comparison.table()), folder / "comparison.parquet")
    losses = {f"mse_over_variance_{rival}": comparison.losses(rival) for rival in comparison.measured}
    held_out = {"task": comparison.task_ids, "query_rows": comparison.task_rows} | losses
    pq.write_table(pa.table(held_out), folder / "held_out.parquet")
    with style.context():
        made = ComparisonDisplay.from_comparison(comparison).plot().figure_
        made.suptitle(f"{name}: {len(comparison.task_ids)} held-out tasks", x=0.01, ha="left", fontsize=10.5)
        for suffix in ("png", "svg"):
            made.savefig(folder / f"figure.{suffix}", metadata={"Date": None} if suffix == "svg" else None)
    limits = {"time_limit": comparison.settings["time_limit"], "files_elsewhere": elsewhere}
    results = {key: value for key, value in comparison.to_dict().items() if key != "settings"}
    results["target_variance"] = comparison.settings["target_variance"]
    _write_summary(folder, {"settings": settings, "finished": True} | limits | results)


def _settings_in(folder: Path) -> Any:
    try:
        return json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("settings")
    except (OSError, ValueError, AttributeError):
        return None


def _write_summary(folder: Path, values: dict[str, Any]) -> None:
    from undertow._version import __version__

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"undertow": __version__} | values, indent=2, allow_nan=False) + "\n"
    # Whole or not at all: an end while writing must not leave a folder that nobody knows.
    (folder / "summary.json.part").write_text(text, encoding="utf-8")
    (folder / "summary.json.part").replace(folder / "summary.json")
