"""Experiment: what the runner, the command line and the documentation need to know of one experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from undertow._check import InputError
from undertow.trials import monte_carlo, summary
from undertow.trials.config import ExperimentConfig
from undertow.trials.finding import Finding
from undertow.trials.panel import Cell, Panel, cells_of


@dataclass(frozen=True)
class Experiment:
    """One experiment: its settings, its panels, and how its table is drawn and read.

    Parameters
    ----------
    name
        what the command line calls it.
    claim
        what is to be shown, one sentence.
    short
        the same in a few words.
    run_time, quick_time
        processor time of the full and of the quick run, in words.
    Config
        strict settings, whose defaults are the full run.
    quick
        settings that change for a quick run.
    panels
        (config): the sweeps.
    draw
        (table, config): the figure.
    draw_details
        (table, config): a second one, for what the first leaves out; None where there is none.
    by_name
        whether it runs only where it is asked for by name.
    finding
        (table, config): the decisive number and what follows from it for the claim.
    verdict
        (table, config): all that the table says, in lines.

    Examples
    --------
    >>> from undertow import experiments
    >>> experiment = experiments.get("overparameterized")
    >>> experiment.config(quick=True).n_features, len(experiment.cells(experiment.config(quick=True)))
    (60, 6)
    """

    name: str
    claim: str
    short: str
    run_time: str
    quick_time: str
    Config: type[ExperimentConfig]
    quick: dict[str, Any]
    panels: Callable[[Any], list[Panel]]
    draw: Callable[[pa.Table, Any], Figure]
    finding: Callable[[pa.Table, Any], Finding]
    verdict: Callable[[pa.Table, Any], list[str]]
    draw_details: Callable[[pa.Table, Any], Figure] | None = None
    by_name: bool = False

    def missing(self) -> str | None:
        """Return what keeps the experiment from running here, as a sentence; None where nothing does."""
        return None

    def check(self) -> None:
        """Raise InputError where something that the experiment needs is not installed."""
        if (message := self.missing()) is not None:
            raise InputError(None, rule=message)

    def runs_by_itself(self, config: ExperimentConfig) -> bool:
        """Whether all data that it needs come with the package or are named in the config."""
        return True

    def config(self, quick: bool = False, **settings: Any) -> ExperimentConfig:
        """Return the settings of the full or the quick run, with ``settings`` changed."""
        return self.Config(**{**(self.quick if quick else {}), **settings})

    def cells(self, config: ExperimentConfig) -> list[Cell]:
        """Return the pieces of work, each with a seed of its own."""
        return cells_of(self.panels(config), config.seed)

    def run_cell(self, config: ExperimentConfig, cell: Cell) -> pa.Table:
        """Return one row for each run of the cell and point of its panel."""
        return monte_carlo.run_cell(self.panels(config)[cell.panel], cell)

    def collect(self, config: ExperimentConfig, tables: Sequence[pa.Table]) -> pa.Table:
        """Return one row for each point: means, standard errors, theory and z; optima in the table's metadata."""
        return summary.collect(self.panels(config), tables, config.seed)

    def run(self, config: ExperimentConfig | None = None) -> pa.Table:
        """Run all cells in memory and return what ``collect`` makes of them. None means the full run."""
        config = self.config() if config is None else config
        return self.collect(config, [self.run_cell(config, cell) for cell in self.cells(config)])
