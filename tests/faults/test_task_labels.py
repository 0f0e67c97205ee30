"""Two tasks never become one, nor one task two, without a word: as a list, an array, a frame, a file, out of core."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

import undertow as ut
from undertow.tasks import read_table

BIG = 2**64
LABELS = {
    "beyond 64 bits": [BIG, BIG + 1, BIG + 2, 5],
    "far below 0": [-BIG, -BIG - 1, 3, 4],
    "unsigned": [2**64 - 1, 2**64 - 2, 2**63, 1],
    "at the ends": [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1],
    "of 18 digits": [123456789012345678, 123456789012345679, 123456789012345680, 1],
    "of 18 digits in floats": [123456789012345678.0, 123456789012345696.0, 1.5, 2.5],
    "large among small": [1, 2, BIG, 2**53 + 1],
    "truth as text": ["true", "True", "TRUE", "false"],
    "truth": [True, False],
    "zeros": [-0.0, 1.0, 2.0],
    "zeros as text": ["-0.0", "0.0", "0", "1"],
    "leading zeros": ["01", "1", "001", "2"],
    "signs": ["+1", "1", "-1", "2"],
    "powers": ["1e3", "1000", "1E3", "2"],
    "points": ["1.0", "1", "1.", "2"],
    "spaces": [" a", "a", "a ", "b"],
    "accents": ["é", "e\u0301", "É", "x"],
    "ends in NUL": ["a\0", "a", "b"],
    "bytes": [b"a", b"a\0", b"b"],
    "missing words": ["n.a.", "None", "none", "x"],
    "hexadecimal": ["0x10", "16", "0b1", "1"],
    "digits in groups": ["1_000", "1000", "x"],
    "dates": ["2020-01-01", "2020-01-01T00:00", "2020-1-1", "2020-01-02"],
}
SEED = np.random.default_rng(0)


def of_groups(make):
    def tasks(groups, x, y, tmp_path):
        return len(ut.MAMLRegressor(n_support=3).fit(x[:, None], y, groups=make(groups)).task_ids_)

    return tasks


def of_frame(make):
    return lambda groups, x, y, tmp_path: read_table(make(groups, x, y), "g", "y").n_tasks


def written(groups, x, y, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("g,x,y\n" + "".join(f"{a},{b},{c}\n" for a, b, c in zip(groups, x, y, strict=True)))
    return file


def out_of_core(groups, x, y, tmp_path):
    pytest.importorskip("duckdb")
    return len(ut.scale.fit(ut.MAMLRegressor(n_support=3), written(groups, x, y, tmp_path), "g", "y").task_ids_)


READ = {
    "list": of_groups(list),
    "objects": of_groups(lambda groups: np.array(groups, dtype=object)),
    "pandas": of_frame(lambda g, x, y: pd.DataFrame({"g": pd.Series(g, dtype=object), "x": x, "y": y})),
    "polars": of_frame(lambda g, x, y: pl.DataFrame({"g": g, "x": x, "y": y}, strict=False)),
    "file": lambda g, x, y, tmp_path: read_table(written(g, x, y, tmp_path), "g", "y").n_tasks,
    "out of core": out_of_core,
}


@pytest.mark.parametrize("way", READ)
@pytest.mark.parametrize("name", LABELS)
def test_tasks_are_as_many_as_labels_or_refused(name, way, tmp_path):
    labels = LABELS[name]
    groups = [one for one in labels for _ in range(6)]
    x = SEED.standard_normal(len(groups))
    with warnings.catch_warnings():
        # That labels look alike is said; they are kept apart.
        warnings.simplefilter("ignore", UserWarning)
        try:
            found = READ[way](groups, x, x + SEED.standard_normal(len(groups)), tmp_path)
        except ut.InputError as error:
            assert name in ("of 18 digits in floats", "ends in NUL", "bytes", "missing words"), error  # noqa: PT017
            return
    assert found == len(labels)


@pytest.mark.parametrize("way", ["file", "out of core"])
def test_two_spellings_of_a_number_in_a_file_are_spoken_of(way, tmp_path):
    groups = [one for one in ("-0.0", "0.0", "1.5") for _ in range(6)]
    x = SEED.standard_normal(len(groups))
    with pytest.warns(UserWarning, match="are likely one task each, but are kept apart: '-0.0', '0.0'"):
        assert READ[way](groups, x, x + SEED.standard_normal(len(groups)), tmp_path) == 3
