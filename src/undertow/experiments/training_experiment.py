"""Experiments that cut their work in their own way, and those of them that train by gradient and need JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pyarrow as pa

from undertow.experiments.experiment import Experiment
from undertow.trials.config import ExperimentConfig
from undertow.trials.panel import Cell, Panel, cut_runs

NEEDED = ("jax", "optax", "safetensors")
ON_ROWS = tuple(
    f"{new}{rows}_{when}" for new in ("", "new_") for rows in ("support", "query") for when in ("before", "after")
)
"""Losses around the inner step, on the training tasks and on new ones."""


Cut = Callable[[Any], list[Cell]]


@dataclass(frozen=True, kw_only=True)
class CellExperiment(Experiment):
    """An experiment whose work is cut and done by functions of its own; its table has one row for each run and point.

    cut(config): the cells. compute(config, cell): their tables.
    """

    # Panels are for sweeps of the exact solution.
    panels: Callable[[Any], list[Panel]] = lambda config: []
    cut: Cut
    compute: Callable[[Any, Cell], pa.Table]

    def cells(self, config: ExperimentConfig) -> list[Cell]:
        """The pieces of work, each with a seed of its own."""
        return self.cut(config)

    def run_cell(self, config: ExperimentConfig, cell: Cell) -> pa.Table:
        """One row for each run of the cell and point."""
        self.check()
        return self.compute(config, cell)

    def collect(self, config: ExperimentConfig, tables: Sequence[pa.Table]) -> pa.Table:
        """All rows of all cells: the paired differences need each run."""
        return pa.concat_tables(tables)


@dataclass(frozen=True, kw_only=True)
class TrainingExperiment(CellExperiment):
    """An experiment that trains by gradient: only its ``compute`` may import JAX.

    data: what the user must supply before it can run, as a setting of the Config; empty where nothing.
    """

    data: str = ""

    def missing(self) -> str | None:
        """What keeps the experiment from running here, as a sentence; None where nothing does."""
        absent = [name for name in NEEDED if find_spec(name) is None]
        if not absent:
            return None
        return f'{self.name} trains by gradient and needs {absent[0]}: pip install "undertow[gradient]"'

    def runs_by_itself(self, config: ExperimentConfig) -> bool:
        """Whether all data that it needs come with the package or are named in the config."""
        return not self.data or getattr(config, self.data) is not None


def cut_parts(parts: Callable[[Any], Mapping[str, Any]], per_cell: int, *, shared: bool = False) -> Cut:
    """Return what cuts the runs of each part, ``parts(config)``, into cells. shared: whether all parts share draws."""
    return lambda config: [
        cell
        for index, (name, runs) in enumerate(parts(config).items())
        for cell in cut_runs(name, index, runs, per_cell, config.seed, 0 if shared else None)
    ]
