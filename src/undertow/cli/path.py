"""``undertow path``: the choice of both rates on one's own grouped table, and what it is worth on held-out tasks."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from undertow.linear import RateComparison
    from undertow.tasks import GroupedTable
    from undertow.tasks.scaling import Scaling


def path(
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other settings there.")] = False,
) -> None:
    """Choose both rates on a grouped table, and say on held-out tasks whether the choice matters.

    A task is a group of rows: the pupils of a school, the visits of a patient. Features and target are standardised.
    """
    from undertow import _check
    from undertow.cli.output import check_folder
    from undertow.cli.wording import in_options
    from undertow.linear import compare_rates
    from undertow.tasks import read_table

    name, source = _source(table, task, target)
    if on_small is None:
        # The rows of a data set of ours are known; of a table of the user's no task leaves unasked.
        on_small = "raise" if isinstance(source, Path) else "drop"
    _check.one_of(on_small, "--on-small", ("raise", "drop"))
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
    _refuse_other_results(folder, settings, overwrite)
    check_folder(folder)
    with in_options(n_support), _bar() as progress:
        raw = read_table(
            source,
            task,
            target,
            chosen,
            categories=categories,
            on_constant=on_constant,
            min_rows=n_support + 1,
            on_small=on_small,
        )
        _refuse_constant_target(raw)
        data, scaling = raw.standardized(limit, target=True)
        data = data.with_intercept() if intercept else data
        comparison = compare_rates(data, n_support, n_folds=folds, n_draws=draws, seed=seed, progress=progress)
    _print(name, raw, scaling, comparison, n_support, folds)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, name, settings, raw, data, scaling, comparison)
    typer.echo(f"files: {folder}/figure.png, figure.svg, path.parquet, held_out.parquet, weights.parquet, summary.json")


def _source(table: str, task: str | None, target: str | None) -> tuple[str, Any]:
    """A short name, and what to read: a file, or a data set of ours where no file of that name is there."""
    from undertow import datasets
    from undertow._check import InputError

    place = Path(table)
    if not place.is_file() and table in datasets.names():
        return table, datasets.load(table)
    if place.is_dir():
        raise InputError(f"{table!r} is a directory: give one file.")
    if not place.exists() and not place.suffix:
        raise InputError(
            f"{table!r} is neither a file nor a data set: give a .csv or .parquet file, or one of "
            f"{', '.join(datasets.names())}."
        )
    if not place.exists():
        raise InputError(f"{table!r}: there is no such file. The working directory is {str(Path.cwd())!r}.")
    missing = [option for option, value in (("--task", task), ("--target", target)) if value is None]
    if missing:
        raise InputError(f"{table} is a file: say with {' and '.join(missing)} COL which column it is.")
    stem = re.sub(r"(\.csv|\.tsv|\.parquet)?(\.gz)?$", "", place.name)
    return re.sub(r"[^\w.-]+", "_", stem) or "table", place


def _refuse_other_results(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Nothing that the user had is lost: raise where the folder holds something else than these results."""
    from undertow._check import InputError

    if overwrite or not folder.exists() or not any(folder.iterdir()):
        return
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["settings"]
        if not isinstance(before, dict):
            raise TypeError
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        raise InputError(f"{folder} is not empty and holds no results of this command: choose another --out.") from None
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        raise InputError(
            f"{folder} holds results of other settings (other {', '.join(other)}): choose another --out, "
            "or give --overwrite."
        )


def _refuse_constant_target(raw: GroupedTable) -> None:
    from undertow._check import InputError

    if raw.y.min() == raw.y.max():
        raise InputError(
            f"target {raw.target!r} is {raw.y[0]:g} in all {raw.n_rows} rows: there is nothing to predict."
        )


def _bar() -> Any:
    """A context that gives a progress callback; silent where the output is no terminal."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from undertow.cli.output import console

    @contextmanager
    def shown() -> Any:
        to = console(stderr=True)
        columns = (TextColumn("paths"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
            row = bar.add_task("paths", total=None)
            yield lambda done, total: bar.update(row, completed=done, total=total)

    return shown()


def _print(
    name: str, raw: GroupedTable, scaling: Scaling, comparison: RateComparison, n_support: int, folds: int
) -> None:
    from undertow.cli.output import console, show_table
    from undertow.linear.select import STRATEGIES

    to = console(soft_wrap=True)
    counts = raw.counts
    to.print(
        f"{name}: {raw.n_tasks} tasks ({raw.task}) of {counts.min()} to {counts.max()} rows, {raw.n_rows} rows, "
        f"{raw.n_features} features, target {raw.target}"
    )
    if raw.n_left_out:
        to.print(
            f"left out: {raw.n_left_out} of {raw.n_left_out + raw.n_tasks} tasks, which have fewer than "
            f"{n_support + 1} rows"
        )
    clipped = "not clipped" if scaling.clip is None else f"{scaling.n_clipped} values clipped at {scaling.clip:g}"
    to.print(f"features and target standardised ({clipped}); {n_support} support rows, {folds} folds of tasks")
    rates, held_out = [], []
    base = comparison.mean_loss("step")[0] / 100
    for strategy, words in STRATEGIES.items():
        one = comparison.picks[strategy]
        pairs = [(rate, unit) for rate in (one.train_rate, one.adapt_rate) for unit in (1.0, comparison.scale)]
        rates.append((words, *(_rate(rate, unit) for rate, unit in pairs), f"{one.ridge:g}"))
        loss, error = comparison.mean_loss(strategy)
        gap, gap_error = comparison.difference(strategy, "step")
        against = ("", "") if strategy == "step" else (f"{gap / base:+.2f} %", f"{gap_error / base:.2f} %")
        held_out.append((words, f"{2 * loss:.4f}", f"{2 * error:.4f}", *against))
    show_table(to, ("chosen on all tasks", "train rate", "spectral", "adapt rate", "spectral", "ridge"), rates)
    show_table(to, ("on held-out tasks", "MSE/variance", "s.e.", "from no inner loop", "s.e."), held_out)
    picks = sorted(one.train_rate / comparison.scale for one in comparison.fold_picks["signed"])
    to.print(
        f"signed train rate chosen without each fold: {_rate(picks[0], 1.0)} to {_rate(picks[-1], 1.0)} (spectral); "
        f"spectral unit 1 / largest eigenvalue = {comparison.scale:.4g}"
    )
    to.print(comparison.verdict)


def _rate(rate: float, unit: float) -> str:
    return "infinity" if math.isinf(rate) else "0" if rate == 0 else f"{rate / unit:+.3g}"


def _write(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    raw: GroupedTable,
    data: GroupedTable,
    scaling: Scaling,
    comparison: RateComparison,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from undertow._version import __version__
    from undertow.linear.select import STRATEGIES
    from undertow.plots import comparison_figure, style

    surface, scale = comparison.surface, comparison.scale
    variance = scaling.target_scale**2
    pq.write_table(
        pa.table(
            {
                "train_rate": surface.train_rates,
                "train_rate_spectral": surface.train_rates / scale,
                "best_adapt_rate": comparison.curve_adapt_rates,
                "best_adapt_rate_spectral": comparison.curve_adapt_rates / scale,
                "cv_mse_over_variance": 2 * comparison.curve,
                "standard_error_of_difference_from_0": 2 * comparison.curve_errors,
            }
        ),
        folder / "path.parquet",
    )
    tasks = {"task": comparison.task_ids, "query_rows": comparison.task_rows}
    losses = {f"mse_over_variance_{s}": 2 * comparison.task_losses[:, i] for i, s in enumerate(STRATEGIES)}
    pq.write_table(pa.table(tasks | losses), folder / "held_out.parquet")
    pq.write_table(
        pa.table({"feature": list(data.feature_names)} | {name: comparison.weights[name] for name in STRATEGIES}),
        folder / "weights.parquet",
    )
    summary = {
        "undertow": __version__,
        "settings": settings,
        "spectral_unit": scale,
        "target_variance": variance,
        "values_clipped": scaling.n_clipped,
        "tasks_left_out": raw.n_left_out,
        "verdict": comparison.verdict,
        "strategies": {
            s: {
                "train_rate": _json(one.train_rate),
                "adapt_rate": one.adapt_rate,
                "ridge": one.ridge,
                "held_out_mse": 2 * comparison.mean_loss(s)[0] * variance,
                "held_out_mse_over_variance": 2 * comparison.mean_loss(s)[0],
                "standard_error": 2 * comparison.mean_loss(s)[1],
                "difference_from_no_inner_loop": 2 * comparison.difference(s, "step")[0],
                "standard_error_of_difference": 2 * comparison.difference(s, "step")[1],
                "train_rate_without_each_fold": [_json(p.train_rate) for p in comparison.fold_picks[s]],
            }
            for s, one in comparison.picks.items()
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with style.context():
        made = comparison_figure(comparison, f"{name}: {comparison.verdict}")
        for suffix in ("png", "svg"):
            made.savefig(folder / f"figure.{suffix}", metadata={"Date": None} if suffix == "svg" else None)


def _json(rate: float) -> float | str:
    return "infinity" if math.isinf(rate) else rate
