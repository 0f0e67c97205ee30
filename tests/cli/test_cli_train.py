"""``undertow train``: strict settings, results, and a stopped run that ends with the same bits."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from undertow.cli import app

SINE = """
case = "sinusoid"
[task]
shots = 5
query = 5
n_validation_tasks = 20
[model]
hidden = [8]
[inner]
train_rate = -0.01
adapt_rate = 0.05
[outer]
iterations = 30
meta_batch = 4
validate_every = 10
checkpoint_every = 10
"""
TABLE = """
case = "table"
[task]
table = "gapminder"
n_support = 4
draws = 2
[model]
hidden = [6]
[inner]
train_rate = 0.05
learn = "layer"
[outer]
iterations = 20
step = 0.01
validate_every = 10
"""


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def written(tmp_path, text, name="run.toml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_a_run_leaves_a_table_a_figure_and_a_summary(tmp_path):
    done = call("train", written(tmp_path, SINE), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "sinusoid: 30 iterations" in done.stdout
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    folders = {"checkpoint", "no_inner_loop"}
    assert names == folders | {"figure.png", "figure.svg", "history.parquet", "settings.json", "summary.json"}
    history = pq.read_table(out / "history.parquet")
    assert len(history) == 30
    summary = json.loads((out / "summary.json").read_text())
    assert summary["support_after"] > summary["support_before"]  # a negative rate goes uphill
    assert np.isclose(summary["validation_loss"], history["validation_loss"][29].as_py(), rtol=1e-5)
    assert summary["adapted"]["loss"] == summary["validation_loss"]
    for name in ("before", "without", "without_before"):
        one = summary[name]
        assert np.isclose(one["gain"], 1 - summary["validation_loss"] / one["loss"])
        assert one["low"] < one["gain"] < one["high"]
    assert summary["without"]["loss"] != summary["without_before"]["loss"]


def test_the_interval_of_a_gain_covers_it():
    pytest.importorskip("jax")
    from undertow.cli.train_run import Measured

    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        base = rng.gamma(4.0, 0.25, 60)
        ours = 0.7 * base + rng.normal(0, 0.1, 60)
        rows = rng.integers(3, 9, 60).astype(float)
        _, low, high = Measured(ours, rows).gain(Measured(base, rows))
        held += low < 0.3 < high
    assert abs(held - 380) < 4 * np.sqrt(400 * 0.95 * 0.05)


@pytest.mark.long
def test_steps_on_new_tasks_and_a_cosine_are_taken(tmp_path):
    settings = SINE.replace("adapt_rate = 0.05", "adapt_rate = -0.05\nadapt_steps = 0")
    settings = settings.replace("iterations = 30", 'iterations = 30\nschedule = "cosine"\nbaseline = false')
    done = call("train", written(tmp_path, settings), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["adapted"]["loss"] == summary["before"]["loss"]  # no step: nothing changes
    assert summary["without"] is None
    assert "adapt_rate = -0.05 goes up" in done.stdout
    longer = call("train", written(tmp_path, settings.replace("= 30", "= 40")), "--out", tmp_path / "out")
    assert longer.exit_code != 0
    assert "outer.iterations: 30 there, 40 now" in longer.output


@pytest.mark.long
def test_too_few_tasks_are_said(tmp_path):
    rows = [f"{g},{x},{x + g}" for g in range(3) for x in range(8)]
    (tmp_path / "few.csv").write_text("\n".join(["g,x,y", *rows]))
    settings = TABLE.replace('table = "gapminder"', f'table = "{tmp_path / "few.csv"}"\ntask = "g"\ntarget = "y"')
    settings = settings.replace('learn = "layer"', "adapt_rate = 0.1")
    done = call("train", written(tmp_path, settings), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "2 training and 1 validation" in done.stdout


@pytest.mark.long
def test_a_longer_run_goes_on_and_ends_as_one_that_was_never_stopped(tmp_path):
    call("train", written(tmp_path, SINE.replace("iterations = 30", "iterations = 10")), "--out", tmp_path / "parts")
    again = call("train", written(tmp_path, SINE), "--out", tmp_path / "parts")
    assert again.exit_code == 0, again.output
    call("train", written(tmp_path, SINE), "--out", tmp_path / "whole")
    for name in ("history.parquet", "summary.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.long
def test_ones_own_table_with_learned_rates(tmp_path):
    done = call("train", written(tmp_path, TABLE), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "learned rates:" in done.stdout
    history = pq.read_table(tmp_path / "out" / "history.parquet")
    assert sum(name.startswith("rate_mean") for name in history.column_names) == 2
    assert history["meta_loss"][19].as_py() < history["meta_loss"][0].as_py()


@pytest.mark.long
def test_images_are_trained_on(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, label=np.repeat(np.arange(12), 5))
    text = f"""
case = "omniglot"
task = {{ images = "{tmp_path / "images.npz"}", ways = 2, query = 2, n_validation_tasks = 3 }}
model = {{ filters = 2, layers = 1 }}
inner = {{ train_rate = 0.1, adapt_rate = 0.1, adapts = "last" }}
outer = {{ iterations = 3, meta_batch = 2, validate_every = 3 }}
"""
    done = call("train", written(tmp_path, text), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "omniglot: 3 iterations" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shots = 5", "shot = 5", "task.shot is no known key"),
        ("shots = 5", "shots = 0", "task.shots must be at least 1, and is 0"),
        ("shots = 5", 'shots = "5"', "task.shots must be a whole number, and is '5'"),
        ('case = "sinusoid"', 'case = "sine"', "case='sine': choose one of 'sinusoid', 'omniglot', 'table'"),
        ('case = "sinusoid"', "", "case is missing"),
        ("shots = 5", "shot = 5", "Did you mean 'shots'"),
        ("adapt_rate = 0.05", "", "a train rate is not a rate to adapt with"),
        ("iterations = 30", "", "outer.iterations is missing"),
        ("iterations = 30", "iterations = 30\nseed = 99999999999999999999", "outer.seed must be below"),
        ("[task]", "[task", "is not valid TOML"),
        ("[inner]", '[inner]\nlearn = "all"', "inner.learn must be one of 'no', 'one', 'layer' or 'parameter'"),
    ],
)
def test_settings_that_cannot_be_used_are_one_message(old, new, message, tmp_path):
    done = call("train", written(tmp_path, SINE.replace(old, new)), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ('target = "one"\nfeatures = ["x"]', "there is nothing to predict"),
        ('target = "y"\nsep = ";"', "are parted by commas"),
        ('target = "y"\nfeatures = ["hole"]', "on_missing='drop'"),
        ('target = "y"\nfeatures = ["kind"]\ncategories = "onehot"\nmax_levels = 2', "at most 2"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_in_keys_that_there_are(task, message, tmp_path):
    rows = [f"{g},{x},{x + g},1,{x if x else ''},k{x}" for g in range(5) for x in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["g,x,y,one,hole,kind", *rows]))
    text = 'case = "table"\ninner = { train_rate = 0.1, adapt_rate = 0.1 }\nouter = { iterations = 2 }\n'
    text += f'[task]\n{task}\ntable = "{tmp_path / "t.csv"}"\ntask = "g"'
    done = call("train", written(tmp_path, text), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_was_done_to_a_table_is_said_in_lines_of_ours(tmp_path):
    pytest.importorskip("jax")
    rows = [f"{g};{x};{x + g}" for g in range(5) for x in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["g;x;y", *rows]))
    text = (
        'case = "table"\ninner = { train_rate = 0.1, adapt_rate = 0.1 }\nouter = { iterations = 2, meta_batch = 99 }\n'
    )
    text += f'[task]\ntarget = "y"\ntable = "{tmp_path / "t.csv"}"\ntask = "g"'
    done = call("train", written(tmp_path, text), "--out", tmp_path / "out")
    assert "t: 5 tasks (g) of 8 rows" in done.stdout
    assert "note: recognised" in done.stdout
    assert done.stderr.startswith("Error: meta_batch=99")


def test_a_table_that_is_not_there_is_named(tmp_path):
    text = 'case = "table"\ntask = { table = "no.csv" }\ninner = { train_rate = 0.1, adapt_rate = 0.1 }\n'
    done = call("train", written(tmp_path, text + "outer = { iterations = 2 }"), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "there is no such file" in done.stderr


@pytest.mark.long
def test_a_rate_that_blows_up_is_one_message_with_the_stable_interval(tmp_path):
    text = SINE.replace("train_rate = -0.01", "train_rate = -1e30\nsteps = 3")
    done = call("train", written(tmp_path, text), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "iteration 0" in done.stderr


@pytest.mark.long
def test_another_runs_folder_is_refused_and_replaced_on_request(tmp_path):
    call("train", written(tmp_path, SINE.replace("iterations = 30", "iterations = 2")), "--out", tmp_path / "out")
    other = written(tmp_path, SINE.replace("hidden = [8]", "hidden = [9]").replace("iterations = 30", "iterations = 2"))
    refused = call("train", other, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "model.hidden: [8] there, [9] now" in refused.stderr
    assert call("train", other, "--out", tmp_path / "out", "--overwrite").exit_code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert "is not empty" in call("train", other, "--out", tmp_path / "mine").stderr


def test_without_jax_there_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("undertow.cli.train.find_spec", lambda name: None)
    done = call("train", written(tmp_path, SINE), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "needs jax" in done.stderr
    assert 'pip install "undertow[gradient]"' in done.stderr
