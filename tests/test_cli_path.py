"""``undertow path`` as a user calls it: what it prints, what it writes, and what it says of bad input."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.linear import compare_rates

RUN = CliRunner()


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path") / "results"
    return folder, run("path", "mathachieve", "--out", folder, "--draws", 2)


def test_the_table_and_the_verdict_are_printed(written):
    _, output = written
    for words in ("160 tasks (school)", "7185 rows", "no inner loop, then a step", "signed train rate", "spectral"):
        assert words in output


def test_what_is_written_is_what_the_library_gives(written):
    folder, output = written
    data, _ = ut.tasks.read_table(ut.datasets.load("mathachieve")).standardized(target=True)
    ours = compare_rates(data.with_intercept(), 5, n_draws=2)
    curve = pq.read_table(folder / "path.parquet").to_pydict()
    np.testing.assert_allclose(curve["cv_mse_over_variance"], 2 * ours.curve, rtol=1e-10)
    np.testing.assert_array_equal(curve["train_rate"], ours.surface.train_rates)
    losses = pq.read_table(folder / "held_out.parquet")
    assert losses.num_rows == 160
    np.testing.assert_allclose(losses["mse_over_variance_signed"], 2 * ours.task_losses[:, 3], rtol=1e-10)
    weights = pq.read_table(folder / "weights.parquet").to_pydict()
    assert weights["feature"][-1] == "intercept"
    np.testing.assert_allclose(weights["signed"], ours.weights["signed"], rtol=1e-8, atol=1e-10)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["verdict"] == ours.verdict
    assert ours.verdict in output
    assert summary["strategies"]["tied"]["train_rate"] == summary["strategies"]["tied"]["adapt_rate"] > 0
    assert summary["strategies"]["step"]["held_out_mse"] == pytest.approx(
        2 * ours.mean_loss("step")[0] * summary["target_variance"]
    )
    assert (folder / "figure.png").stat().st_size > 20_000
    assert "<svg" in (folder / "figure.svg").read_text()[:500]


def test_the_same_call_again_is_fine_and_other_settings_are_refused(written):
    folder, first = written
    assert run("path", "mathachieve", "--out", folder, "--draws", 2) == first
    output = run("path", "mathachieve", "--out", folder, "--draws", 2, "--seed", 1, code=2)
    assert "other seed" in output
    assert "--overwrite" in output
    (folder.parent / "mine").mkdir()
    (folder.parent / "mine" / "notes.txt").write_text("mine")
    assert "choose another --out" in run("path", "mathachieve", "--out", folder.parent / "mine", code=2)


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
    assert "1 features" in run(*arguments, "--features", "price", "--overwrite", "--no-intercept")
    weights = pq.read_table(tmp_path / "out" / "weights.parquet").to_pydict()
    assert weights["feature"] == ["price"]
    assert weights["step"][0] == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "one of gapminder, mathachieve, parkinsons, radon"),
        (["missing.csv"], "--task and --target COL"),
        (["missing.csv", "--task", "a", "--target", "b"], "missing.csv"),
        (["radon"], "--on-small drop"),
        (["mathachieve", "--target", "Math"], "MathAch"),
        (["mathachieve", "--folds", "500"], "n_folds=500"),
        (["mathachieve", "--clip", "-1"], "clip=-1.0"),
        (["mathachieve", "--n-support", "0"], "n-support"),
        (["mathachieve", "--on-small", "hide"], "--on-small='hide'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = run("path", *arguments, code=2)
    assert words in output
    assert "Traceback" not in output
