"""``undertow path`` on tables of many kinds: files of one's own, data sets of ours, and figures that are far apart."""

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from undertow.cli.path_output import _hundredths, _rates

from undertow.cli import app

RUN = CliRunner()


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_csv_file_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    shop = np.repeat([f"shop {i}" for i in range(12)], 9)
    price = rng.standard_normal(len(shop))
    sales = 3 - price + 0.1 * rng.standard_normal(len(shop))
    kind = np.where(rng.random(len(shop)) < 0.5, "a", "b")
    table = pa.table({"shop": shop, "price": price, "kind": kind, "sales": sales})
    from pyarrow import csv

    file = tmp_path / "my sales.csv"
    csv.write_csv(table, file)
    arguments = [
        "path",
        file,
        "--task",
        "shop",
        "--target",
        "sales",
        "--out",
        tmp_path / "out",
        "--folds",
        3,
        "--draws",
        1,
    ]
    output = run(*arguments, code=2)
    assert "kind" in output
    assert "--categories onehot" in output
    assert "2 features" in run(*arguments, "--categories", "onehot")
    assert "1 feature," in run(*arguments, "--features", "price", "--overwrite", "--no-intercept")
    weights = pq.read_table(tmp_path / "out" / "weights.parquet").to_pydict()
    assert weights["feature"] == ["price"]
    assert weights["step"][0] == pytest.approx(-1, abs=0.1)


def test_a_shipped_data_set_runs_by_default_and_says_what_it_left_out(tmp_path):
    output = run("path", "radon", "--draws", 1, "--folds", 2, "--out", tmp_path / "out")
    assert "left out: 46 of 85 tasks, which have fewer than 6 rows" in output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tasks_left_out"] == 46


def test_a_feature_of_a_data_set_of_ours_can_be_the_target_or_the_task(tmp_path):
    small = ["--draws", 1, "--folds", 2]
    output = run("path", "mathachieve", "--target", "SES", "--out", tmp_path / "a", *small)
    assert "8 features, target SES" in output
    assert "SES" not in pq.read_table(tmp_path / "a" / "weights.parquet")["feature"].to_pylist()
    output = run("path", "gapminder", "--task", "year", "--out", tmp_path / "b", *small)
    assert "tasks (year)" in output
    assert "--features holds 'SES'" in run("path", "mathachieve", "--target", "SES", "--features", "SES", code=2)


@pytest.mark.parametrize(
    ("name", "separator", "words"),
    [
        ("t.csv", ";", "parted by semicolons, and in a file of this name it must be commas"),
        ("t.csv", "\t", "name it .tsv"),
        ("t.csv.gz", "|", "parted by bars"),
        ("t.tsv", ",", "in a file of this name it must be tabs"),
    ],
)
def test_another_separator_is_named(tmp_path, name, separator, words):
    # The comma of decimal numbers, as in files with semicolons, must not hide it.
    value = "{},5" if separator == ";" else "{}.5"
    lines = [["g", "x", "y"]] + [[str(i % 3), value.format(i), value.format(i * i)] for i in range(30)]
    text = "\n".join(separator.join(line) for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert words in run("path", tmp_path / name, "--task", "g", "--target", "y", code=2)


def test_an_easy_table_shows_its_losses(tmp_path):
    rng = np.random.default_rng(0)
    shop = np.repeat(np.arange(12), 9)
    x = rng.standard_normal(len(shop))
    y = 3 * x + 1e-4 * rng.standard_normal(len(shop))
    rows = [f"{a},{b:.9f},{c:.9f}" for a, b, c in zip(shop, x, y, strict=True)]
    (tmp_path / "easy.csv").write_text("\n".join(["g,x,y", *rows]))
    small = ["--draws", 1, "--folds", 2, "--out", tmp_path / "o"]
    output = run("path", tmp_path / "easy.csv", "--task", "g", "--target", "y", *small)
    loss = json.loads((tmp_path / "o" / "summary.json").read_text())["strategies"]["signed"][
        "held_out_mse_over_variance"
    ]
    assert 0 < loss < 1e-6
    assert f"{loss:.3g}" in output
    assert "0.0000" not in output


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([0.5, -0.2, math.inf], "+0.5, -0.2, infinity"),
        ([0.25] * 11, "+0.25 each time"),
        ([math.inf, -math.inf] * 6, "infinity each time"),
        ([*np.linspace(-0.5, 2, 11)], "-0.5 to +2"),
        ([*np.linspace(3, 9, 6), *np.linspace(-9, -4, 6)], "+3 to -4 through infinity"),
        ([*np.linspace(3, 9, 11), math.inf], "+3 to infinity"),
        ([*np.linspace(-9, -3, 11), math.inf], "infinity to -3"),
        ([math.inf, 5.24, *[3.0] * 10], "+3 to infinity"),
    ],
)
def test_rates_of_folds_are_listed_or_held_by_the_smallest_arc(rates, words):
    assert _rates(rates) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.004, "+0.00 %"), (-3.21, "-3.21 %"), (9.996, "+10 %"), (123, "+123 %")]
)
def test_gains_of_the_table_are_whole_from_ten_up(value, words):
    assert _hundredths(value) == words
