"""What commands write: whole files or none, places tried beforehand, one plain sentence where the disk is full."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from made import table
from typer.testing import CliRunner

from undertow import _write
from undertow.cli import app
from undertow.comparison import Plan
from undertow.comparison import compare as compare_rivals
from undertow.tasks import GroupedTable

X, Y, G = table(m=12, p=2)
ASKED = ("--task", "g", "--target", "y", "--draws", "1")
STEP = "train_rate = -0.01\nadapt_rate = 0.05\n"
SINE = f'case = "sinusoid"\n[model]\nhidden = [4]\n[task]\nshots = 5\n[inner]\n{STEP}[outer]\niterations = 20\n'


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    lines = [f"{g},{y:.6f},{a:.6f},{b:.6f}" for g, y, (a, b) in zip(G, Y, X, strict=True)]
    file.write_text("g,y,a,b\n" + "\n".join(lines) + "\n")
    return file


def call(*args):
    return CliRunner().invoke(app, [str(one) for one in args])


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


def command(*args, largest=None, **options):
    """Run the command in a process of its own; largest: the size in bytes that no file may pass."""
    code = ("" if largest is None else LIMITED.format(largest)) + "from undertow.cli import main; main()"
    full = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(full, stderr=subprocess.PIPE, text=True, timeout=300, **options)


def said_once(done):
    """Whether a command has failed with one line and no traceback."""
    return done.returncode == 2 and done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr


def left(folder):
    return sorted(one.name for one in folder.rglob(".*"))


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_text("before")

    def fails(number):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error") as error:
            _write.write_text(file, "after")
    assert error.value.filename == str(file)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert file.read_text() == "before"


def test_what_a_killed_process_left_is_swept_and_does_not_count(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a.json.{dead.pid}.part").write_text("half")
    (tmp_path / f".b.json.{os.getppid()}.part").write_text("half")
    assert _write.is_empty(tmp_path)
    _write.write_text(tmp_path / "b.json", "whole")
    assert len(left(tmp_path)) == 2
    _write.write_text(tmp_path / "a.json", "whole")
    assert left(tmp_path) == [f".b.json.{os.getppid()}.part"]
    (tmp_path / ".hidden.part").write_text("of somebody else")
    assert not _write.is_empty(tmp_path)


@pytest.mark.parametrize("largest", [3000, *(pytest.param(one, marks=pytest.mark.long) for one in (300, 20_000))])
@pytest.mark.long
def test_a_full_disk_is_said_once_and_the_command_can_be_given_again(rows, tmp_path, largest):
    args = ("fit", rows, *ASKED, "--out", tmp_path / "o", "--save", tmp_path / "m.safetensors")
    done = command(*args, largest=largest, stdout=subprocess.DEVNULL)
    assert said_once(done), done.stderr
    assert str(tmp_path) in done.stderr
    assert not left(tmp_path)
    assert not (tmp_path / "m.safetensors").exists()
    again = call(*args)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["finished"]


def test_a_disk_that_is_full_is_found_before_the_fit(rows, small_disk, tmp_path, monkeypatch):
    def fits(*args, **options):
        raise AssertionError("it has begun")

    monkeypatch.setattr("undertow.cli.own_table.read_own_table", fits)
    with open(small_disk / "much", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    for option, name in (("--save", "m.safetensors"), ("--report", "r.html"), ("--out", "o")):
        done = call("fit", rows, *ASKED, "--out", tmp_path / "o", option, small_disk / name)
        assert done.exit_code == 2, done.output
        assert "No space left on device" in done.stderr
        assert option in done.stderr
    assert [one.name for one in small_disk.iterdir()] == ["much"]


@pytest.mark.long
@pytest.mark.parametrize("free", [8, 60, 160])
def test_a_disk_that_fills_is_said_once_and_leaves_no_half_file(rows, small_disk, free, tmp_path):
    (small_disk / "much").write_bytes(b"0" * 1024 * (2048 - free))
    args = ("fit", rows, *ASKED, "--out", small_disk / "o", "--save", tmp_path / "m.safetensors")
    done = command(*args, stdout=subprocess.DEVNULL)
    assert said_once(done), done.stderr
    assert "No space left on device" in done.stderr
    assert not left(small_disk)
    (small_disk / "much").unlink()
    if free == 160:
        done = command(*args, stdout=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"], ["--version"], ["list"]])
@pytest.mark.long
def test_output_that_finds_no_room_is_said_once(args):
    with open("/dev/full", "w") as full:
        assert said_once(command(*args, stdout=full))


def test_places_that_cannot_be_written_to_are_found_before_the_fit(rows, tmp_path, monkeypatch):
    def fits(*args, **options):
        raise AssertionError("it has begun")

    monkeypatch.setattr("undertow.cli.own_table.read_own_table", fits)
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "file").write_text("")
    # Also for root, to whom nothing is forbidden.
    places = [("--save", "/proc/m.safetensors"), ("--report", "/proc/r.html"), ("--out", "/proc/o")]
    places += [("--save", tmp_path / "pipe.safetensors"), ("--out", tmp_path / "file" / "o")]
    for option, place in places:
        done = call("fit", rows, *ASKED, "--out", tmp_path / "o", option, place)
        assert done.exit_code == 2, done.output
        assert f"{option} {place}" in done.stderr
    (tmp_path / "run.toml").write_text(SINE)
    done = call("train", tmp_path / "run.toml", "--out", "/proc/o")
    assert done.exit_code == 2, done.output
    assert not (tmp_path / "o").exists()


@pytest.mark.long
def test_a_folder_of_an_unfinished_fit_is_written_anew(rows, tmp_path, monkeypatch):
    args = ("fit", rows, *ASKED, "--out", tmp_path / "o")
    with monkeypatch.context() as patch:
        patch.setattr("undertow.plots.choice_figure", lambda *args: 1 / 0)
        assert call(*args).exit_code == 2
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["finished"] is False
    done = call(*args)
    assert done.exit_code == 0, done.output
    assert call(*args, "--n-support", 4).exit_code == 2


@pytest.mark.long
def test_a_pipe_in_the_place_of_a_table_does_not_hang(rows, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    begun = time.monotonic()
    for args in (("fit", tmp_path / "pipe.csv", *ASKED), ("compare", tmp_path / "pipe.csv", *ASKED)):
        assert said_once(command(*args, stdout=subprocess.DEVNULL))
    assert time.monotonic() - begun < 60


@pytest.mark.long
def test_to_be_told_to_end_is_to_be_interrupted(tmp_path):
    (tmp_path / "run.toml").write_text(SINE.replace("= 20\n", "= 1000000\ncheckpoint_every = 100\n"))
    args = ["train", str(tmp_path / "run.toml"), "--out", str(tmp_path / "o")]
    process = subprocess.Popen([sys.executable, "-m", "undertow", *args], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (tmp_path / "o" / "checkpoint" / "state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "goes on from the last checkpoint" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not left(tmp_path)


STRUCK = """
import gc, os, signal, sys, time
from undertow import cli

def strike(phase, about):
    gc.callbacks.remove(strike)
    os.kill(os.getpid(), signal.SIGINT)

@cli.app.command("wait")
def wait():
    gc.callbacks.append(strike)
    gc.collect()
    time.sleep(30)

sys.argv = ["undertow", "wait"]
cli.main()
"""


def test_an_interruption_that_a_callback_swallows_is_not_lost():
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STRUCK], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
    assert time.monotonic() - begun < 30


def test_a_kept_fit_that_was_damaged_is_made_again(tmp_path):
    data, cells = GroupedTable.from_arrays(X, Y, G), tmp_path / "cells.jsonl"
    asked = {"rivals": ["pooled_ridge"], "time_limit": None, "cells": cells}
    plan = Plan(n_folds=2, n_draws=1)
    whole = compare_rivals(data, plan, **asked)
    lines = cells.read_bytes()
    digits = [i for i, one in enumerate(lines) if chr(one).isdigit()]
    rng = np.random.default_rng(0)
    for place in rng.choice(digits, 40):
        flipped = bytearray(lines)
        flipped[place] ^= 1
        cells.write_bytes(flipped)
        again = compare_rivals(data, plan, **asked)
        np.testing.assert_array_equal(again.losses("pooled_ridge"), whole.losses("pooled_ridge"))
