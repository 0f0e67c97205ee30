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
    assert names == {"checkpoint", "figure.png", "figure.svg", "history.parquet", "settings.json", "summary.json"}
    history = pq.read_table(out / "history.parquet")
    assert len(history) == 30
    summary = json.loads((out / "summary.json").read_text())
    assert summary["support_after"] > summary["support_before"]  # a negative rate goes uphill
    assert np.isclose(summary["validation_loss"], history["validation_loss"][29].as_py(), rtol=1e-5)


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
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
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
        ('case = "sinusoid"', "", "choose one of 'sinusoid'"),
        ("adapt_rate = 0.05", "", "a train rate is not a rate to adapt with"),
        ("iterations = 30", "", "outer.iterations is missing"),
        ("[task]", "[task", "is not valid TOML"),
        ("[inner]", '[inner]\nlearn = "all"', "inner.learn must be one of 'no', 'one', 'layer' or 'parameter'"),
    ],
)
def test_settings_that_cannot_be_used_are_one_message(old, new, message, tmp_path):
    done = call("train", written(tmp_path, SINE.replace(old, new)), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


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
