"""``undertow path`` as a user calls it: what it prints, what it writes, and what it says of bad input."""

import json
import os
import subprocess
import sys

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
        (["here.csv"], "--task and --target COL"),
        (["missing.csv"], "'missing.csv': there is no such file"),
        (["missing.csv", "--task", "a", "--target", "b"], "'missing.csv': there is no such file"),
        (["folder.csv"], "is a directory"),
        (["radon", "--on-small", "raise"], "--on-small drop"),
        (["radon", "--on-small", "raise"], "--n-support 5 needs 6 rows"),
        (["mathachieve", "--features", "SES,Math"], "--features 'Math'"),
        (["mathachieve", "--features", "MathAch"], "--features holds 'MathAch', which is the target"),
        (["mathachieve", "--task", "schol"], "--task 'schol'"),
        (["mathachieve", "--target", "Math"], "--target 'Math'"),
        (["here.csv", "--task", "g", "--target", "y", "--on-constant", "drop"], "--no-intercept"),
        (["here.csv", "--task", "g", "--target", "zero"], "target 'zero' is 0 in all 24 rows"),
        (["here.csv", "--task", "g", "--target", "y", "--features", "zero,intercept"], "--on-constant keep"),
        (["mathachieve", "--target", "Math"], "MathAch"),
        (
            ["mathachieve", "--folds", "500"],
            "--folds 500: there are only 160 tasks, and a fold needs at least one. Use --folds <= 160",
        ),
        (["mathachieve", "--clip", "-1"], "--clip -1.0: it must be greater than 0. Use --clip inf for no limit."),
        (["mathachieve", "--n-support", "0"], "n-support"),
        (["mathachieve", "--on-small", "hide"], "--on-small='hide'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 3},{i},{i * i},0\n" for i in range(24))
    (tmp_path / "here.csv").write_text("g,intercept,y,zero\n" + rows)
    (tmp_path / "folder.csv").mkdir()
    output = run("path", *arguments, code=2)
    assert words in output
    assert "Traceback" not in output
    # Nothing is left behind where nothing was computed.
    assert {path.name for path in tmp_path.iterdir()} == {"here.csv", "folder.csv"}


def test_a_shipped_data_set_runs_by_default_and_says_what_it_left_out(tmp_path):
    output = run("path", "radon", "--draws", 1, "--folds", 2, "--out", tmp_path / "out")
    assert "left out: 46 of 85 tasks, which have fewer than 6 rows" in output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tasks_left_out"] == 46


@pytest.fixture
def bracketed(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["machine,load [kg],[bold]x[/bold],out [/]"]
    lines += [f"{i % 10:02d},{a:.3f},{b:.3f},{c:.3f}" for i, (a, b, c) in enumerate(rng.standard_normal((90, 3)))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    task, target = ("--task", "machine"), ("--target", "out [/]")
    return ["path", tmp_path / "t.csv", *task, *target, "--draws", 1, "--folds", 2, "--out", tmp_path / "out"]


def test_names_with_brackets_are_printed_as_they_are(bracketed):
    output = run(*bracketed)
    assert "target out [/]" in output
    assert "10 tasks (machine)" in output
    other = [*bracketed[:-1], bracketed[-1].parent / "other"]
    assert "--features '[bold]'" in run(*other, "--features", "[bold]", code=2)
    assert "'load [kg]'" in run(*other, "--features", "load", code=2)
    weights = pq.read_table(bracketed[-1] / "weights.parquet").to_pydict()
    assert weights["feature"] == ["load [kg]", "[bold]x[/bold]", "intercept"]


def test_no_number_is_cut_on_a_narrow_terminal(bracketed, monkeypatch):
    wide = run(*bracketed)
    summary = json.loads((bracketed[-1] / "summary.json").read_text())["strategies"]
    for columns in ("80", "60", "40", "20"):
        monkeypatch.setenv("COLUMNS", columns)
        narrow = run(*bracketed)
        assert "\u2026" not in narrow
        for strategy in summary.values():
            assert f"{strategy['held_out_mse_over_variance']:.4f}" in narrow
            assert f"{strategy['adapt_rate']:+.3g}" in narrow or strategy["adapt_rate"] == 0
        if columns in ("80",):
            assert narrow == wide


def test_clip_inf_is_no_limit(bracketed):
    assert "not clipped" in run(*bracketed, "--clip", "inf")
    assert json.loads((bracketed[-1] / "summary.json").read_text())["settings"]["clip"] is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "{}", '{"settings": 3}', "\xff"])
def test_a_summary_of_another_kind_is_no_result_of_ours(bracketed, content):
    folder = bracketed[-1]
    folder.mkdir()
    (folder / "summary.json").write_text(content, encoding="latin-1")
    assert "holds no results of this command" in run(*bracketed, code=2)
    assert (folder / "summary.json").read_text(encoding="latin-1") == content


def test_an_out_that_is_a_file_is_refused_at_once(bracketed, monkeypatch):
    (bracketed[-1].parent / "file").write_text("mine")
    monkeypatch.setattr("undertow.tasks.read_table", None)
    assert "is a file and not a directory" in run(*bracketed[:-1], bracketed[-1].parent / "file" / "out", code=2)


def test_names_beyond_ascii_on_an_ascii_terminal(bracketed):
    """A real process: the streams of a test runner are not those of a terminal."""
    file = bracketed[1]
    file.write_text(file.read_text().replace("out [/]", "\u03c3"), encoding="utf-8")
    arguments = [str(a) for a in bracketed]
    arguments[arguments.index("out [/]")] = "\u03c3"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "undertow", *arguments], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"target \\u03c3" in done.stdout
