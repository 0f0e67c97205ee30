"""Fragments on workers: the same digits from any number of them, after deaths and after interruptions."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from scattered import frame, scatter, streamed

import undertow as ut
from undertow._check import InputError
from undertow.scale.fitting import fit_sorted
from undertow.scale.sorted_table import sort


@pytest.fixture
def table(tmp_path):
    return sort(scatter(frame(), tmp_path / "in"), "shop", "sales", folder=tmp_path / "work", memory="600MB")


def fitted(table, **run):
    est = ut.MAMLRegressor(-0.3, 0.2, n_support=2, n_draws=1)
    return fit_sorted(est, table, streamed(**run))


def assert_same_digits(one, two):
    np.testing.assert_array_equal(one.model_.omega, two.model_.omega)
    np.testing.assert_array_equal(one.model_.task_omega, two.model_.task_omega)
    np.testing.assert_array_equal(one.model_.standard.spread, two.model_.standard.spread)


class LastFirst(Executor):
    """Works on what it was given in the wrong order, when it is asked for a result."""

    def __init__(self):
        self.given = []

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        self.given.append((future, function, args))
        if len(self.given) == 3:
            for one, call, arguments in reversed(self.given):
                one.set_result(call(*arguments))
            self.given.clear()
        return future


def test_threads_and_any_order_of_answers_give_the_same_digits(table, monkeypatch):
    monkeypatch.setattr("undertow.scale.running._IN_FLIGHT", 3)
    alone = fitted(table)
    assert len(table.fragments(streamed().ceiling.fragment)) % 3 == 0  # or the last ones would wait for ever
    assert_same_digits(fitted(table, executor=LastFirst()), alone)
    with ThreadPoolExecutor(3) as executor:
        assert_same_digits(fitted(table, executor=executor), alone)


@pytest.mark.long
def test_two_processes_give_the_same_digits(table):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        assert_same_digits(fitted(table, executor=executor), fitted(table))


def test_a_fragment_that_cannot_be_read_is_said_as_in_this_process(tmp_path):
    faulty = frame()
    faulty.loc[17, "f2"] = np.nan
    table = sort(scatter(faulty, tmp_path / "in"), "shop", "sales", folder=tmp_path / "work", memory="600MB")
    for executor in (None, ThreadPoolExecutor(2)):
        with pytest.raises(InputError, match=r"feature 'f2' is missing or infinite in row 17 "):
            fitted(table, executor=executor)


KILLED = """
import os, signal, sys
import undertow as ut
from undertow.scale import running
sys.path.insert(0, {tests!r})
from scattered import streamed
from undertow.scale.fitting import fit_sorted
from undertow.scale.sorted_table import sort
from pathlib import Path

left = [{writes}]
write = running.write_bytes
def dying(place, data):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(place, data)
running.write_bytes = dying
work = Path({work!r})
table = sort({source!r}, "shop", "sales", folder=work, memory="600MB")
fit_sorted(ut.MAMLRegressor(-0.3, 0.2, n_support=2, n_draws=1), table, streamed(kept=work / "sums"))
"""


class Counting(LastFirst):
    """Counts what it is given, and does it at once."""

    n = 0

    def submit(self, function, /, *args, **kwargs):
        self.n += 1
        future = Future()
        future.set_result(function(*args))
        return future


@pytest.mark.long
def test_a_call_after_kill_9_goes_on_and_gives_the_same_digits(tmp_path):
    source = str(scatter(frame(), tmp_path / "in"))
    alone = sort(source, "shop", "sales", folder=tmp_path / "alone", memory="600MB")
    expected = fitted(alone)
    n = len(alone.fragments(streamed().ceiling.fragment))
    work, writes = tmp_path / "work", n + 3
    code = KILLED.format(tests=str(Path(__file__).parents[1]), writes=writes, work=str(work), source=source)
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(work.rglob("*.answer"))) == writes
    executor = Counting()
    table = sort(source, "shop", "sales", folder=work, memory="600MB")
    assert_same_digits(fitted(table, kept=work / "sums", executor=executor), expected)
    # Three questions about each fragment: for the spread, the sums and each task's weights.
    assert executor.n == 3 * n - writes
    again = Counting()
    assert_same_digits(fitted(table, kept=work / "sums", executor=again), expected)
    assert again.n == 0


def test_sums_of_other_settings_are_not_taken_for_these(table, tmp_path):
    first = fitted(table, kept=tmp_path / "sums")
    other = fit_sorted(ut.MAMLRegressor(0.5, 0.2, n_support=2, n_draws=1), table, streamed(kept=tmp_path / "sums"))
    assert np.abs(other.coef_ - first.coef_).max() > 1e-6


class KillsAWorker(Executor):
    """An executor of Dask's; at the seventh fragment one of its processes is killed."""

    def __init__(self, client):
        self.inner, self.n = client.get_executor(), 0
        self.pids = sorted(client.run(os.getpid).values())

    def submit(self, function, /, *args, **kwargs):
        self.n += 1
        if self.n == 7:
            os.kill(self.pids[0], signal.SIGKILL)
        return self.inner.submit(function, *args)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_that_loses_a_worker_gives_the_same_digits(table):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = KillsAWorker(client)
        assert len(executor.pids) == 2
        found = fitted(table, executor=executor)
        assert executor.n > 7
        assert sorted(client.run(os.getpid).values()) != executor.pids
    assert_same_digits(found, fitted(table))
