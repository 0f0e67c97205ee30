"""The raw estimate of a cell, against least squares on stacked rows and adaptation task by task."""

import numpy as np
import pytest

from undertow.problem import Design, MixedLinearRegression
from undertow.trials.conditional import loss_given_inputs
from undertow.trials.monte_carlo import SCHEMA, run_cell
from undertow.trials.panel import RUNS_PER_CELL, Panel, cells_of


@pytest.mark.parametrize("n_tasks", [3, 9], ids=["N<p", "N>p"])
@pytest.mark.parametrize("rates", [((-1.0, 0.0, 0.4), (0.2,)), ((0.2,), (-0.1, 0.0, 0.3))])
def test_raw_is_the_loss_that_a_loop_over_the_same_draws_gives(n_tasks, rates):
    problem = MixedLinearRegression(10, input_covariance=np.linspace(0.5, 1.5, 10))
    panel = Panel("x", problem, Design(n_tasks, 8, 2, 6), *rates, runs=3, n_test_tasks=4, n_test_rows=5)
    (cell,) = cells_of([panel], seed=9)
    table = run_cell(panel, cell)
    assert table.schema == SCHEMA
    generator, expected, given = cell.generator(), [], []
    for _ in range(3):
        tasks = problem.sample(panel.design, generator)
        new = problem.sample(panel.design.new_tasks(4, 5), generator)
        expected += [_loss(tasks, new, train, adapt) for train, adapt in zip(*panel.grid, strict=True)]
        inputs = (tasks.support_x[None], tasks.query_x[None])
        given += loss_given_inputs(problem, 6, *inputs, np.array(rates[0]), np.array(rates[1])).ravel().tolist()
    np.testing.assert_allclose(table["raw"].to_numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(table["conditional"].to_numpy(), given, rtol=1e-12)
    np.testing.assert_array_equal(table["run"].to_numpy(), np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(table[panel.swept].to_numpy(), np.tile(panel.rates, 3))


def _loss(tasks, new, train_rate, adapt_rate):
    rows, labels = [], []
    for sx, sy, qx, qy in zip(*tasks[:4], strict=True):
        rows.append(qx - train_rate * qx @ sx.T @ sx / len(sx))
        labels.append(qy - train_rate * qx @ sx.T @ sy / len(sx))
    weights = np.linalg.lstsq(np.vstack(rows), np.concatenate(labels), rcond=None)[0]
    squares = []
    for sx, sy, qx, qy in zip(*new[:4], strict=True):
        adapted = weights - adapt_rate / len(sx) * sx.T @ (sx @ weights - sy)
        squares.append((qx @ adapted - qy) ** 2)
    return np.mean(squares) / 2


def test_cells_hold_every_run_once():
    problem = MixedLinearRegression(4)
    panels = [
        Panel(name, problem, Design(1, 2, 1), (0.0, 0.1), (0.0,), runs, 1, 1) for name, runs in (("a", 60), ("b", 25))
    ]
    cells = cells_of(panels, seed=0)
    assert [(cell.key, cell.first_run, cell.runs) for cell in cells] == [
        ("a-0000", 0, RUNS_PER_CELL),
        ("a-0001", RUNS_PER_CELL, RUNS_PER_CELL),
        ("a-0002", 2 * RUNS_PER_CELL, 60 - 2 * RUNS_PER_CELL),
        ("b-0000", 0, RUNS_PER_CELL),
    ]
    assert len({(cell.seed, cell.spawn_key) for cell in cells}) == 4
