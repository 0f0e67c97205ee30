"""A second process that fits rivals, so that a fit that takes too long can be ended, whatever it is doing.

The table goes to it once as a line of JSON and the bytes of its arrays, then one line of JSON for each cell; a line of
JSON comes back.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from undertow._check import InputError, Setting
from undertow._workers import environment
from undertow.comparison.cell import Cell, Plan, run_cell, too_slow
from undertow.comparison.registry import BY_NAME
from undertow.tasks import GroupedTable


class Worker:
    """Runs cells in a process of its own, one after the other; started when first needed, and anew after an end.

    Use as a context: the process is ended on leaving it, for whatever reason.
    """

    def __init__(self, table: GroupedTable, plan: Plan, limit: float, rivals: Sequence[str]) -> None:
        if not sys.executable:
            rule = "it needs a Python to start a second process with."
            raise InputError("time_limit", limit, rule, ("Use ", Setting("time_limit", "None"), "."))
        self._table, self._plan, self._limit, self._rivals = table, plan, limit, list(rivals)
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    def run(self, repeat: int, fold: int, rival: str) -> Cell:
        """Return the cell; one that is left out where the time is up or the process has died."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([repeat, fold, rival]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return self._dead(repeat, fold, rival)
        try:
            line = self._lines.get(timeout=self._limit)
        except queue.Empty:
            self._end()
            return Cell(repeat, fold, rival, left_out=too_slow(self._limit, repeat, fold))
        if not line:
            return self._dead(repeat, fold, rival)
        answer = json.loads(line)
        if "defect" in answer:
            raise RuntimeError(f"{rival} broke:\n{answer['defect']}")
        return cell_of(answer)

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "undertow.comparison.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Not the user's folder, where a file may bear the name of a module.
            cwd=Path(__file__).parents[2],
            env=environment(),
        )
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
        assert self._process.stdin is not None
        t = self._table
        named = {name: getattr(t, name) for name in ("x", "y", "offsets", "rows", "weights", "moments", "levels")}
        arrays = {name: np.ascontiguousarray(value) for name, value in named.items() if value is not None}
        head = self._plan._asdict() | {"limit": self._limit, "rivals": self._rivals}
        head |= {"in_order": t.in_order, "weights_are": t.weights_are}
        head["arrays"] = [(name, value.dtype.str, value.shape) for name, value in arrays.items()]
        try:
            self._process.stdin.write(json.dumps(head).encode() + b"\n")
            for value in arrays.values():
                self._process.stdin.write(value.data)
            self._process.stdin.flush()
        except OSError:
            pass  # it has died: what comes next says so
        # Its imports do not count against the limit.
        if self._lines.get() != b"ready\n":
            raise RuntimeError(f"the process that is to fit the rivals {self._last_words()}")

    def _dead(self, repeat: int, fold: int, rival: str) -> Cell:
        return Cell(repeat, fold, rival, left_out=f"left out: its process {self._last_words()}", lasting=False)

    def _last_words(self) -> str:
        """How the process has ended; it is cleared away."""
        assert self._process is not None
        assert self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        self._end()
        why = (
            f": {last[0]}" if last else ", perhaps for want of memory" if code == -getattr(signal, "SIGKILL", 9) else ""
        )
        return f"ended with code {code}{why}"

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass  # what was still to be written has nowhere to go
        self._process = self._errors = None


def cell_of(values: dict[str, Any]) -> Cell:
    """Return the cell that ``dataclasses.asdict`` and JSON made these values of."""
    lists = {"losses": tuple(values["losses"]), "notes": tuple(values["notes"])}
    return Cell(**{**values, **lists})


def _read(stream: Any, lines: queue.Queue[bytes]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except (OSError, ValueError):
        pass  # closed at our end
    lines.put(b"")


def _serve(given: Any, lines: queue.Queue[bytes]) -> None:
    for line in given:
        lines.put(line)
    # The parent is gone, however it ended: what is being fitted is for nobody.
    os._exit(0)


def main() -> None:
    """Serve cells until the input ends, which ends the process at once."""
    # Ctrl-C goes to all processes of a terminal; this one is ended by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library may print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given: Any = sys.stdin.buffer
    head = json.loads(given.readline())
    arrays: dict[str, np.ndarray] = {name: np.empty(shape, kind) for name, kind, shape in head.pop("arrays")}
    for value in arrays.values():
        given.readinto(value.data)
    limit, of_table = head.pop("limit"), {key: head.pop(key) for key in ("in_order", "weights_are")}
    for rival in head.pop("rivals"):
        BY_NAME[rival].prepare()
    plan = Plan(**head)
    x, offsets = arrays["x"], arrays["offsets"]
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    ids = np.arange(len(offsets) - 1)
    table = GroupedTable(x, arrays["y"], offsets, ids, names, "task", "target", arrays["rows"], **of_table)
    table = replace(table, **{name: arrays.get(name) for name in ("weights", "moments", "levels")})
    answers.write(b"ready\n")
    answers.flush()
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_serve, args=(given, lines), daemon=True).start()
    while True:
        repeat, fold, rival = json.loads(lines.get())
        try:
            answer = asdict(run_cell(table, plan, repeat, fold, rival, limit))
        except Exception:
            answer = {"defect": traceback.format_exc()}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
