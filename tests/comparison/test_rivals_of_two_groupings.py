"""A second grouping of a compared table: its levels are off the targets of every rival, by training tasks alone."""

from dataclasses import replace

import numpy as np
import pytest

import undertow as ut
from undertow.comparison import Plan, compare
from undertow.comparison.cell import run_cell, target_variance, training_of
from undertow.comparison.second import without_levels
from undertow.tasks import GroupedTable, folds

PLAN = Plan(n_support=3, n_folds=3, n_draws=2)


def crossed(seed=0):
    """Raters and products: levels of products have six times the variance of the rest."""
    rng = np.random.default_rng(seed)
    rater, product = np.repeat(np.arange(18), 8), rng.integers(0, 9, 144)
    x = rng.standard_normal((144, 1))
    y = x[:, 0] + 3 * rng.standard_normal(9)[product] + rng.standard_normal(18)[rater] + 0.3 * rng.standard_normal(144)
    table = GroupedTable.from_arrays(x, y, rater)
    return replace(table, levels=np.array([f"p{i}" for i in product])[table.rows], levels_from=("product",))


def test_levels_are_known_to_every_rival_and_held_out_errors_fall():
    table, rivals = crossed(), ["pooled", "alone", "default"]
    by_levels = compare(table, PLAN, rivals=rivals, time_limit=None)
    alone = compare(replace(table, levels=None), PLAN, rivals=rivals, time_limit=None)
    for name in rivals:
        assert by_levels.mean_loss(name)[0] < 0.5 * alone.mean_loss(name)[0]
    assert by_levels.mean_loss("default")[0] < 0.05


def test_targets_of_held_out_tasks_change_nothing_that_is_learned():
    table, kept = crossed(), np.arange(18) % 3 > 0
    own = np.repeat(kept, table.counts)
    other = replace(table, y=np.where(own, table.y, table.y + 5.0))
    one, two = (without_levels(each, kept, 0) for each in (table, other))
    np.testing.assert_array_equal(one.y[own], two.y[own])
    np.testing.assert_allclose(two.y[~own] - one.y[~own], 5.0)


def test_the_default_is_the_estimator_that_is_told_of_levels():
    table = crossed()
    cell = run_cell(table, PLAN, 0, 1, "default")
    part = folds(table.ids, 3, 0)[1]
    kept = np.ones(18, dtype=bool)
    kept[part] = False
    raw, test = table.select(kept), table.select(part)
    model = ut.MAMLRegressorCV(3, random_state=0).fit(raw.x, raw.y, groups=raw.groups, levels=raw.levels)
    losses = np.zeros(len(part))
    adjusted = replace(test, y=test.y - model.model_.levels.of(test.levels, test.n_rows)[:, 0], levels=None)
    for k in range(PLAN.n_draws):
        for batch in adjusted.draw_buckets(3, np.random.SeedSequence(0, spawn_key=(k,))):
            for i, name in enumerate(batch.ids):
                real = slice(None) if batch.query_mask is None else batch.query_mask[i]
                found = model.adapt(batch.support_x[i], batch.support_y[i]).predict(batch.query_x[i][real])
                losses[list(adjusted.ids).index(name)] += ((found - batch.query_y[i][real]) ** 2).mean()
    np.testing.assert_allclose(cell.losses, losses / (PLAN.n_draws * target_variance(table)), rtol=0.05)


def test_rivals_with_a_link_are_left_out_and_a_floor_is_refused():
    table = crossed()
    counts = replace(table, y=np.round(np.abs(table.y)))
    found = compare(counts, PLAN, rivals=["pooled", "poisson_mixed"], time_limit=None)
    assert found.measured == ("pooled",)
    assert "second random intercept" in found.notes["poisson_mixed"]
    with pytest.raises(ut.InputError, match="floor"):
        compare(counts, PLAN._replace(floor=0.0), rivals=["pooled"], time_limit=None)


def test_a_second_process_is_told_of_levels():
    table = crossed()
    here, there = (compare(table, PLAN, rivals=["pooled"], time_limit=limit) for limit in (None, 60.0))
    np.testing.assert_array_equal(here.task_losses, there.task_losses)


def test_a_table_without_levels_is_left_as_it_is():
    table = replace(crossed(), levels=None)
    assert without_levels(table, np.ones(18, dtype=bool), 0) is table
    assert training_of(table, PLAN, 0, 0)[0].raw.n_tasks == 12
