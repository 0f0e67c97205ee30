"""Calls in processes side by side: values in their order, errors as they are, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

import undertow as ut
from undertow.cli.processes import n_processes, side_by_side


def children():
    """Processes whose parent is this one."""
    stats = [file.read_text().rpartition(")")[2].split() for file in Path("/proc").glob("[0-9]*/stat")]
    return [fields for fields in stats if int(fields[1]) == os.getpid()]


def test_values_come_in_the_order_of_the_calls_and_an_error_as_it_is():
    results = side_by_side([partial(divmod, 7, 2), partial(int, "12"), partial(divmod, 1, 0)], 2)
    assert [next(results), next(results)] == [(3, 1), 12]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert children() == []


@pytest.mark.long
def test_leaving_ends_what_still_runs():
    results = side_by_side([partial(int, "1"), partial(time.sleep, 600)], 2)
    assert next(results) == 1
    begin = time.monotonic()
    results.close()
    assert children() == []
    assert time.monotonic() - begin < 60


@pytest.mark.long
def test_a_process_that_is_killed_is_said_with_the_way_out():
    with pytest.raises(ut.InputError, match="--jobs 1"):
        list(side_by_side([partial(signal.raise_signal, signal.SIGKILL), partial(int, "1")], 2))


def test_there_are_as_many_processes_as_asked_for_and_no_more_than_calls():
    assert n_processes(3, 2) == 2
    assert n_processes(1, 5) == 1
    assert 1 <= n_processes(None, 2) <= 2
    assert n_processes(None, 0) == 0
