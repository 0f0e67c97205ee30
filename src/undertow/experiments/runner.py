"""Run an experiment into a folder, cell by cell: what is finished stays, and the next call goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from undertow._check import InputError
from undertow.experiments.experiment import Experiment
from undertow.experiments.registry import get
from undertow.plots import style
from undertow.trials.config import ExperimentConfig
from undertow.trials.finding import Finding
from undertow.trials.store import FIGURES, Folder

Progress = Callable[[int, int], None]
"""Called with (cells finished, cells in all) before the first cell and after each."""


@dataclass(frozen=True)
class Result:
    """What a call of ``reproduce`` or ``redraw`` left behind.

    Parameters
    ----------
    folder
        where the files are.
    table
        one row for each point.
    finding
        the decisive number and what follows from it.
    verdict
        claim, finding and details, lines of text.
    computed, kept
        cells that this call computed, and found finished.
    was_complete
        True where there was nothing to compute.

    Examples
    --------
    >>> import tempfile
    >>> from undertow import experiments
    >>> small = experiments.get("overparameterized").config(quick=True, adapt_runs=25, train_runs=25)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = experiments.reproduce("overparameterized", folder, config=small)
    >>> result.figure.name, result.computed, result.was_complete
    ('figure.png', 2, False)
    """

    folder: Path
    table: pa.Table
    finding: Finding
    verdict: list[str]
    computed: int
    kept: int
    was_complete: bool

    @property
    def figure(self) -> Path:
        """The figure's file."""
        return self.folder / FIGURES[0]


def folder_of(name: str, out: Path | str, quick: bool) -> Path:
    """Return where results live: out/name, or out/name-quick, so that a quick run never mixes with a full one.

    Parameters
    ----------
    name
        name of the experiment.
    out
        folder of all results.
    quick
        whether it is a quick run.

    Examples
    --------
    >>> from undertow import experiments
    >>> experiments.folder_of("threshold", "results", quick=True).name
    'threshold-quick'
    """
    return Path(out) / (f"{name}-quick" if quick else name)


def cells_kept(experiment: Experiment, config: ExperimentConfig, folder: Path | str) -> tuple[int, int]:
    """Return how many of the experiment's cells are stored in the folder, and how many there are in all.

    Parameters
    ----------
    experiment, config
        which experiment, and its settings.
    folder
        folder of its results.

    Examples
    --------
    >>> import tempfile
    >>> from undertow import experiments
    >>> experiment = experiments.get("overparameterized")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept, total = experiments.cells_kept(experiment, experiment.config(quick=True), folder)
    >>> kept, total > 0
    (0, True)
    """
    cells, store = experiment.cells(config), Folder(folder)
    return sum(map(store.has_cell, cells)), len(cells)


def reproduce(
    name: str,
    out: Path | str = "undertow-results",
    *,
    quick: bool = False,
    config: ExperimentConfig | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Run the experiment ``name`` into ``folder_of(name, out, quick)`` and return its Result.

    Each finished cell is stored at once. A call that finds cells of the same config goes on from them and gives the
    same numbers, to the last bit, as one that was never stopped. A complete folder is only drawn again.

    Parameters
    ----------
    name
        one of ``names()``.
    out
        folder of all results; the experiment's own folder is made in it.
    quick
        smaller sizes.
    config
        None means the experiment's full settings, or its quick ones.
    overwrite
        throw earlier results away.
    progress
        called with (done, total) parts.

    Raises
    ------
    InputError
        for an unknown name, for a config of another experiment, and where the folder holds results of other
        settings.

    Examples
    --------
    >>> import tempfile
    >>> from undertow import experiments
    >>> small = experiments.get("overparameterized").config(quick=True, adapt_runs=25, train_runs=25)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     experiments.reproduce("overparameterized", folder, config=small).finding.statistic
    'best train rate'
    """
    experiment = get(name)
    config = experiment.config(quick) if config is None else config
    if not isinstance(config, experiment.Config):
        raise InputError(
            None,
            rule=f"config is of type {type(config).__module__}.{type(config).__name__}: {name} needs its own.",
            way_out=f"Make it with undertow.experiments.get({name!r}).config(...).",
        )
    store = Folder(folder_of(name, out, quick))
    if not store.path.exists():
        experiment.check()  # before a folder is made that stays empty
    store.open(name, config, overwrite=overwrite)
    if store.read_table() is not None:
        return redraw(store.path)
    experiment.check()
    cells = experiment.cells(config)
    tables = {cell.key: table for cell in cells if (table := store.finished(cell)) is not None}
    kept = len(tables)
    report = progress or (lambda done, total: None)
    report(kept, len(cells))
    for cell in cells:
        if cell.key not in tables:
            tables[cell.key] = experiment.run_cell(config, cell)
            store.keep(cell, tables[cell.key])
            report(len(tables), len(cells))
    table = experiment.collect(config, [tables[cell.key] for cell in cells])
    # The table comes last but one: where it is, the cells are all there, and the figure can be drawn from it.
    store.write_table(table)
    return Result(store.path, table, *_report(store, experiment, config, table), len(cells) - kept, kept, False)


def redraw(folder: Path | str) -> Result:
    """Draw the figure and write the verdict again from a complete folder, and return the Result; no run is made.

    Where all cells are there the table is collected from them again: theory may have been mended since. Where some were
    deleted the table stays as it is.

    Parameters
    ----------
    folder
        a folder that ``reproduce`` has filled.

    Raises
    ------
    InputError
        where the folder holds no complete experiment.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import experiments
    >>> try:
    ...     experiments.redraw("no-such-folder")
    ... except ut.InputError as error:
    ...     print(error)
    no-such-folder holds no results: there is no table to draw. Run it first, without --redraw.
    """
    store = Folder(folder)
    record, table = store.read_record(), store.read_table()
    if record is None or table is None:
        what = "no results" if record is None else "an experiment that is not complete"
        raise InputError(
            None,
            rule=f"{store.path} holds {what}: there is no table to draw.",
            way_out="Run it first, without --redraw.",
        )
    experiment = get(record["experiment"])
    config = experiment.Config(**record["config"])
    cells = experiment.cells(config)
    finished = [found for cell in cells if (found := store.finished(cell)) is not None]
    if len(finished) == len(cells):
        table = experiment.collect(config, finished)
        store.write_table(table)
    return Result(store.path, table, *_report(store, experiment, config, table), 0, len(cells), True)


def _report(
    store: Folder, experiment: Experiment, config: ExperimentConfig, table: pa.Table
) -> tuple[Finding, list[str]]:
    found = experiment.finding(table, config)
    head = [f"{experiment.name}: {experiment.claim}", *found.lines, f"{found.result}."]
    verdict = [*head, "", "Details", *experiment.verdict(table, config)]
    record = {"experiment": experiment.name, "claim": experiment.claim, **found.as_dict()}
    with style.context():
        details = experiment.draw_details and experiment.draw_details(table, config)
        store.write_report(experiment.draw(table, config), verdict, record, details)
    return found, verdict
