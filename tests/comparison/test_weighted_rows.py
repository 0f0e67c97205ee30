"""Rivals on a table of weighted rows."""

from dataclasses import replace

import numpy as np
import pytest

from undertow.comparison import Plan, compare
from undertow.comparison.cell import held_out_draws, parts_of
from undertow.tasks import GroupedTable


def table(kind="frequency", m=12, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), 10)
    x, w = rng.normal(size=(len(groups), 2)), rng.integers(1, 6, len(groups)).astype(float)
    y = x @ [1.0, -1.0] + rng.normal(size=m)[groups] + rng.normal(size=len(groups)) / np.sqrt(w)
    made = GroupedTable.from_arrays(x, y, groups)
    return made, w, {"weights": w, "weights_are": kind}


def weighted(kind="frequency"):
    made, _, fields = table(kind)
    return replace(made, **fields)


OURS = ("pooled", "pooled_ridge", "signed", "default")
PLAN = Plan(3, 3, 1)


@pytest.mark.parametrize("kind", ["frequency", "precision"])
def test_pooled_least_squares_and_its_error_are_those_of_weights_written_out(kind):
    plain, w, _ = table()
    found = compare(weighted(kind), PLAN, rivals=["pooled"], time_limit=None)
    losses = np.zeros(12)
    z = np.c_[plain.x, np.ones(len(plain.y))]
    at = np.arange(len(w), dtype=float)
    for part in parts_of(plain, PLAN, 0):
        test = np.isin(np.repeat(np.arange(12), 10), part)
        root = np.sqrt(w[~test])
        omega = np.linalg.lstsq(z[~test] * root[:, None], plain.y[~test] * root, rcond=None)[0]
        numbered = GroupedTable.from_arrays(at[:, None], at, plain.groups).select(part)
        for draw in held_out_draws(numbered, PLAN, 0):
            for batch in draw:
                for task, rows in zip(batch.ids, batch.query_y.astype(int), strict=True):
                    error = (z[rows] @ omega - plain.y[rows]) ** 2
                    losses[task] += np.average(error, weights=w[rows]) / PLAN.n_draws
    by = w if kind == "frequency" else np.ones(len(w))
    variance = np.average((plain.y - np.average(plain.y, weights=by)) ** 2, weights=by)
    np.testing.assert_allclose(found.losses("pooled"), losses / variance, rtol=1e-9)


@pytest.mark.long
def test_weights_of_1_change_nothing_and_rivals_without_weights_are_left_out():
    plain, w, _ = table()
    ones = replace(plain, weights=np.ones(len(w)))
    without = compare(plain, PLAN, rivals=OURS, time_limit=None)
    found = compare(ones, PLAN, rivals=[*OURS, "alone"], time_limit=None)
    for name in OURS:
        np.testing.assert_allclose(found.losses(name), without.losses(name), rtol=1e-9)
    assert "alone" not in found.measured
    assert "takes no weights" in found.notes["alone"]


@pytest.mark.long
def test_only_ratios_of_precisions_count_and_a_second_process_says_the_same():
    one = weighted("precision")
    other = replace(one, weights=7 * one.weights)
    here = compare(one, PLAN, rivals=["step", "default"], time_limit=None)
    there = compare(other, PLAN, rivals=["step", "default"], time_limit=60)
    for name in ("step", "default"):
        np.testing.assert_allclose(here.losses(name), there.losses(name), rtol=1e-6)
    copies = compare(weighted(), PLAN, rivals=["step"], time_limit=None)
    assert not np.allclose(copies.losses("step"), here.losses("step"), rtol=1e-3)
