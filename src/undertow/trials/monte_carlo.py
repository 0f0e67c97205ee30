"""Two estimates of the expected test loss from the same training draws: sampled to the end, and given the inputs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from undertow.linear import rate_path
from undertow.trials.conditional import loss_given_inputs
from undertow.trials.panel import Cell, Panel

SCHEMA = pa.schema(
    [
        ("panel", pa.string()),
        ("run", pa.int32()),
        ("train_rate", pa.float64()),
        ("adapt_rate", pa.float64()),
        ("raw", pa.float64()),
        ("conditional", pa.float64()),
    ]
)


def run_cell(panel: Panel, cell: Cell) -> pa.Table:
    """One row for each run of the cell and point of the panel.

    raw: mean loss on ``n_test_tasks`` sampled new tasks, through rate_path and its held-out surface, as a user gets it.
    conditional: the expected loss given the run's training inputs. All points of a run share their draws, so
    differences along a curve are paired.
    """
    generator = cell.generator()
    train_rates, adapt_rates = np.array(panel.train_rates), np.array(panel.adapt_rates)
    new_design = panel.design.new_tasks(panel.n_test_tasks, panel.n_test_rows)
    raw = np.empty((cell.runs, len(train_rates), len(adapt_rates)))
    support_x, query_x = [], []
    for run in range(cell.runs):
        tasks = panel.problem.sample(panel.design, generator)
        new = panel.problem.sample(new_design, generator)
        raw[run] = rate_path(tasks, train_rates).evaluate(new).loss(adapt_rates)
        support_x.append(tasks.support_x)
        query_x.append(tasks.query_x)
    assert panel.design.n_adapt is not None  # set by Design
    conditional = loss_given_inputs(
        panel.problem, panel.design.n_adapt, np.stack(support_x), np.stack(query_x), train_rates, adapt_rates
    )
    train, adapt = panel.grid
    return pa.table(
        {
            "panel": [panel.name] * raw.size,
            "run": np.repeat(np.arange(cell.first_run, cell.first_run + cell.runs), train.size),
            "train_rate": np.tile(train, cell.runs),
            "adapt_rate": np.tile(adapt, cell.runs),
            "raw": raw.ravel(),
            "conditional": conditional.ravel(),
        },
        schema=SCHEMA,
    )
