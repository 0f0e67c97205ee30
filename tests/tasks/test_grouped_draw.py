"""draw() against a plain loop over tasks and rows, and what a draw promises."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow import InputError
from undertow._check import Setting
from undertow.tasks import GroupedTable, drawing

MASK = (1 << 64) - 1


def table_of(counts, seed=0, p=2):
    """A table of given counts, rows shuffled; x[:, 0] and y hold the original row number."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(size=(len(groups), p))
    x[:, 0] = np.arange(len(groups))
    return GroupedTable.from_arrays(x, np.arange(len(groups)), groups)


def finalise(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draw_by_loops(table, n_support, seed, n_query=None):
    """Support and query row numbers of each task, with Python integers and sorted()."""
    first, second = (int(word) for word in np.random.SeedSequence(seed).generate_state(2, np.uint64))
    support, query = [], []
    for task in range(table.n_tasks):
        rows = [int(r) for r in table.rows[table.offsets[task] : table.offsets[task + 1]]]
        keys = {r: finalise(finalise((r * 0x9E3779B97F4A7C15 + first) & MASK) ^ second) for r in rows}
        rows = sorted(rows, key=keys.__getitem__)
        support.append(rows[:n_support])
        rest = rows[n_support:]
        query.append(rest if n_query is None else rest[:n_query])
    return support, query


def drawn(batch):
    """Support and query row numbers of each task of a batch, read off its targets."""
    support = [list(map(int, row)) for row in batch.support_y]
    if batch.query_mask is None:
        return support, [list(map(int, row)) for row in batch.query_y]
    return support, [list(map(int, row[mask])) for row, mask in zip(batch.query_y, batch.query_mask, strict=True)]


ragged = st.lists(st.integers(3, 12), min_size=1, max_size=12)
options = st.tuples(st.integers(1, 2), st.integers(0, 5), st.none() | st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(ragged, options)
def test_draw_is_that_of_plain_loops(counts, option):
    n_support, seed, n_query = option
    table = table_of(counts, seed)
    batch = table.draw(n_support, seed, n_query).validate()
    assert drawn(batch) == draw_by_loops(table, n_support, seed, n_query)
    assert np.array_equal(batch.support_x[..., 0], batch.support_y)
    assert np.array_equal(batch.query_x[..., 0], batch.query_y)
    assert np.array_equal(batch.ids, table.ids)


@settings(max_examples=60, deadline=None)
@given(ragged, options)
def test_every_row_is_used_once_and_support_is_exact(counts, option):
    n_support, seed, _ = option
    table = table_of(counts, seed)
    batch = table.draw(n_support, seed)
    support, query = drawn(batch)
    used = Counter(row for rows in support + query for row in rows)
    assert used == Counter(range(sum(counts)))
    assert batch.support_x.shape == (len(counts), n_support, 2)
    assert list(batch.query_counts) == [count - n_support for count in counts]
    for task, (s, q) in enumerate(zip(support, query, strict=True)):
        assert set(s + q) == set(table.rows[table.offsets[task] : table.offsets[task + 1]].tolist())
    if batch.query_mask is not None:
        assert not batch.query_x[~batch.query_mask].any()
        assert not batch.query_y[~batch.query_mask].any()


@settings(max_examples=40, deadline=None)
@given(ragged, options, st.data())
def test_a_task_is_drawn_alike_whatever_else_is_there(counts, option, data):
    n_support, seed, n_query = option
    table = table_of(counts, seed)
    chosen = data.draw(st.lists(st.sampled_from(range(len(counts))), min_size=1, unique=True))
    whole = dict(zip(table.ids, zip(*drawn(table.draw(n_support, seed, n_query)), strict=True), strict=True))
    part = table.select(chosen)
    batch = part.draw(n_support, seed, n_query)
    assert list(part.ids) == sorted(chosen)
    for task, support, query in zip(batch.ids, *drawn(batch), strict=True):
        assert whole[task] == (support, query)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(3, 70), min_size=1, max_size=15), options)
def test_buckets_hold_the_same_draw_with_little_padding(counts, option):
    n_support, seed, n_query = option
    table = table_of(counts, seed)
    whole = dict(zip(table.ids, zip(*drawn(table.draw(n_support, seed, n_query)), strict=True), strict=True))
    seen = []
    for batch in table.draw_buckets(n_support, seed, n_query):
        batch.validate()
        assert batch.query_counts.max() < 2 * batch.query_counts.min()
        assert batch.query_y.size < 2 * batch.n_query_rows
        for task, support, query in zip(batch.ids, *drawn(batch), strict=True):
            assert whole[task] == (support, query)
            seen.append(task)
    assert sorted(seen) == list(table.ids)


def test_same_seed_same_rows_other_seed_other_rows():
    table = table_of([30] * 20)
    first, again, other = table.draw(5, 3), table.draw(5, 3), table.draw(5, 4)
    assert np.array_equal(first.support_y, again.support_y)
    assert np.array_equal(first.query_y, again.query_y)
    assert (first.support_y != other.support_y).mean() > 0.5


def test_smaller_support_is_the_start_of_a_larger_one():
    table = table_of([9, 14, 20])
    assert np.array_equal(table.draw(2, 1).support_y, table.draw(5, 1).support_y[:, :2])


def test_seed_sequences_and_generators_seed_a_draw():
    table = table_of([9, 14, 20])
    assert np.array_equal(table.draw(2, 7).support_y, table.draw(2, np.random.SeedSequence(7)).support_y)
    generator = np.random.default_rng(1)
    one, two = table.draw(2, generator), table.draw(2, generator)
    assert not np.array_equal(one.support_y, two.support_y)
    assert np.array_equal(one.support_y, table.draw(2, np.random.default_rng(1)).support_y)


def test_mask_is_none_where_tasks_are_alike():
    assert table_of([7, 7, 7]).draw(3).query_mask is None
    assert table_of([7, 9, 12]).draw(3, n_query=2).query_mask is None
    assert table_of([7, 9, 12]).draw(3).query_mask is not None


def test_n_query_is_the_most_a_task_gives():
    batch = table_of([4, 6, 9]).draw(3, n_query=4)
    assert list(batch.query_counts) == [1, 3, 4]


def test_float32_holds_the_same_rows():
    table = table_of([7, 9, 12])
    single, double = table.draw(3, 2, dtype="float32"), table.draw(3, 2)
    for name in ("support_x", "support_y", "query_x", "query_y"):
        assert getattr(single, name).dtype == np.float32
        assert np.array_equal(getattr(single, name), getattr(double, name).astype(np.float32))


@pytest.mark.parametrize("position", [0, 3, 11])
def test_each_row_is_support_equally_often(position):
    """Over seeds, a row is support with probability n_support / n: |z| < 4 in the binomial standard error."""
    n_support, n, seeds = 3, 12, 4000
    table = table_of([n])
    hits = sum(position in table.draw(n_support, seed).support_y[0] for seed in range(seeds))
    share = n_support / n
    z = (hits - seeds * share) / np.sqrt(seeds * share * (1 - share))
    assert abs(z) < 4


def test_two_rows_are_support_together_as_often_as_chance_has_it():
    """Neighbouring rows and neighbouring seeds do not pull each other along."""
    n_support, n, seeds = 4, 10, 4000
    table = table_of([n])
    member = np.array([np.isin(np.arange(n), table.draw(n_support, seed).support_y[0]) for seed in range(seeds)])
    both = n_support * (n_support - 1) / (n * (n - 1))
    error = np.sqrt(seeds * both * (1 - both))
    for gap in (1, 2, 5):
        assert abs((member[:, 0] & member[:, gap]).sum() - seeds * both) < 4 * error
    # Independent from one seed to the next: neighbouring products share a factor, hence the covariance s^3 - s^4.
    s = n_support / n
    along = (member[:-1, 0] & member[1:, 0]).sum()
    variance = (seeds - 1) * s**2 * (1 - s**2) + 2 * (seeds - 2) * (s**3 - s**4)
    assert abs(along - (seeds - 1) * s**2) < 4 * np.sqrt(variance)


def test_a_skewed_table_is_drawn_in_buckets_and_refused_in_one_batch():
    counts = [20_000] + [10] * 5000
    table = table_of(counts, p=3)
    batches = table.draw_buckets(5, seed=1)
    assert [batch.n_tasks for batch in batches] == [5000, 1]
    assert sum(batch.query_x.nbytes for batch in batches) <= 2 * table.x.nbytes
    assert sorted(np.concatenate([np.r_[b.support_y.ravel(), b.query_y.ravel()] for b in batches])) == list(
        range(table.n_rows)
    )
    with pytest.raises(InputError, match=r"5001 tasks with up to 19995 query rows.*GiB.*draw_buckets.*n_query"):
        table.draw(5, seed=1)
    assert table.draw(5, seed=1, n_query=5).query_x.shape == (5001, 5, 3)


def test_padding_is_judged_by_size_and_share():
    long, alike = np.array([95] + [5] * 20), np.array([7] + [5] * 20)
    drawing.refuse_padding(long, 3, np.float64)
    with pytest.raises(InputError, match="draw_buckets"):
        drawing.refuse_padding(long, 3, np.float64, most=1000)
    drawing.refuse_padding(alike, 3, np.float64, most=1000)


def test_small_tasks_are_named_or_left_out():
    table = table_of([3, 9, 2, 8])
    with pytest.raises(InputError) as error:
        table.draw(4)
    message = str(error.value)
    assert "2 of 4 tasks have fewer than 5 rows, one of them a query row (task 0 has 3, task 2 has 2)" in message
    assert (error.value.argument, error.value.value) == ("n_support", 4)
    assert Setting("on_small", "drop") in error.value.way_out
    kept = table.draw(4, on_small="drop")
    assert list(kept.ids) == [1, 3]
    assert drawn(kept) == drawn(table.select([1, 3]).draw(4))
    with pytest.raises(InputError, match=r"no task has 10 rows.*Ask for fewer rows"):
        table.draw(9, on_small="drop")
    with pytest.raises(InputError, match=r"7 of 7 .*task 4 has 1, \.\.\."):
        table_of([1] * 7).draw(1)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda t: t.draw(0), ("n_support=0", "at least 1")),
        (lambda t: t.draw(2, n_query=0), ("n_query=0", "at least 1")),
        (lambda t: t.draw(2, seed=None), ("seed: ", "whole number", "repeated")),
        (lambda t: t.draw(2, seed=-1), ("seed=-1", "at least 0")),
        (lambda t: t.draw(2, dtype="int8"), ("dtype='int8'", "float64 or float32")),
        (lambda t: t.draw(2, dtype="double trouble"), ("double trouble", "float64 or float32")),
        (lambda t: t.draw(2, on_small="skip"), ("on_small='skip'", "'raise', 'drop'")),
        (lambda t: t.select([0, 0]), ("tasks holds 0 2 times",)),
        (lambda t: t.select([5]), ("5 is out of bounds", "2 tasks")),
        (lambda t: t.select([True, False, True]), ("2 tasks",)),
        (lambda t: t.select([0.5]), ("integer", "2 tasks")),
        (lambda t: t.select([]), ("no task is selected",)),
        (lambda t: t.with_intercept().with_intercept(), ("'intercept'", "already")),
    ],
)
def test_bad_arguments(call, parts):
    with pytest.raises(InputError) as error:
        call(table_of([5, 6]))
    for part in parts:
        assert part in str(error.value)


def test_float32_that_would_overflow_is_refused():
    table = GroupedTable.from_arrays([[1e39], [1.0], [2.0]], [0.0, 1.0, 2.0], [0, 0, 0])
    with pytest.raises(InputError, match=r"cannot hold 1e\+39. Use float64"):
        table.draw(1, dtype=np.float32)
    assert table.draw(1).n_tasks == 1


def test_select_takes_slices_booleans_and_negative_numbers():
    table = table_of([3, 4, 5])
    assert list(table.select(slice(1, None)).ids) == [1, 2]
    assert list(table.select(np.array([True, False, True])).ids) == [0, 2]
    assert list(table.select([-1]).ids) == [2]
    assert list(table.select(1).ids) == [1]
    assert table.select(slice(None)) is table
    part = table.select([2, 0])
    assert list(part.counts) == [3, 5]
    assert np.array_equal(part.y, part.rows)


def test_a_table_says_what_it_is_and_cannot_be_written_to():
    table = table_of([3, 4, 5])
    assert repr(table) == "GroupedTable(3 tasks (task) of 3 to 5 rows, 12 rows, 2 features, target target)"
    assert (table.n_tasks, table.n_rows, table.n_features) == (3, 12, 2)
    assert list(table.groups) == [0] * 3 + [1] * 4 + [2] * 5
    with pytest.raises(ValueError, match="read-only"):
        table.x[0, 0] = 1.0
    batch = table.draw(1)
    batch.support_x[0, 0, 0] = 5.0


def test_an_intercept_comes_last():
    table = table_of([3, 4]).with_intercept()
    assert table.feature_names == ("x0", "x1", "intercept")
    assert (table.x[:, 2] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (([[1.0], [2.0]], [1.0], [0, 0]), ("(2, 1)", "(1,)")),
        (([1.0, 2.0], [1.0, 2.0], [0, 0]), ("(R, p)",)),
        ((np.zeros((0, 2)), [], []), ("none empty",)),
        (([[1.0], [np.nan]], [1.0, 2.0], [0, 0]), ("x[1, 0]", "not")),
        (([[1.0], [2.0]], [np.inf, 2.0], [0, 0]), ("y[0]",)),
        (([[1.0], [2.0]], [1.0, 2.0], np.array([0, "a"], dtype=object)), ("groups", "sorted")),
    ],
)
def test_from_arrays_says_what_does_not_fit(arguments, parts):
    with pytest.raises(InputError) as error:
        GroupedTable.from_arrays(*arguments)
    for part in parts:
        assert part in str(error.value)


def test_from_arrays_checks_names():
    with pytest.raises(InputError, match="2 distinct names"):
        GroupedTable.from_arrays([[1.0, 2.0]], [1.0], [0], feature_names=["a", "a"])
    assert GroupedTable.from_arrays([[1.0, 2.0]], [1.0], ["s"], feature_names=["a", "b"]).feature_names == ("a", "b")


@pytest.mark.long
def test_a_million_rows_are_drawn():
    rng = np.random.default_rng(0)
    table = GroupedTable.from_arrays(
        rng.normal(size=(1_000_000, 20)), np.zeros(1_000_000), rng.integers(0, 100_000, 1_000_000)
    )
    batch = table.draw(3, on_small="drop")
    assert batch.n_tasks > 98_000


@pytest.mark.parametrize("spread", [1, 1 << 40])
def test_rows_of_ragged_tasks_are_ordered_by_all_bits_of_their_keys(spread, monkeypatch):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, 40)
    # Keys that differ in their lowest bits alone, or in high ones too.
    keys = rng.permutation(int(counts.sum())).astype(np.uint64) * np.uint64(spread)
    monkeypatch.setattr(drawing, "row_keys", lambda seed, rows: keys)
    order = drawing.random_order(0, np.arange(len(keys)), counts)
    by_hand = [
        sorted(range(stop - n, stop), key=lambda i: int(keys[i]))
        for n, stop in zip(counts, counts.cumsum(), strict=True)
    ]
    assert order.tolist() == [i for task in by_hand for i in task]
