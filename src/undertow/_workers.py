"""Independent pieces of work on several threads, one BLAS thread each, and what processes of their own need."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from undertow import _check
from undertow._check import InputError

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Whether a thread is a worker: work within work stays there.
_thread = threading.local()


def n_workers(n_jobs: int | None) -> int:
    """Return how many workers ``n_jobs`` asks for: None is 1 (or joblib's context), -1 all cores, as in scikit-learn.

    Raises InputError where it is not a whole number other than 0.
    """
    if n_jobs is None and "joblib" not in sys.modules:
        return 1
    if n_jobs is not None and (_check.whole_number(n_jobs, "n_jobs", -1) == 0):
        raise InputError("n_jobs", n_jobs, "it is a number of workers: None or 1 is one, -1 is every core.")
    import joblib

    return int(joblib.effective_n_jobs(n_jobs))  # pyright: ignore[reportArgumentType]


def each(function: Callable[[_In], _Out], items: Iterable[_In], n_jobs: int | None = None) -> list[_Out]:
    """Return the function's value for each item, in the order of the items, whatever the number of workers.

    Threads, not processes: products of matrices let go of the interpreter, and the arrays are shared. Not joblib's: it
    asks for results a hundred times a second, and takes 20 ms to start and end, a fifth of the moments of 20,000 tasks.
    """
    items = list(items)
    workers = min(n_workers(n_jobs), len(items))
    if workers <= 1 or getattr(_thread, "works", False):
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with one_blas_thread(), ThreadPoolExecutor(workers, "undertow", _begin) as pool:
        return list(pool.map(function, items))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Multiply matrices in the calling thread alone, for as long as this is open.

    Threads wait for each other in a loop: small products gain nothing from several, and where other work takes a core
    they take many times as long (a default fit of 42 tasks 4 to 80 s in place of 1.3 s).
    """
    return _blas().limit(limits=1, user_api="blas")


def environment() -> dict[str, str]:
    """Return the environment in which a new Python finds this package, wherever this one has it from."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _begin() -> None:
    _thread.works = True


@cache
def _blas() -> Any:
    """The libraries that multiply matrices, which take a millisecond to find."""
    import scipy.linalg  # noqa: F401  (it brings a library of its own)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
