"""Panel: one problem at one set of sizes, swept over rates; and the cells into which its runs are cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from undertow.problem import Design, MixedLinearRegression

RUNS_PER_CELL = 25
"""Runs of one cell: what is lost at most when a run is stopped. Part of the seeds, so a constant."""


@dataclass(frozen=True)
class Panel:
    """One problem and design, ``runs`` repetitions, and the grid of rates at which each run is measured.

    ``seek_optimum``: whether the swept rates are dense enough to say where the loss is lowest.
    """

    name: str
    problem: MixedLinearRegression
    design: Design
    train_rates: tuple[float, ...]
    adapt_rates: tuple[float, ...]
    runs: int
    n_test_tasks: int
    n_test_rows: int
    seek_optimum: bool = True

    @property
    def swept(self) -> str:
        """Which rate the panel sweeps: "train_rate" or "adapt_rate"."""
        return "adapt_rate" if len(self.adapt_rates) > 1 else "train_rate"

    @property
    def rates(self) -> np.ndarray:
        """(points,) the values of the swept rate."""
        return np.array(getattr(self, f"{self.swept}s"))

    @property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """(points,) train rates and (points,) adapt rates of all points; the adapt rate varies fastest."""
        train, adapt = np.meshgrid(self.train_rates, self.adapt_rates, indexing="ij")
        return train.ravel(), adapt.ravel()


@dataclass(frozen=True)
class Cell:
    """The smallest piece of work that is stored: some runs of one panel, with a seed of their own.

    key: name of its file. panel: position of its panel. first_run, runs: which runs it holds. seed: the experiment's
    seed, and spawn_key what sets this cell's stream apart.
    """

    key: str
    panel: int
    first_run: int
    runs: int
    seed: int
    spawn_key: tuple[int, int]

    def generator(self) -> np.random.Generator:
        """The cell's own stream: it depends on the seed, the panel and the cell, on no other cell."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=self.spawn_key))


def cells_of(panels: Iterable[Panel], seed: int) -> list[Cell]:
    """Cut each panel's runs into cells of RUNS_PER_CELL."""
    return [
        cell
        for index, panel in enumerate(panels)
        for cell in cut_runs(panel.name, index, panel.runs, RUNS_PER_CELL, seed)
    ]


def cut_runs(name: str, index: int, runs: int, per_cell: int, seed: int, stream: int | None = None) -> list[Cell]:
    """Cut ``runs`` of one part into cells; parts with the same ``stream`` (None: their index) share their draws."""
    stream = index if stream is None else stream
    return [
        Cell(f"{name}-{number:04d}", index, first, min(per_cell, runs - first), seed, (stream, number))
        for number, first in enumerate(range(0, runs, per_cell))
    ]
