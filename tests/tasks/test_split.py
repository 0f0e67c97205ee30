"""Folds, training and test tasks, several draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow import InputError
from undertow.tasks import GroupedTable, draws, folds, split_tasks


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 20, 300)
    return GroupedTable.from_arrays(rng.normal(size=(300, 2)), np.arange(300), groups)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 8), st.integers(0, 3), st.booleans())
def test_every_task_is_in_one_fold(m, n_folds, seed, balance):
    if n_folds > m:
        return
    rows = np.random.default_rng(seed).integers(1, 100, m) if balance else None
    parts = folds(m, n_folds, seed, rows=rows)
    assert len(parts) == n_folds
    assert sorted(np.concatenate(parts).tolist()) == list(range(m))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert (np.diff(part) > 0).all()
    if balance:
        totals = [rows[part].sum() for part in parts]
        assert max(totals) - min(totals) <= rows.max()


def test_rows_are_balanced_far_better_than_by_chance():
    rows = np.random.default_rng(0).integers(1, 1000, 200)
    spread = lambda parts: np.ptp([rows[part].sum() for part in parts])  # noqa: E731
    by_chance = np.median([spread(folds(200, 5, seed)) for seed in range(20)])
    assert max(spread(folds(200, 5, seed, rows=rows)) for seed in range(20)) < by_chance / 4


def test_dealing_forwards_and_backwards_evens_out():
    rows = np.arange(1, 101)
    assert [rows[part].sum() for part in folds(100, 5, 0, rows=rows)] == [1010] * 5


def test_folds_follow_the_seed():
    assert all(np.array_equal(a, b) for a, b in zip(folds(30, 4, 1), folds(30, 4, 1), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(folds(30, 4, 1), folds(30, 4, 2), strict=True))
    equal = np.ones(30)
    first, second = (folds(30, 4, seed, rows=equal) for seed in (1, 2))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_folds_by_id_do_not_depend_on_the_order_of_ids():
    ids = np.array(["d", "a", "c", "b", "f", "e", "g"])
    named = [set(ids[part]) for part in folds(ids, 3, 5)]
    other = ids[::-1]
    assert [set(other[part]) for part in folds(other, 3, 5)] == named
    in_order = np.sort(ids)
    assert [set(in_order[part]) for part in folds(7, 3, 5)] == named


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: folds(3, 5), ("n_folds=5", "only 3 tasks", "n_folds=3 or less")),
        (lambda: folds(1, 2), ("n_folds=2", "there is only one task", "folds need at least two")),
        (lambda: folds(3, 1), ("n_folds=1", "at least 2")),
        (lambda: folds(0, 2), ("tasks=0", "at least 1")),
        (lambda: folds(["a", "b", "a"], 2), ("'a' more than once", "number of tasks")),
        (lambda: folds(np.zeros((2, 2)), 2), ("tasks has",)),
        (lambda: folds([], 2), ("shape (0,)",)),
        (lambda: folds(4, 2, rows=[1, 2]), ("(2,)", "(4,)")),
        (lambda: folds(4, 2, seed=None), ("seed: it must be",)),
    ],
)
def test_bad_folds(call, parts):
    with pytest.raises(InputError) as error:
        call()
    for part in parts:
        assert part in str(error.value)


def test_training_and_test_tasks_share_none(table):
    train, test = split_tasks(table, 0.3, seed=2)
    assert test.n_tasks == 6
    assert not set(train.ids) & set(test.ids)
    assert set(train.ids) | set(test.ids) == set(table.ids)
    assert sorted(np.concatenate([train.rows, test.rows])) == list(range(300))
    # A batch splits alike, by its ids.
    batch_train, batch_test = split_tasks(table.draw(2), 0.3, seed=2)
    assert np.array_equal(batch_train.ids, train.ids)
    assert np.array_equal(batch_test.support_y, test.draw(2).support_y)
    # Ids decide, not places.
    backwards = table.draw(2).select(slice(None, None, -1))
    assert set(split_tasks(backwards, 0.3, seed=2)[1].ids) == set(test.ids)
    nameless = table.draw(2)._replace(ids=None)
    assert np.array_equal(split_tasks(nameless, 0.3, seed=2)[1].support_y, batch_test.support_y)


def test_both_sides_keep_a_task(table):
    two = table.select([0, 1])
    for share in (0.01, 0.99):
        train, test = split_tasks(two, share)
        assert (train.n_tasks, test.n_tasks) == (1, 1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 3.0])
def test_bad_share(table, share):
    with pytest.raises(InputError, match=rf"test_share={share}.*between 0 and 1"):
        split_tasks(table, share)


def test_one_task_cannot_be_split(table):
    with pytest.raises(InputError, match="only one task"):
        split_tasks(table.select([3]))


def test_draws_differ_repeat_and_do_not_depend_on_their_number(table):
    three = list(draws(table, 3, 3, seed=1, n_query=4))
    again = list(draws(table, 3, 5, seed=1, n_query=4))
    assert len(three) == 3
    assert len(again) == 5
    for one, two in zip(three, again, strict=False):
        assert np.array_equal(one.support_y, two.support_y)
        assert np.array_equal(one.query_y, two.query_y)
    assert len({batch.support_y.tobytes() for batch in again}) == 5
    assert all(batch.query_counts.max() == 4 for batch in three)
    assert not np.array_equal(three[0].support_y, next(draws(table, 3, 1, seed=2)).support_y)


def test_draws_leave_the_seed_sequence_as_it_was(table):
    root = np.random.SeedSequence(4, spawn_key=(9,))
    first = [batch.support_y for batch in draws(table, 2, 2, root)]
    second = [batch.support_y for batch in draws(table, 2, 2, root)]
    assert np.array_equal(first, second)
    assert root.n_children_spawned == 0
    assert not np.array_equal(first, [batch.support_y for batch in draws(table, 2, 2, 4)])


def test_draws_of_a_selection_agree_with_those_of_the_whole(table):
    part = table.select([2, 7])
    for whole, alone in zip(draws(table, 2, 3), draws(part, 2, 3), strict=True):
        assert np.array_equal(whole.support_y[[2, 7]], alone.support_y)


def test_draws_pass_options_on(table):
    batch = next(draws(table, 2, 1, dtype=np.float32))
    assert batch.support_x.dtype == np.float32
    with pytest.raises(InputError, match="n_draws=0"):
        draws(table, 2, 0)
