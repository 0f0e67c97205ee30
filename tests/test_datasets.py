"""The data that come with the package: rows, names, terms, and the tables they were made from where at hand."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow import InputError, datasets, tasks

DATA = Path(__file__).parents[1].parent / "shared" / "data"
SIZES = {  # rows, tasks, fewest and most rows of a task, features
    "gapminder": (1704, 142, 12, 12, 3),
    "mathachieve": (7185, 160, 14, 67, 9),
    "parkinsons": (2946, 42, 51, 84, 17),
    "radon": (919, 85, 1, 116, 2),
}


def test_names():
    assert datasets.names() == tuple(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_each_is_whole(name):
    data = datasets.load(name)
    assert getattr(datasets, f"load_{name}")().table.equals(data.table)
    assert isinstance(data.table, pa.Table)
    assert data.name == name
    assert set(data.table.column_names) == {data.task, data.target, *data.features} == set(data.units)
    assert all(column.null_count == 0 for column in data.table.columns)
    for text in (data.source, data.licence, data.description):
        assert len(text) > 10
    rows, n_tasks, fewest, most, p = SIZES[name]
    table = tasks.read_table(data)
    assert (table.n_rows, table.n_tasks, table.counts.min(), table.counts.max(), table.n_features) == SIZES[name]
    assert (table.task, table.target, table.feature_names) == (data.task, data.target, data.features)
    assert repr(data).startswith(f"GroupedData({name}: {rows} rows, task {data.task}")
    batch = tasks.from_table(data, n_support=3, on_small="drop").validate()
    assert batch.n_features == p
    assert batch.n_tasks == (table.counts >= 4).sum() <= n_tasks
    assert fewest <= batch.support_counts[0] + batch.query_counts.max() == most


@pytest.mark.parametrize("name", SIZES)
def test_each_is_as_published(name):
    """Against the full tables: the same rows in the same order, under better names."""
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{name}.parquet is not at hand: it is the table that the package's own was made from")
    full = pq.read_table(path).to_pandas()
    if name == "parkinsons":
        full = full[full.groupby("task").cumcount() % 2 == 0]
    ours = datasets.load(name)
    own = ours.table.to_pandas()
    assert own[ours.task].astype(str).tolist() == full["task"].tolist()
    for theirs, column in zip([c for c in full if c != "task"], [*ours.features, ours.target], strict=True):
        # Theirs is in single precision; ours may be the decimal that it was rounded from.
        assert np.array_equal(own[column].to_numpy().astype(np.float32), full[theirs].to_numpy())


def test_files_are_small_and_nothing_else_is_there():
    folder = Path(str(files("undertow.datasets")))
    sizes = {path.stem: path.stat().st_size for path in folder.glob("*.parquet")}
    assert set(sizes) == set(SIZES)
    assert max(sizes.values()) < 200_000
    assert sum(sizes.values()) < 300_000


def test_terms_are_stated_for_each():
    text = files("undertow.datasets").joinpath("LICENSES.md").read_text(encoding="utf-8")
    sections = dict(part.split(".parquet", 1) for part in text.split("\n## ")[1:])
    assert set(sections) == set(SIZES)
    for name, section in sections.items():
        for word in ("**Source:**", "**Licence:**", "**Changes:**"):
            assert word in section
        licence = datasets.load(name).licence
        if licence.startswith("CC BY 4.0"):
            assert "Creative Commons Attribution 4.0" in section
            assert "**Attribution:**" in section
        else:
            assert "public domain" in section
            assert "public domain" in licence


def test_the_cut_of_parkinsons_is_stated_as_it_is():
    data = datasets.load_parkinsons()
    assert f"{data.table.num_rows:,} of 5,875" in data.description
    text = files("undertow.datasets").joinpath("LICENSES.md").read_text(encoding="utf-8")
    assert f"{data.table.num_rows:,} of 5,875" in text


def test_a_record_is_frozen():
    data = datasets.load_radon()
    with pytest.raises(AttributeError):
        data.task = "town"
    with pytest.raises(TypeError):
        data.units["county"] = "none"


def test_unknown_name():
    with pytest.raises(
        InputError, match=r"name='radom'.*gapminder, mathachieve, parkinsons, radon\. Did you mean 'radon'\?"
    ):
        datasets.load("radom")
    with pytest.raises(InputError, match=r"name='zzz'.*radon\.$"):
        datasets.load("zzz")


def test_names_do_not_wait_for_arrow():
    code = "import sys; from undertow import datasets; datasets.names(); assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_first_rows_are_the_published_ones():
    """A few values that anybody can look up."""
    radon = datasets.load_radon().table.slice(0, 1).to_pylist()[0]
    assert radon["county"] == 1
    assert radon["first_floor"] == 1
    assert np.isclose(np.exp(radon["log.radon"]), 2.2, rtol=1e-6, atol=0)
    assert np.isclose(np.exp(radon["log_uranium"]), 0.502054, rtol=1e-6, atol=0)
    country = datasets.load_gapminder().table.slice(0, 1).to_pylist()[0]
    assert (country["country"], country["year"], country["lifeExp"]) == ("Afghanistan", 1952, 28.801)
    assert np.isclose(np.exp(country["log_pop"]), 8_425_333, rtol=1e-6, atol=0)
    assert np.isclose(np.exp(country["log_gdp"]), 779.4453, rtol=1e-6, atol=0)
    pupil = datasets.load_mathachieve().table.slice(0, 1).to_pylist()[0]
    assert (pupil["school"], pupil["SES"], pupil["female"], pupil["MathAch"]) == (1224, -1.528, 1, 5.876)
