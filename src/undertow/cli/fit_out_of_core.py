"""``undertow fit`` on a folder or glob of files of any size, or on a file whose rows are to stay out of memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import typer

from undertow._check import InputError
from undertow._memory import said
from undertow.cli.fit_model import estimator_of, stable_rates
from undertow.cli.fit_output import FILES, measure, print_results, write_results
from undertow.cli.output import console, count, height, say
from undertow.cli.own_table import Job, sizes_of
from undertow.cli.saved_model import Columns, save_model
from undertow.estimators.parameters import check_shared


def fit_out_of_core(
    job: Job, memory: str, scheduler: str | None, work: Path | None, save: Path | None, report: Path | None
) -> None:
    """Sort, fit, print and write as for a table in memory; the report, which shows every task, is left to that."""
    _refuse_what_needs_memory(job, report)
    from undertow.scale.source import require

    require()
    from undertow.scale.fitting import fit_sorted, work_folder
    from undertow.scale.job import Run
    from undertow.scale.memory import Ceiling
    from undertow.scale.sorted_table import sort

    settings, ceiling = job.settings, Ceiling.of(memory)
    estimator = estimator_of(settings, settings["on_small"])
    check_shared(estimator)
    job.claim()
    with work_folder(work) as place, _workers(scheduler) as executor:
        with console(stderr=True).status("sorting by task"):
            table = sort(
                job.source,
                settings["task"],
                settings["target"],
                settings["features"],
                folder=place,
                memory=memory,
                categories=settings["categories"],
                max_levels=settings["max_levels"],
            )
        size = said(table.file.stat().st_size)
        typer.echo(f"sorted by task into {place} ({size}); memory up to {said(ceiling.total)}", err=True)
        kept = None if work is None else place / "sums"
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            fit_sorted(estimator, table, Run(ceiling, executor, kept), settings["on_constant"])
        if estimator.choice_ is None or estimator.held_out_ is None:
            rule = f"The table has {count(table.n_tasks, 'task')}, and a choice of strategies needs 3 with enough rows."
            raise InputError(None, rule=rule, way_out="Use a table of more tasks, or fewer support rows.")
        tested = table.grouped(np.searchsorted(table.ids, estimator.held_out_.task_ids), ceiling.fragment)
    small = int((table.counts <= estimator.n_support).sum())
    read = [sizes_of(job.name, table), measure(job, table.n_tasks, estimator.n_clipped_)]
    say(*read)
    for text in dict.fromkeys(str(one.message) for one in notes):
        typer.echo(f"Warning: {text}", err=True)
    limits = stable_rates(tested, estimator)
    print_results(table.target, estimator, limits, table.task, height(read) + FILES)
    files = write_results(job, tested, estimator, limits, n_left_out=small)
    if save is not None:
        save_model(estimator, save, Columns(table.task, table.target, table.levels, {}))
        files += f"; model {save}"
    say(f"files: {files}")


def _refuse_what_needs_memory(job: Job, report: Path | None) -> None:
    """Raise InputError for what only tables in memory are read by, or written into."""
    settings = job.settings
    if report is not None:
        raise InputError("report", report, "it shows every task, and needs a table in memory.", "Leave it out.")
    if settings["anonymous"]:
        way_out = "Give one file that fits in memory, or save from Python with anonymous=True."
        raise InputError("anonymous", True, "rows that are sorted out of core keep the ids of their tasks.", way_out)
    if getattr(job.source, "table", None) is not None:
        raise InputError("table", job.name, "this data set comes with the package and fits in memory.", "Give files.")
    usual: dict[str, Any] = {
        "formula": None,
        "categorical": [],
        "random_slopes": None,
        "on_missing": "refuse",
        "sep": None,
        "decimal": None,
        "order": None,
        "task_order": None,
        "weights": None,
        "rule": "linear",
    }
    if settings["target_kind"] != "number":
        usual["target_kind"] = "auto"
    usual["random_intercept"] = "none" if settings["random_intercept"] == "none" else "outer"
    for name, value in usual.items():
        if settings[name] != value:
            rule = "it is for tables in memory, and this one is read out of core."
            raise InputError(name, settings[name], rule, "Prepare the files so, or give one file that fits in memory.")


@contextmanager
def _workers(scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        yield None
        return
    if find_spec("distributed") is None:
        way_out = 'Install them with: pip install "undertow[scale]"'
        raise InputError("scheduler", scheduler, "it needs the packages of the extra [scale].", way_out)
    from distributed import Client

    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        way_out = "Give the address that 'dask scheduler' prints, such as tcp://127.0.0.1:8786."
        raise InputError("scheduler", scheduler, f"no scheduler answers there ({error}).", way_out) from error
    with client:
        yield client.get_executor()
