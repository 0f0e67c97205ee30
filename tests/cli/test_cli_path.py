"""``undertow path`` as a user calls it: what it prints, what it writes, and what it says of bad input."""

import json
import math
import os
import shlex
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner
from undertow.choice.rate_comparison import compare_rates

import undertow as ut
from undertow.choice.words import describe
from undertow.cli import app
from undertow.cli.saved_model import Columns, load_model

RUN = CliRunner()


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def fitted(raw, folds, draws, **settings):
    """The estimator on the rows of a table in their own order."""
    order = np.argsort(raw.rows)
    estimator = ut.MAMLRegressorCV(5, folds, n_draws=draws, **settings)
    return estimator.fit(raw.x[order], raw.y[order], groups=raw.groups[order])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path") / "results"
    return folder, run("path", "mathachieve", "--out", folder, "--draws", 2, "--folds", 3)


def test_the_table_and_the_verdict_are_printed(written):
    _, output = written
    for words in ("160 tasks (school)", "7185 rows", "no inner loop, then a step", "signed train rate", "spectral"):
        assert words in output


def test_what_is_written_is_what_the_library_gives(written):
    folder, _ = written
    data, _ = ut.tasks.read_table(ut.datasets.load("mathachieve")).standardized(target=True)
    ours = compare_rates(data.with_intercept(), 5, n_draws=2, n_folds=3)
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
    assert summary["strategies"]["tied"]["train_rate"] == summary["strategies"]["tied"]["adapt_rate"] > 0
    assert summary["strategies"]["step"]["held_out_mse"] == pytest.approx(
        2 * ours.mean_loss("step")[0] * summary["target_variance"]
    )
    assert (folder / "figure.png").stat().st_size > 20_000
    assert "<svg" in (folder / "figure.svg").read_text()[:500]


def test_the_verdict_is_the_estimators_and_the_only_one(written):
    folder, output = written
    raw = ut.tasks.read_table(ut.datasets.load("mathachieve"))
    choice = fitted(raw, 3, 2).choice_
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["choice"] == json.loads(json.dumps(choice.to_dict()))
    assert summary["verdict"] == choice.verdict
    lines = output.splitlines()
    [line] = [line for line in lines if line.startswith("verdict: ")]
    assert line.lower() == f"verdict: {choice.verdict}. {choice.explanation}".lower()
    # It leads: only what was read comes before it.
    assert lines.index(line) == 3
    data, _ = raw.standardized(target=True)
    assert compare_rates(data.with_intercept(), 5, n_draws=2, n_folds=3).verdict not in output
    assert f"adaptation: {describe(choice.strategy)} gains {choice.best_gains['joint'].percent:+.2g} %" in output


def test_a_gain_is_positive_where_the_loss_is_lower(written):
    _, output = written
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("on held-out tasks"))
    joint, step, tied, signed = ([float(x) for x in line.replace("%", "").split() if x[-1].isdigit()]
                                 for line in lines[start + 1 : start + 5])  # fmt: skip
    assert len(step) == 2
    for loss, _, gain, _ in (joint, tied, signed):
        assert gain == pytest.approx(100 * (step[0] - loss) / step[0], abs=0.02)
    assert joint[2] < -0.3


def test_the_limits_of_stability_are_printed_before_anything_is_fitted(written, tmp_path, monkeypatch):
    folder, first = written

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("undertow.choice.compare_rates", interrupted)
    output = run("path", "mathachieve", "--out", tmp_path / "out", "--draws", 2, "--folds", 3, code=130)
    [line] = [line for line in output.splitlines() if line.startswith("stable adapt rates: ")]
    assert line in first
    raw = ut.tasks.read_table(ut.datasets.load("mathachieve"))
    tasks = raw.standardized()[0].with_intercept().draw(5, np.random.SeedSequence(0, spawn_key=(0,)))
    limits = np.array([2 * 5 / np.linalg.norm(x, 2) ** 2 for x in tasks.support_x])
    assert f"below {limits.min():.3g} in the least stable task, {np.median(limits):.3g} in the median one" in line
    stored = pq.read_table(folder / "held_out.parquet")["stable_adapt_rate"]
    np.testing.assert_allclose(stored, limits, rtol=1e-9)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stable_adapt_rate"]["least"] == pytest.approx(limits.min())


def test_the_same_call_again_is_fine_and_other_settings_are_refused(written):
    folder, first = written
    assert run("path", "mathachieve", "--out", folder, "--draws", 2, "--folds", 3) == first
    output = run("path", "mathachieve", "--out", folder, "--draws", 2, "--folds", 3, "--seed", 1, code=2)
    assert "other seed" in output
    assert "--overwrite" in output
    (folder.parent / "mine").mkdir()
    (folder.parent / "mine" / "notes.txt").write_text("mine")
    output = run("path", "mathachieve", "--out", folder.parent / "mine", code=2)
    assert "choose another --out, or give --overwrite" in output


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
    # What is written does not depend on the terminal, and drawing takes most of the time.
    monkeypatch.setattr("undertow.cli.path_output.write_results", lambda *_: None)
    for columns in ("80", "40", "20"):
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


def test_without_intercept_the_verdict_is_about_the_same_problem_as_the_tables(bracketed):
    run(*bracketed, "--no-intercept")
    summary = json.loads((bracketed[-1] / "summary.json").read_text())
    raw = ut.tasks.read_table(bracketed[1], "machine", "out [/]")
    data, _ = raw.standardized(target=True)
    own = {"standardize": False, "clip": None, "fit_intercept": False}
    choice = fitted(data, 2, 1, **own).choice_
    assert summary["choice"]["losses"]["step"] == pytest.approx(list(choice.losses["step"]))


def test_a_saved_model_predicts_raw_rows_and_knows_its_columns(bracketed, tmp_path):
    file = tmp_path / "m.safetensors"
    output = run(*bracketed, "--save", file)
    model, columns = load_model(file)
    assert f"model: {file} ({model.rule_}, fitted to all 10 tasks)" in output
    assert columns == Columns("machine", "out [/]", {})
    assert model.feature_names_in_.tolist() == ["load [kg]", "[bold]x[/bold]"]
    raw = ut.tasks.read_table(bracketed[1], "machine", "out [/]")
    ours = fitted(raw, 2, 1)
    del model.feature_names_in_
    np.testing.assert_array_equal(model.predict(raw.x), ours.predict(raw.x))
    np.testing.assert_array_equal(
        model.adapt(raw.x[:4], raw.y[:4]).predict(raw.x), ours.adapt(raw.x[:4], raw.y[:4]).predict(raw.x)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "out", "m.safetensors"}


def test_no_file_is_lost_to_save_or_report(bracketed, tmp_path, monkeypatch):
    file = tmp_path / "m.safetensors"
    file.write_text("mine")
    read = "undertow.tasks.read_table"
    with monkeypatch.context() as patched:
        # Nothing may be computed before it is refused.
        patched.setattr(read, None)
        assert "is there already" in run(*bracketed, "--save", file, code=2)
        (tmp_path / "r.html").write_text("mine")
        assert "is there already" in run(*bracketed, "--report", tmp_path / "r.html", code=2)
        assert "must end in .safetensors" in run(*bracketed, "--save", tmp_path / "m.csv", code=2)
        assert "must end in .html" in run(*bracketed, "--report", tmp_path / "r.pdf", code=2)
        assert "no directory" in run(*bracketed, "--save", tmp_path / "none" / "m.safetensors", code=2)
        assert "leave --no-intercept out" in run(
            *bracketed, "--save", tmp_path / "n.safetensors", "--no-intercept", code=2
        )
    assert file.read_text() == "mine"
    run(*bracketed, "--save", file, "--overwrite")
    first = file.read_bytes()
    # The same command may write its own file again, and no other one.
    run(*bracketed, "--save", file)
    assert file.read_bytes() == first
    (tmp_path / "n.safetensors").write_text("mine")
    assert "is there already" in run(*bracketed, "--save", tmp_path / "n.safetensors", code=2)
    assert (tmp_path / "n.safetensors").read_text() == "mine"


def test_a_file_of_ours_is_known_again_after_a_run_without_it(bracketed, tmp_path, monkeypatch):
    def written(file, **_):
        file.write_text("report")

    monkeypatch.setattr("undertow.report.extra.require", lambda: None)
    monkeypatch.setattr("undertow.report.write_path_report", written)
    # Drawing takes most of the time.
    monkeypatch.setattr("undertow.plots.comparison_figure", lambda *_: Figure())
    model, report = tmp_path / "m.safetensors", tmp_path / "r.html"
    run(*bracketed, "--save", model)
    run(*bracketed)
    run(*bracketed, "--report", report)
    run(*bracketed, "--overwrite")
    elsewhere = json.loads((bracketed[-1] / "summary.json").read_text())["files_elsewhere"]
    assert elsewhere == {"model": str(model), "report": str(report)}
    run(*bracketed, "--save", model, "--report", report)
    # With other settings the file is not what these would have written.
    run(*bracketed, "--seed", 1, "--overwrite")
    assert json.loads((bracketed[-1] / "summary.json").read_text())["files_elsewhere"] == {}
    output = run(*bracketed, "--seed", 1, "--save", model, code=2)
    assert "does not say that it was written with these settings" in output


def test_figure_summary_and_table_all_give_the_gain(written):
    folder, output = written
    summary = json.loads((folder / "summary.json").read_text())["strategies"]
    assert summary["step"]["gain_over_no_inner_loop_percent"] == 0
    base = summary["step"]["held_out_mse_over_variance"]
    text = (folder / "figure.svg").read_text()
    assert "gain over no inner loop" in text
    assert "change of held-out loss" not in text
    for one in summary.values():
        gain, error = one["gain_over_no_inner_loop_percent"], one["standard_error_of_gain_percent"]
        assert gain == pytest.approx(100 * (base - one["held_out_mse_over_variance"]) / base)
        assert gain == pytest.approx(-100 * one["difference_from_no_inner_loop"] / base)
        assert error == pytest.approx(100 * one["standard_error_of_difference"] / base)
    assert f"{summary['joint']['gain_over_no_inner_loop_percent']:+.2f} %" in output


def test_a_report_needs_its_extra_before_anything_is_read(bracketed, tmp_path, monkeypatch):
    monkeypatch.setattr("undertow.tasks.read_table", None)
    monkeypatch.setattr("undertow.report.extra.find_spec", lambda name: None)
    assert 'pip install "undertow[report]"' in run(*bracketed, "--report", tmp_path / "r.html", code=2)


def test_a_report_gets_what_was_computed(bracketed, tmp_path, monkeypatch):
    seen = {}

    def written(file, **given):
        seen.update(given, file=file)

    monkeypatch.setattr("undertow.report.extra.require", lambda: None)
    monkeypatch.setattr("undertow.report.write_path_report", written)
    assert f"report: {tmp_path / 'r.html'}" in run(*bracketed, "--clip", "inf", "--report", tmp_path / "r.html")
    assert seen["file"] == tmp_path / "r.html"
    assert seen["raw"].n_features == 2
    assert seen["scaling"].clip is None
    assert seen["stability"].shape == (10,)
    assert seen["comparison"].verdict
    assert seen["estimator"].choice_.n_tasks == 10
    assert seen["settings"]["draws"] == 1
    words = shlex.split(seen["command"])
    assert words[:3] == ["undertow", "path", str(bracketed[1])]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given["--target"] == "out [/]"
    assert given["--draws"] == "1"
    assert math.isinf(float(given["--clip"]))
    assert "--seed" not in given


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
