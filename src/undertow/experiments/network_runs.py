"""Runs of a two-layer network on quadratic regression, beside the kernel's exact solution on the same data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from undertow._batch import TaskBatch
from undertow.experiments.training_experiment import ON_ROWS
from undertow.kernel import KernelPath, kernel_path, relu_ntk
from undertow.problem import Design, Problem, QuadraticRegression
from undertow.trials.panel import Cell


@dataclass(frozen=True)
class Part:
    """One problem and network, swept over train rates that are given in spectral units."""

    name: str
    problem: QuadraticRegression
    design: Design
    width: int
    antisymmetric: bool
    train_rates: tuple[float, ...]
    adapt_rate: float
    new_sizes: tuple[int, int]
    """new tasks of a run, and test rows of each"""

    @property
    def unit(self) -> float:
        """The spectral unit of a rate, 1 / lambda_max of the support rows' kernel matrix over n_t."""
        return spectral_unit(self.problem.n_features, self.design.n_support)


@dataclass(frozen=True)
class Draws:
    """What a cell draws, in order: for each run the training tasks, new tasks and the network's seed."""

    tasks: list[TaskBatch]
    new: list[TaskBatch]
    seeds: list[int]


@lru_cache
def spectral_unit(n_features: int, n_support: int) -> float:
    """Mean of 1 / lambda_max(K_tt / n_t) for standard normal inputs, the analytic kernel and fixed draws."""
    problem = QuadraticRegression(n_features)
    tasks = problem.sample(Design(200, n_support, 1), 0)
    top = [np.linalg.eigvalsh(relu_ntk(x))[-1] / n_support for x in tasks.support_x]
    return float(1 / np.mean(top))


def draws(problem: Problem, design: Design, new_sizes: tuple[int, int], cell: Cell) -> Draws:
    """Draw the cell's data; parts whose cells share a stream get the same data. new_sizes: new tasks, rows of each."""
    generator, new_design = cell.generator(), design.new_tasks(*new_sizes)
    tasks, new, seeds = [], [], []
    for _ in range(cell.runs):
        tasks.append(problem.sample(design, generator))
        new.append(problem.sample(new_design, generator))
        seeds.append(int(generator.integers(2**31)))
    return Draws(tasks, new, seeds)


@dataclass(frozen=True)
class Tangent:
    r"""The two-layer network of ``outer_loop.TwoLayer`` at given parameters: its values and its tangent kernel.

    With x~ = (x, 1) and h_j = w_j.x~, K(x, z) = [sum_j relu(h_j(x)) relu(h_j(z)) + x~.z~ sum_j a_j^2 1(h_j(x) > 0)
    1(h_j(z) > 0)] / width: products of (n, width) matrices, where ``gradient.ntk`` contracts whole Jacobians.
    """

    first: np.ndarray
    """(p + 1, width), the last row that of the constant"""
    second: np.ndarray
    """(width,)"""

    @classmethod
    def of(cls, starts: Any, run: int) -> Tangent:
        """From the network's parameters at one of several starts, in float64."""
        return cls(*(np.asarray(starts[name][run], np.float64) for name in ("first", "second")))

    def f0(self, x: np.ndarray) -> np.ndarray:
        """Values at rows (n, p): (n,)."""
        return np.maximum(self._hidden(x), 0.0) @ self.second / np.sqrt(len(self.second))

    def kernel(self, x: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
        """(n, q) kernel of rows x (n, p) and z (q, p), which are x where left out."""
        first = self._hidden(x)
        second, z = (first, x) if z is None else (self._hidden(z), z)
        values = np.maximum(first, 0.0) @ np.maximum(second, 0.0).T
        values += (x @ z.T + 1.0) * (((first > 0) * self.second**2) @ (second > 0).astype(np.float64).T)
        return values / len(self.second)

    def _hidden(self, x: np.ndarray) -> np.ndarray:
        return x @ self.first[:-1] + self.first[-1]


def hessians(path: KernelPath, rates: np.ndarray) -> np.ndarray:
    """(k, N, N) matrices with the nonzero spectrum of the outer problem's Hessian at these rates, in the kernel."""
    coefficients = np.stack([np.ones_like(rates), -rates], axis=1)
    return path.problem.blocks.at(coefficients) / path.n_rows


def kernel_values(path: KernelPath, new: TaskBatch, adapt_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Adapted values on the query rows of new tasks, (k, m, q), and their mean loss, (k,)."""
    values = path.predict_adapted(new, adapt_rate)
    return values, 0.5 * ((values - new.query_y) ** 2).mean(axis=(1, 2))


def compute(part: Part, cell: Cell, most: int, tolerance: float, early: int = 0) -> pa.Table:
    """Train at every rate of every run of the cell; solve the same problems with both kernels.

    One row for each run and rate. network, analytic, empirical: test loss after adaptation, of the trained network,
    of the infinite network's kernel and of this network's own kernel at its start. gap_analytic, gap_empirical: root
    mean squared difference of the adapted values from the network's, relative to the size of the kernel's.
    converged: whether the gradient fell by ``tolerance``. The columns of ON_ROWS are the network's.
    """
    from undertow.experiments import outer_loop

    data = draws(part.problem, part.design, part.new_sizes, cell)
    rates, adapt = np.array(part.train_rates) * part.unit, part.adapt_rate * part.unit
    model = outer_loop.TwoLayer(part.problem.n_features, part.width, part.antisymmetric)
    references: list[dict[str, Any]] = []
    numbers = []
    starts = outer_loop.starts(model, data.seeds)
    for run, (tasks, new) in enumerate(zip(data.tasks, data.new, strict=True)):
        tangent = Tangent.of(starts, run)
        f0 = None if part.antisymmetric else tangent.f0
        paths = {
            "analytic": kernel_path(relu_ntk, tasks, rates, f0=f0),
            "empirical": kernel_path(tangent.kernel, tasks, rates, f0=f0),
        }
        references.append({name: kernel_values(path, new, adapt) for name, path in paths.items()})
        numbers.append(outer_loop.descent_numbers(hessians(paths["analytic"], rates), 0.7, momentum=True))
    runs, k = cell.runs, len(rates)
    loops = outer_loop.loops_of(runs, rates, *zip(*numbers, strict=True))
    tasks, new = outer_loop.stacked(data.tasks), outer_loop.stacked(data.new)
    trained = outer_loop.train_loops(model, "descent", tasks, starts, loops, most, tolerance, early)
    losses, values = outer_loop.losses_of(model, trained.params, tasks, new, loops, np.float32(adapt))
    columns = _points(part, cell) | {"network": np.asarray(losses["test_loss"], np.float64)}
    network = np.asarray(values, np.float64).reshape(runs, k, *values.shape[1:])
    for name in ("analytic", "empirical"):
        kernel = np.stack([reference[name][0] for reference in references])
        columns[name] = np.concatenate([reference[name][1] for reference in references])
        gap = np.sqrt(((network - kernel) ** 2).mean(axis=(2, 3)) / (kernel**2).mean(axis=(2, 3)))
        columns[f"gap_{name}"] = gap.ravel()
    columns["iterations"] = np.asarray(trained.iterations, np.int64)
    columns["converged"] = np.asarray(trained.gradient_ratio) <= tolerance
    columns |= {name: np.asarray(losses[name], np.float64) for name in ON_ROWS}
    return pa.table(columns)


def _points(part: Part, cell: Cell) -> dict[str, Any]:
    """The columns that say which run and rate a row is of."""
    runs, rates = np.arange(cell.first_run, cell.first_run + cell.runs), np.array(part.train_rates)
    run, rate = (column.ravel() for column in np.meshgrid(runs, rates, indexing="ij"))
    same = {"part": [part.name] * run.size, "width": np.full(run.size, part.width)}
    return same | {"run": run, "train_rate": rate, "raw_rate": rate * part.unit}


def compute_kernel(part: Part, cell: Cell) -> pa.Table:
    """The columns of ``compute`` for the infinite network's kernel alone; those of the network are NaN, 0 or False."""
    data = draws(part.problem, part.design, part.new_sizes, cell)
    rates, adapt = np.array(part.train_rates) * part.unit, part.adapt_rate * part.unit
    losses = [
        kernel_values(kernel_path(relu_ntk, tasks, rates), new, adapt)[1]
        for tasks, new in zip(data.tasks, data.new, strict=True)
    ]
    rows = cell.runs * len(rates)
    nothing = np.full(rows, np.nan)
    columns = _points(part, cell) | {
        "network": nothing,
        "analytic": np.concatenate(losses),
        "gap_analytic": nothing,
        "empirical": nothing,
        "gap_empirical": nothing,
        "iterations": np.zeros(rows, np.int64),
        "converged": np.zeros(rows, bool),
    }
    return pa.table(columns | dict.fromkeys(ON_ROWS, nothing))
