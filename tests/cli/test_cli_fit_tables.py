"""``undertow fit`` on tables of many kinds: files of one's own, data sets of ours, and figures that are far apart."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

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
        "fit",
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
    assert "2 features" in run(*arguments, "--categories", "onehot")
    assert "1 feature," in run(*arguments, "--features", "price", "--overwrite")
    weights = pq.read_table(tmp_path / "out" / "weights.parquet").to_pydict()
    assert weights["feature"] == ["price", "intercept"]
    assert weights["weight"] == pytest.approx([-1, 3], abs=0.1)


def test_a_shipped_data_set_runs_by_default_and_says_what_it_left_out(tmp_path):
    output = run("fit", "radon", "--draws", 1, "--folds", 3, "--out", tmp_path / "out")
    assert "46 of 85 tasks left out (fewer than 6 rows)" in " ".join(output.split())
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tasks_left_out"] == 46


@pytest.mark.long
def test_a_feature_of_a_data_set_of_ours_can_be_the_target_or_the_task(tmp_path):
    small = ["--draws", 1, "--folds", 3]
    output = run("fit", "mathachieve", "--target", "SES", "--out", tmp_path / "a", *small)
    assert "8 features, target SES" in output
    assert "SES" not in pq.read_table(tmp_path / "a" / "weights.parquet")["feature"].to_pylist()
    output = run("fit", "gapminder", "--task", "year", "--out", tmp_path / "b", *small)
    assert "tasks (year)" in output
    assert "SES" in run("fit", "mathachieve", "--target", "SES", "--features", "SES", "--out", tmp_path / "c", code=2)


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ";"), ("t.csv.gz", "|"), ("t.tsv", ",")])
@pytest.mark.long
def test_another_separator_is_recognised_and_said(tmp_path, monkeypatch, name, separator):
    monkeypatch.chdir(tmp_path)
    # The comma of decimal numbers, as in files with semicolons, must not hide it.
    value = "{},5" if separator == ";" else "{}.5"
    lines = [["g", "x", "y"]] + [[str(i % 3), value.format(i), value.format(i * i)] for i in range(30)]
    text = "\n".join(separator.join(line) for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    output = run("fit", name, "--task", "g", "--target", "y", "--draws", 1, "--folds", 3)
    assert "30 rows, 1 feature, target y" in output
    assert "columns parted by" in output
    wrong = run("fit", name, "--task", "g", "--target", "y", "--sep", "x", "--overwrite", code=2)
    assert "--task g: " in wrong or "cannot be read" in wrong


def test_an_easy_table_shows_its_losses(tmp_path):
    rng = np.random.default_rng(0)
    shop = np.repeat(np.arange(12), 9)
    x = rng.standard_normal(len(shop))
    y = 3 * x + 1e-4 * rng.standard_normal(len(shop))
    rows = [f"{a},{b:.9f},{c:.9f}" for a, b, c in zip(shop, x, y, strict=True)]
    (tmp_path / "easy.csv").write_text("\n".join(["g,x,y", *rows]))
    small = ["--draws", 1, "--folds", 3, "--out", tmp_path / "o"]
    output = run("fit", tmp_path / "easy.csv", "--task", "g", "--target", "y", *small)
    loss = json.loads((tmp_path / "o" / "summary.json").read_text())["choice"]["candidates"]["signed"]["mse"]
    assert 0 < loss < 1e-6
    assert f"{loss:.3g}" in output
    assert " 0.0000" not in output
