"""The run as a whole: folds, repeats, refusals, cells kept on disk, the second process and its time limit."""

import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from grouped_small import small

import undertow.comparison.run as run_module
from undertow import InputError
from undertow.comparison import RIVALS, Plan, compare
from undertow.comparison.worker import Worker
from undertow.tasks import GroupedTable, folds

QUICK = ["pooled", "alone"]


def quick(table, n_support=3, **changes):
    settings = {"n_folds": 3, "n_draws": 2, "rivals": QUICK, "time_limit": None} | changes
    plan = {name: settings.pop(name) for name in Plan._fields if name in settings}
    return compare(table, Plan(**{"n_support": n_support} | plan), **settings)


@pytest.fixture
def counted(monkeypatch):
    """Names of the cells that were run, and not read."""
    ran = []
    original = run_module.run_cell

    def run(table, plan, repeat, fold, rival, *rest):
        ran.append((repeat, fold, rival))
        return original(table, plan, repeat, fold, rival, *rest)

    monkeypatch.setattr(run_module, "run_cell", run)
    return ran


def test_the_record_has_each_task_once_and_folds_add_up_to_it():
    table = small()
    found = quick(table, n_repeats=np.int64(2))
    json.dumps(found.settings)
    assert found.names == ("pooled", "alone")
    assert found.labels == (RIVALS["pooled"], RIVALS["alone"])
    np.testing.assert_array_equal(found.task_ids, table.ids)
    np.testing.assert_array_equal(found.task_rows, table.counts - 3)
    assert found.fold_losses.shape == (6, 2)
    # Without repeats the folds' means, weighted by their tasks or rows, are the mean over tasks.
    for weighting in ("rows", "tasks"):
        once = quick(table, weighting=weighting)
        held = [once.weights[part].sum() for part in folds(table.ids, 3, 0)]
        mean = np.average(once.fold_losses[:, 1], weights=held)
        np.testing.assert_allclose(mean, once.mean_loss("alone")[0], rtol=1e-12)
    np.testing.assert_array_equal(found.fold_losses[:3], once.fold_losses)
    assert (found.fit_seconds > 0).all()
    assert (found.adapt_seconds > 0).all()
    assert found.settings["target_variance"] == pytest.approx(table.y.var())


def test_losses_do_not_depend_on_units_of_features_and_target():
    table = small()
    other = type(table).from_arrays(1000 * table.x - 3, -0.01 * table.y + 8, table.groups)
    np.testing.assert_allclose(quick(other).task_losses, quick(table).task_losses, rtol=1e-8)


def test_progress_counts_every_fit():
    seen = []
    quick(small(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(7)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_support": 0}, "n_support=0: it must be a whole number of at least 1"),
        ({"n_folds": 1}, "n_folds=1: it must be a whole number of at least 2"),
        ({"n_folds": 13}, "n_folds=13: there are only 12 tasks"),
        ({"n_draws": 2.5}, "n_draws=2.5"),
        ({"n_repeats": 0}, "n_repeats=0"),
        ({"seed": -1}, "seed=-1"),
        ({"clip": -1.0}, "clip=-1.0: it must be greater than 0"),
        ({"level": 1.0}, "level=1.0: it must lie between 0 and 1"),
        ({"time_limit": 0}, "time_limit=0: it must be greater than 0."),
        ({"rivals": ["pooled", "lasso"]}, "choose among pooled, alone, pooled_ridge, mixedlm"),
        ({"rivals": []}, "choose among"),
        ({"n_support": 7}, "have no row left to be measured on, first task 0"),
    ],
)
def test_settings_that_cannot_be_used_are_named(changes, words):
    with pytest.raises(InputError) as error:
        quick(small(), **changes)
    assert words in str(error.value)


def test_tables_that_cannot_be_used_are_named():
    table = small()
    with pytest.raises(InputError, match="must be a GroupedTable"):
        quick(table.x)
    with pytest.raises(InputError, match="nothing to predict"):
        quick(type(table).from_arrays(table.x, np.ones(table.n_rows), table.groups))
    with pytest.raises(InputError, match="every rival has its own"):
        quick(table.with_intercept())
    with pytest.raises(InputError, match="fewer than two to train on"):
        quick(table.select([0, 1, 2]), n_folds=2)


def test_a_training_set_with_one_target_is_an_outcome_and_no_crash():
    table = small(6)
    y = np.where(table.groups == "task 03", table.y, 1.0)
    found = quick(
        type(table).from_arrays(table.x, y, table.groups),
        n_folds=6,
        n_draws=1,
        rivals=["pooled", "alone", "pooled_ridge", "mixedlm", "step", "tied", "signed"],
    )
    assert {"pooled", "alone", "pooled_ridge", "step", "tied", "signed"} <= set(found.measured)


def test_finished_cells_are_read_after_an_interruption(tmp_path, counted):
    table, cells = small(), tmp_path / "cells.jsonl"

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(table, cells=cells, progress=stop)
    assert len(counted) == 3
    counted.clear()
    found = quick(table, cells=cells)
    assert counted == [(0, 1, "alone"), (0, 2, "pooled"), (0, 2, "alone")]
    np.testing.assert_array_equal(found.task_losses, quick(table).task_losses)
    counted.clear()
    # More repeats and rivals add cells; nothing is done twice.
    quick(table, cells=cells, n_repeats=2, rivals=["pooled", "pooled_ridge"])
    assert counted == [(0, f, "pooled_ridge") for f in range(3)] + [
        (1, f, r) for f in range(3) for r in ("pooled", "pooled_ridge")
    ]


@pytest.mark.parametrize("change", ["target", "seed", "n_support", "clip", "ids"])
def test_cells_of_other_data_or_settings_are_not_read(tmp_path, counted, change):
    table, cells = small(), tmp_path / "cells.jsonl"
    quick(table, cells=cells)
    y = table.y + (change == "target") * 1e-9
    groups = np.char.replace(table.groups, "task 00", "task 99") if change == "ids" else table.groups
    other = {"seed": {"seed": 1}, "n_support": {"n_support": 2}, "clip": {"clip": 3.0}}.get(change, {})
    counted.clear()
    quick(type(table).from_arrays(table.x, y, groups), cells=cells, **other)
    assert len(counted) == 6


def test_a_line_that_was_cut_off_costs_one_cell(tmp_path, counted):
    table, cells = small(), tmp_path / "cells.jsonl"
    before = quick(table, cells=cells)
    cells.write_bytes(cells.read_bytes()[:-40])
    counted.clear()
    after = quick(table, cells=cells)
    assert counted == [(0, 2, "alone")]
    np.testing.assert_array_equal(after.task_losses, before.task_losses)
    counted.clear()
    quick(table, cells=cells)
    assert counted == []


def test_the_second_process_gives_the_same_losses():
    table = small()
    here, there = quick(table), quick(table, time_limit=100.0)
    np.testing.assert_array_equal(there.task_losses, here.task_losses)
    assert there.notes == here.notes


@pytest.mark.long
def test_a_rival_that_takes_too_long_is_left_out_and_gets_another_chance_with_more_time(tmp_path, counted):
    table, cells = small(), tmp_path / "cells.jsonl"
    plan = Plan(3, 3, 1, 4.0, 0)
    with Worker(table, plan, 60.0, ["pooled", "default"]) as worker:
        assert worker.run(0, 0, "pooled").losses
        process = worker._process
        worker._limit = 1e-4
        begun = time.monotonic()
        cell = worker.run(0, 1, "default")
        assert time.monotonic() - begun < 20
        assert cell.left_out == "left out: a fit took longer than 0.0001 s (repeat 1, fold 2)"
        assert process.returncode is not None  # it is gone, whatever it was doing
        worker._limit = 60.0
        assert worker.run(0, 1, "pooled").losses  # and another one has taken its place
        last = worker._process
    assert last.returncode is not None
    slow = {"key": "", "limit": 1e-4, "repeat": 0, "fold": 1, "rival": "alone", "losses": [], "fit_seconds": 0.0}
    quick(table, cells=cells)
    lines = cells.read_text().splitlines()
    slow |= {"key": json.loads(lines[0])["key"], "adapt_seconds": 0.0, "notes": [], "left_out": cell.left_out}
    cells.write_text("\n".join([*lines, json.dumps(slow)]) + "\n")
    counted.clear()
    assert quick(table, cells=cells).measured == ("pooled", "alone")
    assert counted == []


@pytest.mark.long
def test_a_second_process_that_dies_is_named(monkeypatch):
    with Worker(small(), Plan(3, 3, 1, 4.0, 0), 60.0, ["pooled"]) as worker:
        assert worker.run(0, 0, "pooled").losses
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
        cell = worker.run(0, 1, "pooled")
        assert "its process ended with code -9" in cell.left_out
        assert not cell.lasting  # so that another run tries again
        assert worker.run(0, 1, "pooled").losses


def test_a_second_process_that_cannot_start_is_an_error_and_no_verdict_on_a_rival(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="the process that is to fit the rivals ended with code 1"):
        quick(small(), time_limit=60.0)


def test_the_end_of_a_process_is_not_kept(tmp_path, monkeypatch, counted):
    inner = run_module.run_cell

    def dying(table, plan, repeat, fold, rival, *rest):
        cell = inner(table, plan, repeat, fold, rival, *rest)
        return type(cell)(repeat, fold, rival, left_out="left out: died", lasting=False) if rival == "alone" else cell

    table, cells = small(), tmp_path / "cells.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "run_cell", dying)
        assert quick(table, cells=cells).measured == ("pooled",)
    counted.clear()
    assert quick(table, cells=cells).measured == ("pooled", "alone")
    assert counted == [(0, fold, "alone") for fold in range(3)]


def test_a_rival_left_out_in_one_fold_is_left_out_and_not_tried_again(monkeypatch, counted):
    inner = run_module.run_cell

    def failing(table, plan, repeat, fold, rival, *rest):
        cell = inner(table, plan, repeat, fold, rival, *rest)
        if (fold, rival) == (1, "alone"):
            return type(cell)(repeat, fold, rival, left_out="left out: too slow")
        return cell

    monkeypatch.setattr(run_module, "run_cell", failing)
    found = quick(small())
    assert found.measured == ("pooled",)
    assert np.isnan(found.task_losses[:, 1]).all()
    assert found.notes["alone"] == "left out: too slow"
    assert (0, 2, "alone") not in counted
    with pytest.raises(InputError, match="No rival could be measured: alone, left out: too slow"):
        quick(small(), rivals=["alone"])


def test_later_tasks_are_predicted_by_fits_to_earlier_ones():
    rng = np.random.default_rng(0)
    week, x = np.repeat(np.arange(16), 6), rng.standard_normal((96, 1))
    y = x[:, 0] * (1 + 0.2 * week) + 0.1 * rng.standard_normal(96)
    table = replace(GroupedTable.from_arrays(x, y, week), moments=week.astype(float))
    plan = Plan(2, 2, 1)
    with_worker = compare(table, plan, rivals=["pooled"], time_limit=60)
    assert with_worker.later_losses is not None
    assert np.flatnonzero(~np.isnan(with_worker.later_losses[:, 0])).tolist() == list(range(11, 16))
    by_hand = []
    for low, high in ((11, 13), (13, 16)):
        early, draw = table.select(slice(0, low)), table.draw(2, np.random.SeedSequence(0, spawn_key=(0,)))
        weights = np.linalg.lstsq(np.c_[early.x, np.ones(early.n_rows)], early.y, rcond=None)[0]
        error = draw.query_y - draw.query_x[..., 0] * weights[0] - weights[1]
        by_hand += (error**2).mean(axis=1)[low:high].tolist()
    assert with_worker.later_losses[11:, 0] == pytest.approx(np.array(by_hand) / table.y.var(), rel=1e-6)
    assert with_worker.later_loss("pooled")[0] > with_worker.mean_loss("pooled")[0]
    assert "5 later tasks" in with_worker.verdict
    assert "loss_later" in with_worker.table()[0]
    with pytest.raises(InputError, match="strictly before"):
        compare(replace(table, moments=np.zeros(96)), plan, rivals=["pooled"], time_limit=None)
