"""Calls in processes side by side, which end with the command, whatever ends it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from undertow._check import InputError
from undertow._memory import available
from undertow._workers import environment, n_workers

# What a process with JAX and compiled programs takes, measured on the experiments of the paper.
_BYTES = 1.5e9
_PR_SET_PDEATHSIG = 1


def n_processes(asked: int | None, calls: int) -> int:
    """Return how many processes serve so many calls: as asked, else one for each core as far as memory goes."""
    if asked is None:
        asked = max(1, min(n_workers(-1), int(min(available() // _BYTES, calls))))
    return min(asked, calls)


def side_by_side(calls: Sequence[Callable[[], Any]], n: int) -> Generator[Any]:
    """Yield what the calls return, in their order; each has a process of its own, and n run at a time.

    Calls and values are sent by pickle. Raises what a call raises, and InputError where a process was ended from
    outside. Leaving ends all processes.
    """
    running: set[subprocess.Popen[bytes]] = set()
    left = False

    def value(call: Callable[[], Any]) -> Any:
        process = subprocess.Popen(
            # Not from the user's folder, where a file may bear the name of a module.
            [sys.executable, "-P", "-m", "undertow.cli.processes", str(os.getpid()), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal reaches the command alone
            env=environment(),
        )
        running.add(process)
        if left:
            process.kill()
        answer, errors = process.communicate(pickle.dumps(call))
        running.discard(process)
        if process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            why = last[0] if last else "perhaps for want of memory"
            rule = f"a process that ran an experiment ended with code {process.returncode}: {why}."
            raise InputError(None, rule=rule, way_out="Run it with --jobs 1: what is finished is kept.")
        return pickle.loads(answer)

    threads = ThreadPoolExecutor(n)
    try:
        for future in [threads.submit(value, call) for call in calls]:
            found, error = future.result()
            if error is not None:
                raise error
            yield found
    finally:
        left = True
        for process in list(running):
            process.kill()
        threads.shutdown(cancel_futures=True)


def _serve(parent: int, n: int) -> None:
    """Make the call that comes in, and write its value, or its error, out."""
    with suppress(OSError, AttributeError):  # other systems than Linux have no such call
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has gone in between
        return
    import scipy.linalg  # noqa: F401  (it brings a library of its own)
    from threadpoolctl import threadpool_limits

    threadpool_limits(max(1, (os.cpu_count() or 1) // n), "blas")
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    call = pickle.load(sys.stdin.buffer)
    try:
        answer = call(), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        answer = None, error
    out.write(pickle.dumps(answer))
    out.flush()


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
