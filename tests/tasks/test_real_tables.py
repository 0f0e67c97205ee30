"""Real grouped data sets, where they are at hand: every one is read, standardised and drawn."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from undertow import InputError
from undertow.tasks import read_table

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NAMES = (
    "api_county",
    "carrots",
    "cheese",
    "chem97",
    "crime",
    "exam",
    "gapminder",
    "insteval",
    "mathachieve",
    "orthodont",
    "parkinsons",
    "radon",
    "sleepstudy",
)


@pytest.mark.parametrize("name", NAMES)
def test_real_table(name):
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{name}.parquet is not at hand: it is too large, or not free enough, to come with the package")
    about = json.loads(path.with_suffix(".json").read_text())
    table = read_table(path, about["task_column"], about["target_column"])
    assert table.n_rows == about["rows"]
    assert table.n_tasks == about["tasks"]
    assert list(table.feature_names) == about["features"]
    low = about["rows_per_task"]
    assert (table.counts.min(), np.median(table.counts), table.counts.max()) == (low["min"], low["median"], low["max"])

    raw = pq.read_table(path)
    assert Counter(raw.column(about["task_column"]).to_pylist()) == dict(
        zip(table.ids.tolist(), table.counts.tolist(), strict=True)
    )
    for j, feature in enumerate(table.feature_names):
        assert np.array_equal(table.x[:, j], raw.column(feature).to_numpy()[table.rows])

    z, standard = table.standardized()
    two = np.array([len(np.unique(column)) == 2 for column in table.x.T])
    assert np.abs(z.x[:, two]).max(initial=0) <= 4.0 + 1e-9
    assert standard.clipped(table.x).sum() == 0
    if table.counts.min() < 4:
        with pytest.raises(InputError, match=r"fewer than 4 rows, .*\(task .*on_small='drop'"):
            z.draw(3)
    batch = z.with_intercept().draw(3, on_small="drop").validate()
    large = table.counts[table.counts >= 4]
    assert batch.n_query_rows == (large - 3).sum()
    buckets = z.with_intercept().draw_buckets(3, on_small="drop")
    assert sum(bucket.n_query_rows for bucket in buckets) == batch.n_query_rows
