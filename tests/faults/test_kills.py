"""Commands that are killed at any moment, and given again: the same numbers, and no process that lives on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from made import table

X, Y, G = table(m=12, p=2)
ASKED = "rows.csv --task g --target y --draws 1 --out o"
SINE = """
case = "sinusoid"
[task]
shots = 5
[model]
hidden = [4]
[inner]
train_rate = -0.01
adapt_rate = 0.05
[outer]
iterations = 400
validate_every = 50
checkpoint_every = 20
"""
SCALE = """
from undertow import MAMLRegressor
from undertow.estimators import save
from undertow.scale.fitting import fit_sorted
from undertow.scale.job import Run
from undertow.scale.memory import Ceiling
from undertow.scale.sorted_table import sort
from pathlib import Path

class Small(Ceiling):
    fragment = 400

place = Path("work")
table = sort("rows.csv", "g", "y", folder=place, memory="1GB")
model = fit_sorted(MAMLRegressor(), table, Run(Small.of("1GB"), None, place / "sums", all_in_memory=False))
save(model, "m.safetensors")
"""
COMMANDS = {
    "fit": f"-m undertow fit {ASKED} --save m.safetensors --report r.html",
    "fit out of core": f"-m undertow fit {ASKED} --save m.safetensors --work work",
    "compare": f"-m undertow compare {ASKED} --folds 2 --rivals pooled,alone,pooled_ridge,signed",
    "train": "-m undertow train run.toml --out o",
    "scale.fit": "scale.py",
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What is measured, and not computed.
TIMES = {"fit_seconds", "adapt_seconds", "seconds"}


def prepared(folder):
    folder.mkdir()
    lines = [f"{g},{y:.6f},{a:.6f},{b:.6f}" for g, y, (a, b) in zip(G, Y, X, strict=True)]
    (folder / "rows.csv").write_text("g,y,a,b\n" + "\n".join(lines) + "\n")
    os.utime(folder / "rows.csv", (1, 1))
    (folder / "run.toml").write_text(SINE)
    (folder / "scale.py").write_text(SCALE)
    return folder


def begun(name, folder):
    command = [sys.executable, *COMMANDS[name].split()]
    out = (folder / "said").open("w")
    with out:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)


def finished(name, folder):
    """Seconds that a whole run takes."""
    start = time.monotonic()
    code = begun(name, folder).wait(timeout=300)
    assert code == 0, (folder / "said").read_text()
    return time.monotonic() - start


def numbers(folder):
    """What a run leaves behind, without times."""
    found = {}
    if (folder / "o" / "summary.json").exists():
        found["summary"] = _timeless(json.loads((folder / "o" / "summary.json").read_text()))
        # A report stands in a folder of its own here.
        found["summary"].pop("files_elsewhere", None)
    if (folder / "m.safetensors").exists():
        found["model"] = (folder / "m.safetensors").read_bytes()
    for one in sorted((folder / "o").glob("*.parquet")):
        if one.name != "comparison.parquet":
            found[one.name] = one.read_bytes()
    return found


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def gone(session, within):
    """Whether no process of a session lives, after some seconds at most."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def killed(name, folder, after, number):
    """Begin a command and send it a signal after some seconds; whether it was still running."""
    process = begun(name, folder)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait(timeout=60)
        assert gone(process.pid, 20)
        return True
    return False


QUICK = [pytest.param(name, 1, marks=[] if name == "compare" else pytest.mark.long) for name in COMMANDS]
FULL = [pytest.param(name, 20, marks=pytest.mark.long) for name in COMMANDS]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "kills"), [*QUICK, *FULL])
def test_a_killed_command_given_again_ends_with_the_same_numbers(name, kills, tmp_path, counted):
    if name == "train":
        pytest.importorskip("jax")
    rng = np.random.default_rng(kills)
    whole = prepared(tmp_path / "whole")
    seconds = finished(name, whole)
    expected = numbers(whole)
    assert expected
    hit = 0
    for i in range(kills):
        folder = prepared(tmp_path / f"killed {i}")
        # Once more for some: killed where it goes on.
        for _ in range(rng.integers(1, 3)):
            # The first share of a run is spent on imports.
            hit += killed(name, folder, seconds * rng.uniform(0.3, 0.95), rng.choice(SIGNALS))
        finished(name, folder)
        assert numbers(folder) == expected
        assert not [one for one in folder.rglob(".*.part") if "work" not in one.parts]
    counted(f"{name}, killed and given again", killed=hit, with_other_numbers=0)
