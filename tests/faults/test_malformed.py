"""Command lines with malformed tables: refused in a sentence, or answered; no foreign traceback, hang or warning."""

import gzip
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from faulty import seeds, times
from made import table
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.saved_model import Columns, save_model

X, Y, G = table(m=8, p=2)
ROWS = [f"{g},{y:.4f},{a:.4f},{b:.4f}" for g, y, (a, b) in zip(G, Y, X, strict=True)]
HEAD = "g,y,a,b"
# With a second grouping, weights and days as well.
MORE = [f"{row},{g % 3},{1 + i % 4},2020-01-{1 + i % 28:02d}" for i, (g, row) in enumerate(zip(G, ROWS, strict=True))]
NAMES = [
    *["a.csv", "-a.csv", "a b.csv", "ü\u202e.csv", "a" * 200 + ".csv", "a.tsv", "a.csv.gz", "a.parquet", "a.xlsx"],
    *["a", ".csv", "a[1].csv", "*.csv", "a\n.csv", "%s.csv"],
]
CELLS = [
    *["", "NA", "nan", "inf", "-inf", "1e400", "1e300", "1e-300", "x", '"', '"a,b"', "'", "1,5", "1;2", "\0", "\ufeff"],
    *["\u2212 1", "0x1", "1_000", "TRUE", "9" * 400, "2020-01-01", " ", "=1+1", "é", "\r", "\t", "-", "+", ".", "1e"],
]


def spoiled(text, rng):
    """The text of a table with one or two faults, as bytes."""
    lines = text.split("\n")
    for _ in range(rng.integers(0, 3)):
        at, kind = int(rng.integers(0, len(lines))), int(rng.integers(0, 9))
        cells = lines[at].split(",")
        if kind <= 3:
            cells[rng.integers(0, len(cells))] = CELLS[rng.integers(len(CELLS))]
            lines[at] = ",".join(cells)
        elif kind == 4:
            lines[at] = ",".join(cells[:-1]) if rng.random() < 0.5 else lines[at] + ",7"
        elif kind == 5:
            lines[0] = ["g,y,a,a", "g,g,y,a", "", "y,a,b", "g,y,,b", ",,,", "g;y;a;b", "G,Y,A,B"][rng.integers(8)]
        elif kind == 6:
            lines = lines[: rng.integers(0, 4)]
            lines = lines or [""]
        elif kind == 7:
            # One column of one value.
            j = rng.integers(0, 4)
            lines[1:] = [",".join(c if i != j else "1" for i, c in enumerate(one.split(","))) for one in lines[1:]]
        else:
            lines = [one.replace(",", ";" if rng.random() < 0.5 else "\t") for one in lines]
    data = "\n".join(lines)
    how = rng.integers(0, 20)
    if how < 14:
        return data.encode()
    if how < 18:
        return data.encode(["utf-16", "utf-8-sig", "utf-32", "latin-1"][how - 14], errors="replace")
    found = bytearray(data.encode())
    for place in rng.integers(0, max(1, len(found)), 5):
        if found:
            found[place] = rng.integers(0, 256)
    return bytes(found)


def placed(folder, data, rng):
    """A name under which the table stands, or something in its place."""
    name = NAMES[rng.integers(len(NAMES))] if rng.random() < 0.4 else "a.csv"
    file = folder / name
    kind = rng.integers(0, 24)
    if kind == 0:
        file.mkdir()
    elif kind == 1:
        file.symlink_to(folder / "nothing")
    elif kind == 2:
        file.symlink_to(file)
    elif kind == 3:
        file.write_bytes(gzip.compress(data)[: rng.integers(0, 200)])
    elif kind == 4:
        os.mkfifo(file)
    elif kind == 5:
        file.write_bytes(gzip.compress(data))
    else:
        file.write_bytes(data)
    return name


OPTIONS = [
    *(["--n-support", "2"], ["--features", "a"], ["--features", "a,zz"], ["--on-missing", "drop"], ["--clip", "inf"]),
    *(["--on-missing", "mean"], ["--categories", "onehot"], ["--sep", ";"], ["--decimal", ","], ["--seed", "3"]),
    *(["--on-small", "drop"], ["--categorical", "b"], ["--clip", "-1"], ["--folds", "99"], ["--target", "g"]),
    *(["--on-constant", "keep"], ["--task", "g,a"], ["--out", "out"], ["--anonymous"]),
]
OF_MORE = [
    *(["--weights", "w"], ["--weights", "a"], ["--weights", "g"], ["--order", "d"], ["--order", "w"], ["--order", "y"]),
    *(["--weights", "w", "--weights-are", "precision"], ["--weights-are", "precision"], ["--weighting", "rows"]),
    *(["--weights", "w", "--weights-are", "x"], ["--target-kind", "count"], ["--target-kind", "two-valued"]),
    *(["--target-kind", "number"], ["--target", "w"], ["--target", "s"], ["--target", "d"], ["--anonymous"]),
    *(["--random-intercept", "s"], ["--random-intercept", "d"], ["--random-intercept", "none"], ["--task", "s,g"]),
    *(["--random-intercept", "zz"], ["--random-intercept", "y"], ["--random-intercept", "g"], ["--effort", "fast"]),
    *(["--effort", "thorough"], ["--effort", "x"], ["--save", "m.safetensors"], ["--features", "a,b"]),
]
OF_PREDICT = [
    *(["--on-missing", "drop"], ["--on-missing", "mean"], ["--on-unseen", "skip"], ["--interval", "0.9"], ["--as-new"]),
    *(["--interval", "2"], ["--target", "a"], ["--task", "b"], ["--out", "p.parquet"], ["--out", "p.txt"]),
]
NUMBERS = [
    "0",
    "1",
    "-1",
    "3",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "x",
    "",
    "1e-300",
    "1e300",
    "9" * 400,
    "0x1",
    "1,5",
    "-0.0",
    "7",
]


def command_line(rng, name, model, more):
    """A command that reads the table, or one on sizes alone, with options that fit or do not."""
    kind = rng.random()
    if kind < 0.08:
        sizes = ("--n-features", "--n-support", "--n-query", "--n-tasks", "--noise-std", "--adapt-rate", "--rates")
        given = [(one, NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.25 else "4") for one in sizes]
        return ["theory", *(f"{option}={value}" for option, value in given)]
    if kind < 0.3:
        options = [OF_PREDICT[rng.integers(len(OF_PREDICT))] for _ in range(rng.integers(0, 3))]
        files = [name, model] if rng.random() < 0.05 else [model, name]
        return ["predict", *(word for option in options for word in option), "--", *files]
    args = (
        ["fit", "--draws", "1"]
        if kind < 0.9
        else ["compare", "--draws", "1", "--rivals", "pooled", "--time-limit", "inf"]
    )
    args += ["--task", "g", "--target", "y"]
    if more:
        args += ["--categorical", "d"] if rng.random() < 0.3 else ["--features", "a,b"] if rng.random() < 0.7 else []
        for _ in range(rng.integers(1, 4)):
            args += OF_MORE[rng.integers(len(OF_MORE))]
    for _ in range(rng.integers(0, 3)):
        args += OPTIONS[rng.integers(len(OPTIONS))]
    return [*args, "--", name]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the table before it was spoiled."""
    file = tmp_path_factory.mktemp("model") / "m.safetensors"
    estimator = ut.MAMLRegressor(n_support=2).fit(X, Y, groups=G)
    estimator.feature_names_in_ = np.array(["a", "b"], dtype=object)
    save_model(estimator, file, Columns("g", "y", {}))
    return str(file)


def outcome(args):
    """How a command ends: answered, refused in one sentence, or otherwise."""
    begun = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        done = CliRunner().invoke(app, args)
    if not (done.exception is None or isinstance(done.exception, SystemExit)):
        return repr(done.exception)
    if time.monotonic() - begun > 60:
        return "it took more than a minute"
    if said:
        return f"a warning: {said[0].message!r}"
    if done.exit_code == 0:
        return "nan" if "nan" in done.stdout.lower().split() else "answered"
    return "refused" if "Error" in done.stderr else done.stderr[-200:]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("n", [4, pytest.param(times(70), marks=pytest.mark.long)])
def test_malformed_tables_are_refused_or_read(n, tmp_path, monkeypatch, counted, model):
    found = Counter()
    for seed in seeds(n):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        more = rng.random() < 0.5
        name = placed(folder, spoiled("\n".join([HEAD + ",s,w,d", *MORE] if more else [HEAD, *ROWS]), rng), rng)
        args = command_line(rng, name, model, more)
        how = outcome(args)
        found[how if how in ("answered", "refused") else f"seed {seed}, {args[0]}: {how}"] += 1
    assert not found.keys() - {"answered", "refused"}, "\n".join(found)
    assert min(found.values()) > 0.05 * n
    counted("command lines with malformed tables", **found)


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="only the administrator can become another")
def test_what_may_not_be_read_or_written_is_said(model):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "a.csv").write_text("\n".join([HEAD, *ROWS]))
        (folder / "secret.csv").write_text("\n".join([HEAD, *ROWS]))
        (folder / "secret.csv").chmod(0)
        (folder / "m.safetensors").write_bytes(Path(model).read_bytes())
        (folder / "m.safetensors").chmod(0)
        columns = ["--task", "g", "--target", "y", "--draws", "1"]
        lines = [
            ["fit", str(folder / "secret.csv"), *columns],
            ["compare", str(folder / "secret.csv"), *columns],
            ["fit", str(folder / "a.csv"), *columns, "--out", str(folder / "o")],
            ["fit", str(folder / "a.csv"), *columns, "--save", str(folder / "n.safetensors")],
            ["predict", str(folder / "m.safetensors"), str(folder / "a.csv")],
            ["explore", "--out", str(folder / "e.html")],
        ]
        # What a command imports is imported while that is allowed.
        assert outcome(["fit", str(folder / "a.csv"), *columns, "--out", str(folder / "first")]) == "answered"
        os.seteuid(65534)
        found = [CliRunner().invoke(app, args) for args in lines]
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)
    for args, done in zip(lines, found, strict=True):
        assert done.exit_code == 2, (args, done.output)
        assert "Permission denied" in done.stderr, (args, done.stderr)
        assert done.stderr.count("Error:") == 1
