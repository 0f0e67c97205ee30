"""Sums over tasks: they add up, travel as bytes, and hold all that the weights of a search are solved from."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from made import table, task_rows

from undertow._check import InputError
from undertow.choice.search import Settings
from undertow.estimators.further import retrained
from undertow.estimators.sums import Recipe, Sums, merge, partial
from undertow.estimators.training import searched


def found_by_search(rules, blend=True, **sizes):
    rows = task_rows(*table(**sizes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        large = rows.large_enough(6, "drop")
        return rows, searched(rows, large, Settings(6, rules=rules, blend=blend, n_draws=2))


def arrays_of(sums):
    arrays = {}
    return arrays | {"header": np.array([str(sums.pack(arrays))])} | arrays


CASES = [
    (("gradient",), {"m": 30, "p": 3}),
    (("proximal",), {"m": 60, "p": 4, "noise": 2.0}),
    (("mixed",), {"m": 40, "p": 2, "low": 3}),
    (("gradient", "proximal", "mixed"), {"m": 30, "p": 14}),
]


@pytest.mark.parametrize(("rules", "sizes"), CASES)
def test_weights_solved_from_sums_of_parts_are_those_of_the_search(rules, sizes):
    rows, trained = found_by_search(rules, **sizes)
    search = trained.search
    # Dealt into three parts, as fragments of a table are; too short tasks among them.
    dealt = np.random.default_rng(1).integers(0, 3, rows.n_tasks)
    parts = [partial(rows.select(np.flatnonzero(dealt == k)), search.recipe) for k in range(3)]
    sums = merge(merge(*[Sums.from_bytes(part.to_bytes()) for part in parts[:2]]), parts[2])
    assert sums.n_all == rows.n_tasks
    assert sums.blocks.n_rows == search.sums.blocks.n_rows
    np.testing.assert_allclose(sums.blocks.gram, search.sums.blocks.gram, rtol=1e-11, atol=1e-11 * len(rows.y))
    for ours in (search.sums, sums):
        found = retrained(search.choice, search.recipe, ours)
        np.testing.assert_allclose(found.weights, trained.model.omega, rtol=1e-10, atol=1e-12)
        batch = next(iter(rows.large_enough(6, "drop").draw(6, np.random.SeedSequence(9))))[0]
        one = batch._replace(support_y=batch.support_y[..., 0], query_y=batch.query_y[..., 0])
        np.testing.assert_allclose(
            found.rules[0].adapt(found.weights[0], one),
            trained.model.rules[0].adapt(trained.model.omega[0], one),
            rtol=1e-9,
            atol=1e-11,
        )


def test_bytes_hold_every_number():
    rows, trained = found_by_search(("proximal", "mixed"), m=40, p=4, noise=2.0)
    sums = partial(rows, trained.search.recipe)
    again = Sums.from_bytes(sums.to_bytes())
    assert again.to_bytes() == sums.to_bytes()
    ours, theirs = arrays_of(sums), arrays_of(again)
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        np.testing.assert_array_equal(one, theirs[name])


@pytest.mark.parametrize("data", [b"", b"no sums at all, but long enough for a header", b"\x02" + bytes(7) + b"{}"])
def test_bytes_that_are_no_sums_are_refused(data):
    with pytest.raises(InputError, match="no sums"):
        Sums.from_bytes(data)


def test_tasks_too_short_to_draw_from_add_nothing_to_the_gradient_rule():
    rows = task_rows(*table(m=12, p=3, low=3, high=6))
    recipe = Recipe(rows.standard, n_support=7, n_draws=1, seed=0, steps=1, ratios=(1.0,))
    long = task_rows(*table(m=12, p=3))
    filled = partial(replace(long, standard=rows.standard), recipe)
    none = partial(rows, recipe)
    assert none.n_all == 12
    both = merge(none, filled)
    np.testing.assert_array_equal(both.blocks.gram, filled.blocks.gram)
    np.testing.assert_array_equal(both.ridge[0].gram, filled.ridge[0].gram)
    assert (both.n_all, both.blocks.n_tasks) == (24, 12)


def test_sums_of_other_recipes_are_refused():
    rows = task_rows(*table(m=12, p=3))
    recipe = Recipe(rows.standard, n_support=4, n_draws=1, seed=0, steps=1, ratios=(1.0,))
    sums = partial(rows, recipe)
    for other in (replace(recipe, ratios=(2.0,)), replace(recipe, steps=2), replace(recipe, ratios=())):
        with pytest.raises(InputError, match="cannot be added"):
            merge(sums, partial(rows, other))
