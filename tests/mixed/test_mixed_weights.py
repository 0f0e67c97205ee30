"""Weights of rows and tasks in fits of a mixed model: what counts twice is as good as what is there twice."""

import numpy as np
import pytest
from mixed_tables import draw, same

from undertow.mixed.model import fit_mixed
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_a_weight_of_two_is_a_row_or_a_task_twice(structure):
    table = draw(20)
    rng = np.random.default_rng(1)
    rows, tasks = rng.integers(0, 3, table.n_rows), rng.integers(1, 3, 20)
    again = np.repeat(np.arange(table.n_rows), rows)
    longer = GroupedTable.from_arrays(table.x[again], table.y[again], table.groups[again])
    some = table.select(np.isin(table.ids, longer.ids))
    kept = np.isin(table.groups, longer.ids)
    weighted = TaskStatistics.from_tasks(some, rows[kept])
    same(fit_mixed(weighted, structure), fit_mixed(longer, structure))
    copies = np.repeat(np.arange(20), tasks)
    place = np.concatenate([np.arange(*table.offsets[i : i + 2]) for i in copies])
    names = np.repeat(np.arange(len(copies)), table.counts[copies])
    more = GroupedTable.from_arrays(table.x[place], table.y[place], names)
    weighted = TaskStatistics.from_tasks(table, None, tasks)
    same(fit_mixed(weighted, structure), fit_mixed(more, structure))


@pytest.mark.parametrize("structure", ["intercept", "full"])
def test_the_weight_of_support_rows_of_a_batch_counts(structure):
    table = draw(20, (8, 8))
    table = GroupedTable.from_arrays(np.c_[table.x[:, :2], np.ones(table.n_rows)], table.y, table.groups)
    batch = table.draw(5, seed=0)
    mean = np.random.default_rng(1).integers(1, 4, 20)
    parts = [(batch.query_x[i], batch.query_y[i]) for i in range(20)]
    parts += [
        (np.repeat(batch.support_x[i], mean[i], axis=0), np.repeat(batch.support_y[i], mean[i])) for i in range(20)
    ]
    names = np.concatenate([np.full(len(y), i % 20) for i, (_, y) in enumerate(parts)])
    copies = GroupedTable.from_arrays(*(np.concatenate(one) for one in zip(*parts, strict=True)), names)
    same(fit_mixed(batch._replace(support_weight=mean), structure), fit_mixed(copies, structure))
    # Beside weights of rows, and given to rows that come times the roots of weights that average 1.
    rows = np.random.default_rng(2).integers(1, 4, (20, 5)).astype(float)
    pair = rows * mean[:, None], np.ones((20, 3))
    whole = fit_mixed(TaskStatistics.from_tasks(batch, pair), "full")
    own = rows.mean(axis=1)
    root = np.sqrt(rows / own[:, None])
    drawn = batch._replace(support_x=batch.support_x * root[..., None], support_y=batch.support_y * root)
    drawn = drawn._replace(support_weight=mean * own)
    same(*(fit_mixed(one, "full", mean_scale=np.inf) for one in (drawn, TaskStatistics.from_tasks(batch, pair))))
    beside = TaskStatistics.from_tasks(batch._replace(support_weight=mean), (rows, np.ones((20, 3))))
    same(fit_mixed(beside, "full"), whole)
