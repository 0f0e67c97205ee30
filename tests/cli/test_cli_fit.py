"""``undertow fit`` as a user calls it: what it prints, what it writes, and what it says of bad input."""

import json
import math
import os
import shlex
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from undrawn import drawing

import undertow as ut
from undertow.choice import words
from undertow.cli import app
from undertow.cli.saved_model import Columns, load_model
from undertow.estimators.summary import summary_of

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


SMALL = ("gapminder", "--draws", 1, "--folds", 3, "--effort", "fast")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "results"
    with drawing():
        return folder, run("fit", *SMALL, "--out", folder)


@pytest.fixture(scope="module")
def model():
    return fitted(ut.tasks.read_table(ut.datasets.load("gapminder")), 3, 1, effort="fast")


@pytest.mark.long
def test_what_is_printed_is_what_the_estimator_says(written, model):
    _, output = written
    choice, text = model.choice_, " ".join(output.split())
    for said in (words.recommendation(choice), words.verdict_sentence(choice), "142 tasks (country)", "1704 rows"):
        assert said in text
    lines = output.splitlines()
    assert len(lines) <= 24
    # Paths of a temporary folder are long.
    assert max(map(len, lines[:-1])) <= 110
    for row in words.rows(choice):
        [line] = [line for line in lines if line.startswith(row.strategy)]
        assert line.endswith(" ".join((row.adapt, row.part)).strip())
        assert f"{row.mse}  " in line
        assert row.interval in line


def test_what_is_written_is_what_the_estimator_holds(written, model):
    folder, _ = written
    choice = model.choice_
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["choice"] == json.loads(json.dumps(choice.to_dict()))
    curve = pq.read_table(folder / "curve.parquet").to_pydict()
    np.testing.assert_array_equal(curve["cv_mse_over_variance"], choice.curve.mse)
    # Infinity is one point, and is written in one way.
    infinite = [rate for rate in curve["train_rate_spectral"] if math.isinf(rate)]
    assert infinite == [math.inf]
    strategies = pq.read_table(folder / "strategies.parquet").to_pydict()
    assert strategies["strategy"] == list(choice.candidates)
    assert strategies["mse_over_variance"] == [one.mse for one in choice.candidates.values()]
    assert (
        strategies["train_rate_spectral"][strategies["strategy"].index("signed")]
        == choice.signed["train_rate_spectral"]
    )
    losses = pq.read_table(folder / "held_out.parquet")
    assert losses.num_rows == 142
    rows = np.array(losses["query_rows"])
    for name, one in choice.candidates.items():
        assert rows @ np.array(losses[f"mse_over_variance_{name}"]) / rows.sum() == pytest.approx(one.mse)
    weights = pq.read_table(folder / "weights.parquet").to_pydict()
    assert weights["feature"][-1] == "intercept"
    np.testing.assert_array_equal(weights["weight"], [*model.coef_, model.intercept_])
    found = model.summary()
    assert weights["standard_error"][:-1] == [one.standard_error for one in found.coefficients[:-1]]
    tasks = pq.read_table(folder / "tasks.parquet")
    assert tasks["task"].to_pylist() == model.task_ids_.tolist()
    np.testing.assert_array_equal(tasks[weights["feature"][0]], model.task_coef_[:, 0])
    named = summary_of(model.model_, weights["feature"][:-1], choice, model.n_support)
    assert (folder / "summary.txt").read_text() == f"{named}\n"
    assert (folder / "figure.png").stat().st_size > 20_000
    assert "<svg" in (folder / "figure.svg").read_text()[:500]


def test_stable_rates_are_those_of_the_drawn_rows(written):
    folder, output = written
    raw = ut.tasks.read_table(ut.datasets.load("gapminder"))
    tasks = raw.standardized()[0].with_intercept().draw(5, np.random.SeedSequence(0, spawn_key=(0,)))
    limits = np.array([2 * 5 / np.linalg.norm(x, 2) ** 2 for x in tasks.support_x])
    held_out = pq.read_table(folder / "held_out.parquet")
    of_task = dict(zip(held_out["task"].to_pylist(), held_out["stable_adapt_rate"].to_pylist(), strict=True))
    np.testing.assert_allclose([of_task[task] for task in tasks.ids.tolist()], limits, rtol=1e-9)
    scale = json.loads((folder / "summary.json").read_text())["choice"]["scale"]
    assert f"stable below {np.median(limits) / scale:.3g}" in " ".join(output.split())


@pytest.mark.long
def test_the_same_call_again_is_fine_and_other_settings_are_refused(written):
    folder, first = written
    assert run("fit", *SMALL, "--out", folder) == first
    output = run("fit", *SMALL, "--out", folder, "--seed", 1, code=2)
    assert "other seed" in output
    assert "--overwrite" in output
    (folder.parent / "mine").mkdir()
    (folder.parent / "mine" / "notes.txt").write_text("mine")
    output = run("fit", *SMALL, "--out", folder.parent / "mine", code=2)
    assert "Choose another --out, or give --overwrite" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "one of gapminder, mathachieve, parkinsons, radon"),
        (["here.csv"], "--task COL and --target COL"),
        (["missing.csv"], "'missing.csv': there is no such file"),
        (["missing.csv", "--task", "a", "--target", "b"], "'missing.csv': there is no such file"),
        (["folder.csv"], "--task COL and --target COL"),
        (["here.csv", "--task", "g", "--target", "zero"], "--target zero: it is 0 in all 24 rows"),
        (["radon", "--on-small", "raise"], "6 rows"),
        (["mathachieve", "--features", "SES,Math"], "Math"),
        (["mathachieve", "--features", "MathAch"], "is the target"),
        (["mathachieve", "--task", "schol"], "schol"),
        (["mathachieve", "--target", "Math"], "MathAch"),
        (["https://example.org/t.csv"], "Download it first"),
        (["here.cvs", "--task", "g", "--target", "y"], "Did you mean 'here.csv'?"),
        (["here.csv", "--task", "g", "--target", "y", "--order", "y"], "--order y: it is the target"),
        (["here.csv", "--task", "g", "--target", "y", "--sep", ";"], "are parted by commas. Leave it out."),
        (["here.csv", "--task", "g", "--target", "y", "--n-support", "8"], "no task has 9 rows"),
        (["here.csv", "--task", "g", "--target", "y", "--effort", "fats"], "Did you mean 'fast'?"),
        (["mathachieve", "--clip", "-1"], "it must be greater than 0"),
        (["mathachieve", "--n-support", "0"], "n-support"),
        (["mathachieve", "--on-small", "hide"], "--on-small hide: choose one of"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 3},{i},{i * i},0\n" for i in range(24))
    (tmp_path / "here.csv").write_text("g,intercept,y,zero\n" + rows)
    (tmp_path / "folder.csv").mkdir()
    output = run("fit", *arguments, code=2)
    assert said in output
    assert "Traceback" not in output
    # Nothing is left behind where nothing was computed.
    assert {path.name for path in tmp_path.iterdir()} == {"here.csv", "folder.csv"}


def test_a_slip_comes_before_results_that_are_there(tmp_path):
    (tmp_path / "t.csv").write_text("g,x,y\n" + "".join(f"{i % 4},{i % 7},{i}\n" for i in range(40)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    job = ["fit", tmp_path / "t.csv", "--task", "g", "--out", tmp_path / "out"]
    assert "Did you mean 'y'?" in run(*job, "--target", "Y", code=2)
    assert "--overwrite" in run(*job, "--target", "y", code=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.fixture
def bracketed(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["machine,load [kg],[bold]x[/bold],out [/]"]
    lines += [f"{i % 10:02d},{a:.3f},{b:.3f},{c:.3f}" for i, (a, b, c) in enumerate(rng.standard_normal((90, 3)))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    task, target = ("--task", "machine"), ("--target", "out [/]")
    return ["fit", tmp_path / "t.csv", *task, *target, "--draws", 1, "--folds", 3, "--out", tmp_path / "out"]


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_names_with_brackets_are_printed_as_they_are(bracketed):
    output = run(*bracketed)
    assert "target out [/]" in output
    assert "10 tasks (machine)" in output
    other = [*bracketed[:-1], bracketed[-1].parent / "other"]
    assert "[bold]" in run(*other, "--features", "[bold]", code=2)
    assert "'load [kg]'" in run(*other, "--features", "load", code=2)
    weights = pq.read_table(bracketed[-1] / "weights.parquet").to_pydict()
    assert weights["feature"] == ["load [kg]", "[bold]x[/bold]", "intercept"]


@pytest.mark.long
def test_no_number_is_cut_on_a_narrow_terminal(bracketed, monkeypatch):
    run(*bracketed)
    choice = json.loads((bracketed[-1] / "summary.json").read_text())["choice"]
    # What is written does not depend on the terminal, and drawing takes most of the time.
    monkeypatch.setattr("undertow.cli.fit_output.write_results", lambda *_: "")
    for columns in ("80", "40", "20"):
        monkeypatch.setenv("COLUMNS", columns)
        narrow = run(*bracketed)
        assert "\u2026" not in narrow
        for one in choice["candidates"].values():
            assert words.share(one["mse"]) in narrow
            if one["settings"].get("adapt_rate_spectral"):
                assert words.rate(one["settings"]["adapt_rate_spectral"]) in narrow


@pytest.mark.long
def test_clip_inf_is_no_limit(bracketed):
    assert "clipped at 1 s.d." in run(*bracketed, "--clip", "1", "--overwrite")
    assert "clipped" not in run(*bracketed, "--clip", "inf", "--overwrite")
    assert json.loads((bracketed[-1] / "summary.json").read_text())["settings"]["clip"] is None


def test_a_saved_model_predicts_raw_rows_and_knows_its_columns(bracketed, tmp_path):
    file = tmp_path / "m.safetensors"
    output = run(*bracketed, "--save", file)
    model, columns = load_model(file)
    assert f"model {file}" in " ".join(output.split())
    assert columns == Columns("machine", "out [/]", {})
    assert model.feature_names_in_.tolist() == ["load [kg]", "[bold]x[/bold]"]
    raw = ut.tasks.read_table(bracketed[1], "machine", "out [/]")
    ours = fitted(raw, 3, 1)
    del model.feature_names_in_
    np.testing.assert_array_equal(model.predict(raw.x), ours.predict(raw.x))
    np.testing.assert_array_equal(
        model.adapt(raw.x[:4], raw.y[:4]).predict(raw.x), ours.adapt(raw.x[:4], raw.y[:4]).predict(raw.x)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "out", "m.safetensors"}


@pytest.mark.long
def test_no_file_is_lost_to_save_or_report(bracketed, tmp_path, monkeypatch):
    file = tmp_path / "m.safetensors"
    file.write_text("mine")
    with monkeypatch.context() as patched:
        # Nothing may be fitted before it is refused.
        patched.setattr("undertow.cli.fit_model.fit_estimator", None)
        assert "is there already" in run(*bracketed, "--save", file, code=2)
        (tmp_path / "r.html").write_text("mine")
        assert "is there already" in run(*bracketed, "--report", tmp_path / "r.html", code=2)
        assert "must end in .safetensors" in run(*bracketed, "--save", tmp_path / "m.csv", code=2)
        assert "must end in .html" in run(*bracketed, "--report", tmp_path / "r.pdf", code=2)
        assert "no directory" in run(*bracketed, "--save", tmp_path / "none" / "m.safetensors", code=2)
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
    def written(file, *_):
        file.write_text("report")

    monkeypatch.setattr("undertow.report.extra.require", lambda: None)
    monkeypatch.setattr("undertow.report.write_fit_report", written)
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


def test_a_report_needs_its_extra_before_anything_is_read(bracketed, tmp_path, monkeypatch):
    monkeypatch.setattr("undertow.tasks.read_table", None)
    monkeypatch.setattr("undertow.report.extra.find_spec", lambda name: None)
    assert 'pip install "undertow[report]"' in run(*bracketed, "--report", tmp_path / "r.html", code=2)


def test_a_report_gets_what_was_computed(bracketed, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("undertow.report.extra.require", lambda: None)
    monkeypatch.setattr("undertow.report.write_fit_report", lambda *given: seen.extend(given))
    output = run(*bracketed, "--clip", "inf", "--report", tmp_path / "r.html")
    assert f"report {tmp_path / 'r.html'}" in " ".join(output.split())
    file, name, raw, estimator, stability, command, settings = seen
    assert file == tmp_path / "r.html"
    assert name == "t"
    assert raw.n_features == 2
    assert math.isinf(estimator.model_.standard.clip)
    assert stability.shape == (10,)
    assert estimator.choice_.n_tasks == 10
    assert settings["draws"] == 1
    typed = shlex.split(command)
    assert typed[:3] == ["undertow", "fit", str(bracketed[1])]
    given = dict(zip(typed[3::2], typed[4::2], strict=True))
    assert given["--target"] == "out [/]"
    assert given["--draws"] == "1"
    assert math.isinf(float(given["--clip"]))
    assert "--seed" not in given


def test_a_table_with_too_few_tasks_for_a_choice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 2},{(i * 7) % 5},{i}\n" for i in range(24))
    (tmp_path / "t.csv").write_text("g,x,y\n" + rows)
    assert "The table has 2 tasks" in run("fit", "t.csv", "--task", "g", "--target", "y", code=2)
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}


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


@pytest.mark.long
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


def test_a_target_of_two_values_is_fitted_as_a_number_and_that_is_said(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["ward,age,ill", *(f"{i // 12},{rng.standard_normal():.4f},{int(rng.random() < 0.4)}" for i in range(120))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    said = run("fit", tmp_path / "t.csv", "--task", "ward", "--target", "ill", "--out", tmp_path / "o")
    assert "note: ill has two values, 0 and 1; errors are of probabilities" in " ".join(said.split())


def test_a_curve_is_tried_as_the_effort_says_and_what_it_gives_is_printed(tmp_path):
    rng = np.random.default_rng(0)
    shop = np.repeat(np.arange(20), 10)
    x = rng.uniform(-2, 2, 200)
    y = 3 * np.sin(2 * x) + rng.standard_normal(20)[shop] + 0.3 * rng.standard_normal(200)
    pa_csv.write_csv(pa.table({"shop": shop, "x": x, "y": y}), tmp_path / "t.csv")
    asked = ("fit", tmp_path / "t.csv", "--task", "shop", "--target", "y", "--draws", 1, "--folds", 3)
    bent = " ".join(run(*asked, "--out", tmp_path / "a").split())
    assert "(splines used)" in bent
    assert pq.read_table(tmp_path / "a" / "weights.parquet")["feature"].to_pylist() == ["x", "(splines)", "intercept"]
    assert "Common relation" not in run(*asked, "--out", tmp_path / "b", "--effort", "fast")
    assert "thorough" in run(*asked, "--out", tmp_path / "c", "--effort", "much", code=2)
