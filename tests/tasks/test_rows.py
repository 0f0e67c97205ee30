"""Rows of tasks as estimators read them, against those of a table."""

import numpy as np
import pytest
from made import table, task_rows

from undertow import InputError
from undertow.tasks import GroupedTable
from undertow.tasks.rows import TaskRows


@pytest.fixture
def data():
    return table(m=8, low=6, high=12, seed=3)


def test_rows_of_a_table_are_those_in_the_original_order(data):
    x, y, groups = data
    ours = task_rows(x, y, groups)
    theirs = TaskRows.of_table(GroupedTable.from_arrays(x, y, groups), ours.standard)
    np.testing.assert_array_equal(theirs.inputs(), ours.inputs())
    np.testing.assert_array_equal(theirs.y, ours.y)
    for one, other in zip(
        ours.draw(3, np.random.SeedSequence(5)), theirs.draw(3, np.random.SeedSequence(5)), strict=True
    ):
        for field, same in zip(one[0], other[0], strict=True):
            np.testing.assert_array_equal(field, same)


def test_a_draw_is_that_of_the_standardised_table(data):
    x, y, groups = data
    raw = GroupedTable.from_arrays(x, y, groups)
    z, _ = raw.standardized(target=True)
    rows = task_rows(x, y, groups)
    expected = {
        one: (s, q) for b in z.draw_buckets(3, 9) for one, s, q in zip(b.ids, b.support_y, b.query_y, strict=True)
    }
    seen = 0
    for batch, _, weight in rows.draw(3, np.random.SeedSequence(9)):
        np.testing.assert_array_equal(weight, batch.query_counts)
        for i, one in enumerate(batch.ids):
            support, query = expected[one]
            np.testing.assert_allclose(batch.support_y[i, :, 0], support, rtol=1e-12, atol=1e-12)
            real = batch.query_y[i, : batch.query_counts[i], 0]
            np.testing.assert_allclose(real, query[: len(real)], rtol=1e-12, atol=1e-12)
            seen += 1
    assert seen == 8


def test_a_selection_keeps_its_draws_and_its_rows(data):
    rows = task_rows(*data)
    some = rows.select([6, 1])
    assert list(some.ids) == [1, 6]
    ours, theirs = (part.split(3, np.random.SeedSequence(2)) for part in (some, rows))
    np.testing.assert_array_equal(some.rows[ours[0]], rows.rows[theirs[0][[1, 6]]])
    with pytest.raises(InputError, match="no task is selected"):
        rows.select([])
