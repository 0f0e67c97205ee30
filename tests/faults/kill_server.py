"""A process that has imported what commands need and forks one for each run, so that a run begins in a moment.

An order is a line of JSON, {"folder": ..., "limit": seconds, "runs": [...]}; so is the answer, a record of each run.
A run has

``words``
    the command, or a script's name and its arguments.
``begin``
    seconds until it begins.
``after``, ``at``
    seconds, or operations on files, after which it is sent ``signal`` (None: never).
``removed``
    a folder that is removed after these seconds in place of a signal (None: none).

Figures are a line of text here: what a killed run leaves of one does not depend on what is drawn.
"""

import importlib
import importlib.machinery
import json
import mmap
import os
import runpy
import shutil
import signal
import struct
import sys
import time
import types
from pathlib import Path

IMPORTED = ("undertow.cli", "undertow.estimators", "undertow.comparison", "undertow.report", "undertow.scale")
# Of experiments, those that compute nothing while they are imported: threads do not live through a fork.
IMPORTED += ("undertow.experiments.repel", "undertow.experiments.early_stopping", "matplotlib.pyplot")
AT_WILL = ("jax", "optax", "safetensors.numpy", "undertow.gradient", "undertow.cli.train_run", "duckdb", "jinja2")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


def become(run, folder, shared):
    """Turn this process into the run; the command's own end is the process's."""
    os.setsid()
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = 0

    def counted(event, args):
        nonlocal done
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            done += 1
            struct.pack_into("qq", shared, 0, done, done == run["at"] or struct.unpack_from("q", shared, 8)[0])
            if done == run["at"]:
                os.kill(os.getpid(), run["signal"])

    sys.addaudithook(counted)
    program, *words = run["words"]
    sys.argv = [program, *words]
    if program == "undertow":
        from undertow.cli import main

        main()
    else:
        runpy.run_path(program, run_name="__main__")


def hit(child, run, folder):
    """What happens to a run at its moment."""
    if run["removed"] is not None:
        shutil.rmtree(Path(folder) / run["removed"], ignore_errors=True)
    elif run["signal"] == signal.SIGINT:
        # As a terminal sends it.
        os.killpg(child, signal.SIGINT)
    else:
        os.kill(child, run["signal"])


def served(order):
    """Let the runs of an order go; their records. In a forked process: the run that it is to become."""
    runs, start, children = order["runs"], time.monotonic(), {}
    shared = [mmap.mmap(-1, 16) for _ in runs]
    found = [{"code": None, "seconds": None, "hit": False, "late": False, "operations": 0, "gone": True} for _ in runs]
    while any(one["code"] is None for one in found):
        now = time.monotonic() - start
        for i, (run, record) in enumerate(zip(runs, found, strict=True)):
            lasts = now - run["begin"]
            if i not in children:
                if lasts >= 0:
                    children[i] = os.fork()
                    if not children[i]:
                        return run, order["folder"], shared[i]
            elif record["code"] is None:
                ended, status = os.waitpid(children[i], os.WNOHANG)
                if ended:
                    operations, by_itself = struct.unpack_from("qq", shared[i])
                    code = os.waitstatus_to_exitcode(status)
                    record |= {"code": code, "seconds": lasts, "operations": operations}
                    record["hit"] |= bool(by_itself)
                    record["gone"] = gone(children[i], 20)
                elif lasts > order["limit"]:
                    record["late"] = True
                    os.killpg(children[i], signal.SIGKILL)
                elif run["after"] is not None and lasts >= run["after"] and not record["hit"]:
                    record["hit"] = True
                    hit(children[i], run, order["folder"])
        time.sleep(0.001)
    return found


def gone(session, within):
    """Whether no process of a session lives, after some seconds at most."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def written(figure, place, **options):
    """A figure's file without its drawing."""
    Path(place).write_text(f"a figure of {len(figure.axes)} axes\n")


def undrawn():
    """Let nothing be drawn from here on, neither by matplotlib nor by vl-convert."""
    sys.modules["matplotlib.figure"].Figure.savefig = written
    charts = types.ModuleType("vl_convert")
    charts.__spec__ = importlib.machinery.ModuleSpec("vl_convert", None)
    charts.vegalite_to_svg = lambda *args, **options: "<svg></svg>"
    charts.javascript_bundle = lambda: ""
    sys.modules["vl_convert"] = charts


def main():
    for name in (*IMPORTED, *AT_WILL):
        try:
            importlib.import_module(name)
        except ImportError:
            if name in IMPORTED:
                raise
    undrawn()
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        answer = served(json.loads(line))
        if isinstance(answer, tuple):
            become(*answer)
            return
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
