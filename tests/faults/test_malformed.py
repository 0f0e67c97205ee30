"""Command lines with malformed tables: refused in a sentence, or answered; no foreign traceback, hang or warning."""

import gzip
import os
import warnings
from collections import Counter

import numpy as np
import pytest
from made import table
from typer.testing import CliRunner

from undertow.cli import app

X, Y, G = table(m=8, p=2)
ROWS = [f"{g},{y:.4f},{a:.4f},{b:.4f}" for g, y, (a, b) in zip(G, Y, X, strict=True)]
HEAD = "g,y,a,b"
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
    *(["--on-constant", "keep"], ["--task", "g,a"], ["--out", "out"]),
]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("n", [25, pytest.param(600, marks=pytest.mark.long)])
def test_malformed_tables_are_refused_or_read(n, tmp_path, monkeypatch, counted):
    found = Counter()
    for seed in range(n):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        name = placed(folder, spoiled("\n".join([HEAD, *ROWS]), rng), rng)
        args = ["fit" if rng.random() < 0.9 else "compare", "--task", "g", "--target", "y", "--draws", "1"]
        for _ in range(rng.integers(0, 3)):
            args += OPTIONS[rng.integers(len(OPTIONS))]
        if args[0] == "compare":
            args += ["--rivals", "pooled", "--time-limit", "inf"]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            done = CliRunner().invoke(app, [*args, "--", name])
        ours = done.exception is None or isinstance(done.exception, SystemExit)
        if not ours:
            outcome = f"seed {seed}: {done.exception!r}"
        elif said:
            outcome = f"seed {seed}: {said[0].message!r}"
        elif done.exit_code == 0:
            outcome = f"nan, seed {seed}" if "nan" in done.stdout.lower().split() else "answered"
        else:
            outcome = "refused" if "Error" in done.stderr else f"seed {seed}: {done.stderr[-200:]}"
        found[outcome] += 1
    assert not found.keys() - {"answered", "refused"}, found
    assert min(found.values()) > 0.05 * n
    counted("command lines with malformed tables", **found)
