"""Commands that are killed, doubled, robbed of their folder or of their disk, and given again: the same numbers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from faulty import SEED, times
from made import table

X, Y, G = table(m=12, p=2)
ASKED = "rows.csv --task g --target y --draws 1 --out o"
SINE = """
case = "sinusoid"
[task]
shots = 5
n_validation_tasks = 20
[model]
hidden = [4]
[inner]
train_rate = -0.01
adapt_rate = 0.05
[outer]
iterations = 120
validate_every = 40
checkpoint_every = 10
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
RIVALS = "--folds 2 --rivals pooled,alone,pooled_ridge,signed"
COMMANDS = {
    "fit": f"undertow fit {ASKED} --effort fast --folds 3 --save m.safetensors --report r.html",
    "fit out of core": f"undertow fit {ASKED} --effort fast --folds 3 --save m.safetensors --work work",
    "compare": f"undertow compare {ASKED} {RIVALS} --time-limit inf",
    "compare in a second process": f"undertow compare {ASKED} {RIVALS}",
    "train": "undertow train run.toml --out o",
    "reproduce": "undertow reproduce repel --quick --out o",
    "reproduce in cells": "undertow reproduce time --quick --out o",
    "reproduce several": "undertow reproduce repel time --quick --out o --jobs 2",
    "scale.fit": "scale.py",
}
SIGNALS = [int(one) for one in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)]
# What is measured, and not computed.
TIMES = {"fit_seconds", "adapt_seconds", "seconds", "files_elsewhere"}
SAME = "the same numbers"
# Seconds that a run may take.
LIMIT = 900
# Ended by a signal; in one sentence; interrupted; as if nothing had been.
ENDS = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 2, 130, 0}
# A script of the user's also shows where it was.
ENDS_OF_A_SCRIPT = ENDS | {1}


class Server:
    """The process of ``kill_server`` and what whole runs have left behind."""

    def __init__(self, folder):
        self.folder = folder
        # Compiled programs are kept: each run would compile the same.
        kept = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-W", "ignore::RuntimeWarning", str(Path(__file__).parent / "kill_server.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | kept
        )
        assert self._process.stdout.readline() == "ready\n"
        self._whole = {}

    def ran(self, folder, *runs, limit=LIMIT):
        """Records of runs that go at the same time."""
        nothing = {"begin": 0, "after": None, "at": None, "signal": None, "removed": None}
        order = {"folder": str(folder), "limit": limit, "runs": [nothing | one for one in runs]}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def finished(self, name, folder, more=""):
        """The record of a run that nobody disturbs, and what it said."""
        before = len(said(folder))
        (record,) = self.ran(folder, {"words": [*COMMANDS[name].split(), *more.split()]})
        return record, said(folder)[before:]

    def whole(self, name):
        """The record of an undisturbed run, and the numbers it has left behind."""
        if name not in self._whole:
            folder = prepared(self.folder / name)
            # The first one also compiles.
            assert self.finished(name, folder)[0]["code"] == 0, said(folder)
            expected = numbers(folder)
            assert expected
            record, _ = self.finished(name, prepared(self.folder / f"{name} again"))
            assert numbers(self.folder / f"{name} again") == expected
            self._whole[name] = record, expected
        return self._whole[name]

    def end(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("whole"))
    yield found
    found.end()


def prepared(folder):
    folder.mkdir(parents=True)
    lines = [f"{g},{y:.6f},{a:.6f},{b:.6f}" for g, y, (a, b) in zip(G, Y, X, strict=True)]
    (folder / "rows.csv").write_text("g,y,a,b\n" + "\n".join(lines) + "\n")
    os.utime(folder / "rows.csv", (1, 1))
    (folder / "run.toml").write_text(SINE)
    (folder / "scale.py").write_text(SCALE)
    return folder


def said(folder):
    return (folder / "said").read_text() if (folder / "said").exists() else ""


def numbers(folder):
    """What a run leaves behind, without times and figures."""
    files = [one for one in sorted((folder / "o").rglob("*")) if one.is_file()] + [folder / "m.safetensors"]
    found = {}
    for one in files:
        if one.suffix in (".png", ".svg") or one.name in ("comparison.parquet", "cells.jsonl") or not one.exists():
            continue
        data = one.read_bytes()
        if one.suffix == ".json":
            data = json.dumps(_timeless(json.loads(data))).encode()
        found[str(one.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def needs(name):
    for module in {"train": ["jax", "optax"], "fit out of core": ["duckdb"], "scale.fit": ["duckdb"]}.get(name, []):
        pytest.importorskip(module)


def outcome(server, name, folder, records, more=""):
    """Runs have ended as they may; given again the command ends with the numbers of an undisturbed run, or how not."""
    text = said(folder)
    script = name == "scale.fit"
    allowed = ENDS_OF_A_SCRIPT if script else ENDS
    if not {one["code"] for one in records} <= allowed or ("Traceback" in text and not script):
        return f"{folder} ended with {[one['code'] for one in records]}: {text[-2000:]}"
    if not all(one["gone"] for one in records):
        return f"{folder}: a process lives on"
    record, text = server.finished(name, folder, more)
    if any(one["late"] for one in (*records, record)):
        return f"{folder}: a run took longer than {LIMIT} s, which says something of the machine alone"
    if record["code"]:
        return f"{folder}: given again it ended with {record['code']}: {text[-2000:]}"
    left = [str(one) for one in folder.rglob(".*.part")]
    if left:
        return f"{folder} holds {left}"
    found, expected = numbers(folder), server.whole(name)[1]
    other = [one for one in found.keys() | expected.keys() if found.get(one) != expected.get(one)]
    return f"{folder}: other {other}" if other else SAME


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_given_again_ends_with_the_same_numbers(name, server, tmp_path, counted):
    needs(name)
    rng = np.random.default_rng([SEED, 0])
    (record, _), words = server.whole(name), COMMANDS[name].split()
    hits, found = 0, Counter()
    while hits < times(3):
        folder, records = prepared(tmp_path / str(found.total())), []
        # Once more for some: killed where it goes on.
        for _ in range(rng.integers(1, 3)):
            run = {"words": words, "signal": int(rng.choice(SIGNALS))}
            # At any moment, or while something is being written.
            if rng.random() < 0.5:
                run["after"] = record["seconds"] * rng.random()
            else:
                run["at"] = int(rng.integers(1, record["operations"] + 1))
            records += server.ran(folder, run)
        hits += sum(one["hit"] for one in records)
        found[outcome(server, name, folder, records)] += 1
    assert found.keys() == {SAME}, "\n".join(found)
    counted(f"{name}, killed and given again", killed=hits, with_other_numbers=0)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_two_on_one_folder_and_a_third_give_the_same_numbers(name, server, tmp_path, counted):
    needs(name)
    rng = np.random.default_rng([SEED, 1])
    (record, _), found = server.whole(name), Counter()
    for i in range(times(1)):
        folder = prepared(tmp_path / str(i))
        runs = [{"words": COMMANDS[name].split(), "begin": begin} for begin in (0, record["seconds"] * rng.random())]
        if rng.random() < 0.5:
            runs[rng.integers(2)] |= {"signal": int(rng.choice(SIGNALS)), "after": record["seconds"] * rng.random()}
        found[outcome(server, name, folder, server.ran(folder, *runs))] += 1
    assert found.keys() == {SAME}, "\n".join(found)
    counted(f"{name}, two at once", pairs=times(1), with_other_numbers=0)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_is_removed_in_the_middle_costs_no_number(name, server, tmp_path, counted):
    needs(name)
    rng = np.random.default_rng([SEED, 2])
    (record, _), found = server.whole(name), Counter()
    hits, removed = 0, "work" if name == "scale.fit" else "o"
    while hits < times(1):
        folder = prepared(tmp_path / str(found.total()))
        run = {"words": COMMANDS[name].split(), "after": record["seconds"] * rng.random(), "removed": removed}
        records = server.ran(folder, run)
        hits += records[0]["hit"]
        # A model beside a folder that does not know it is not replaced unasked.
        more = "--overwrite" if "--save" in COMMANDS[name] else ""
        found[outcome(server, name, folder, records, more)] += 1
    assert found.keys() == {SAME}, "\n".join(found)
    counted(f"{name}, its folder removed", removed=hits, with_other_numbers=0)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fills_costs_no_number(name, server, small_disk, counted):
    needs(name)
    rng = np.random.default_rng([SEED, 3])
    server.whole(name)
    full, found = 0, Counter()
    for i in range(times(1)):
        folder = prepared(small_disk / str(i))
        free = int(10 ** rng.uniform(3, 5.5))
        taken = os.statvfs(small_disk)
        (small_disk / "much").write_bytes(bytes(max(0, taken.f_bavail * taken.f_bsize - free)))
        records = server.ran(folder, {"words": COMMANDS[name].split()})
        full += records[0]["code"] == 2
        (small_disk / "much").unlink()
        found[outcome(server, name, folder, records)] += 1
        shutil.rmtree(folder)
    assert found.keys() == {SAME}, "\n".join(found)
    counted(f"{name}, on a disk that fills", found_it_full=full, others=times(1) - full, with_other_numbers=0)
