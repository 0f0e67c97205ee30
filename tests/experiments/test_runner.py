"""Stored cells: a stopped run goes on from them, and ends with the same bits as one that was never stopped."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undrawn import drawing

from undertow import experiments
from undertow._check import InputError
from undertow.trials.store import Folder

NAME = "overparameterized"
SMALL = {
    "adapt_runs": 30,
    "train_runs": 30,
    "train_rates": (-2.0, -1.0, 0.0, 0.5),
    "adapt_rates": (-0.2, 0.0, 0.2, 0.4),
    "n_test_tasks": 10,
    "n_test_rows": 5,
}


def small(**settings):
    return experiments.get(NAME).config(**{**SMALL, **settings})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with drawing():
        return experiments.reproduce(NAME, tmp_path_factory.mktemp("finished"), config=small())


def test_a_folder_holds_all_files_and_a_record_of_how_they_came(finished):
    names = {path.name for path in finished.folder.iterdir()}
    figures = {"figure.png", "figure.svg"}
    assert names == {"cells", "config.json", "finding.json", "table.parquet", "verdict.txt"} | figures
    record = json.loads((finished.folder / "config.json").read_text())
    assert record["config"]["adapt_runs"] == 30
    assert record["seed"] == 0
    assert set(record["versions"]) == {"undertow", "numpy", "scipy", "python"}
    assert len(record["hash"]) == 64
    assert (finished.folder / "verdict.txt").read_text().splitlines() == finished.verdict
    claim, *lines = finished.verdict
    assert experiments.get(NAME).claim in claim
    assert tuple(lines[: len(finished.finding.lines)]) == finished.finding.lines
    stored = json.loads((finished.folder / "finding.json").read_text())
    assert stored["experiment"] == NAME
    for name in ("statistic", "estimate", "low", "high", "unit", "result"):
        assert stored[name] == getattr(finished.finding, name)
    assert finished.figure == finished.folder / "figure.png"
    assert (finished.folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert (finished.computed, finished.kept, finished.was_complete) == (4, 0, False)
    assert pq.read_table(finished.folder / "table.parquet").equals(finished.table)


@pytest.mark.usefixtures("drawn")
def test_a_complete_folder_is_only_drawn_again(finished, monkeypatch):
    before = {path.name: path.read_bytes() for path in finished.folder.glob("*.*")}
    monkeypatch.setattr("undertow.trials.monte_carlo.run_cell", None)
    again = experiments.reproduce(NAME, finished.folder.parent, config=small())
    assert again.was_complete
    assert again.computed == 0
    assert {path.name: path.read_bytes() for path in finished.folder.glob("*.*")} == before
    (finished.folder / "figure.svg").unlink()
    assert experiments.redraw(finished.folder).verdict == finished.verdict
    assert (finished.folder / "figure.svg").read_bytes() == before["figure.svg"]


def test_in_memory_and_in_any_order_of_cells_it_is_the_same_table(finished):
    record = experiments.get(NAME)
    assert record.run(small()).equals(finished.table, check_metadata=True)
    tables = [record.run_cell(small(), cell) for cell in reversed(record.cells(small()))]
    assert record.collect(small(), tables).equals(finished.table, check_metadata=True)


def test_cells_of_other_settings_are_not_collected(finished):
    record = experiments.get(NAME)
    tables = [record.run_cell(small(), cell) for cell in record.cells(small())]
    with pytest.raises(InputError, match="panel 'a' has 120 rows: 50 runs of 4 points make 200"):
        record.collect(small(adapt_runs=50), tables)


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_run_stopped_between_cells_goes_on(finished, tmp_path, stop_after):
    def stop(done, total):
        assert total == 4
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.reproduce(NAME, tmp_path, config=small(), progress=stop)
    folder = experiments.folder_of(NAME, tmp_path, quick=False)
    assert experiments.cells_kept(experiments.get(NAME), small(), folder) == (stop_after, 4)
    with pytest.raises(InputError, match="not complete"):
        experiments.redraw(folder)
    result = experiments.reproduce(NAME, tmp_path, config=small())
    assert (result.computed, result.kept) == (4 - stop_after, stop_after)
    assert (folder / "table.parquet").read_bytes() == (finished.folder / "table.parquet").read_bytes()


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    config = small()
    store = Folder(tmp_path / NAME)
    store.open(NAME, config)
    cell = experiments.get(NAME).cells(config)[0]

    def half(file):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", half)
    with pytest.raises(KeyboardInterrupt):
        store.keep(cell, pa.table({"a": [1]}))
    assert not list((tmp_path / NAME / "cells").iterdir())


def test_a_damaged_cell_is_computed_again(finished, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        experiments.reproduce(NAME, tmp_path, config=small(), progress=_stop_at(2))
    folder = tmp_path / NAME
    cut, flipped = sorted((folder / "cells").iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:100])
    data = bytearray(flipped.read_bytes())
    data[40] ^= 1  # a number of the first column
    flipped.write_bytes(data)
    assert experiments.reproduce(NAME, tmp_path, config=small()).computed == 4
    assert (folder / "table.parquet").read_bytes() == (finished.folder / "table.parquet").read_bytes()


def _stop_at(count):
    def stop(done, total):
        if done == count:
            raise KeyboardInterrupt

    return stop


def test_cells_are_independent_of_how_many_there_are():
    """More runs keep the runs that are there: a seed belongs to its cell."""
    record = experiments.get(NAME)
    few, many = small(train_runs=50), small(train_runs=100)
    shared = {cell.key: cell for cell in record.cells(many)}
    for cell in record.cells(few):
        if cell.runs == 25:
            assert shared[cell.key] == cell
    draws = [cell.generator().standard_normal() for cell in record.cells(many)]
    assert len(set(draws)) == len(draws)


def test_other_settings_in_the_folder_are_refused_and_overwritten_on_request(tmp_path):
    experiments.reproduce(NAME, tmp_path, config=small())
    other = small(seed=1, n_tasks=4)
    with pytest.raises(InputError, match=r"n_tasks: 3 there, 4 now; seed: 0 there, 1 now.*another --out.*--overwrite"):
        experiments.reproduce(NAME, tmp_path, config=other)
    stranger = tmp_path / NAME / "notes.txt"
    stranger.write_text("mine")
    result = experiments.reproduce(NAME, tmp_path, config=other, overwrite=True)
    assert (result.computed, result.kept) == (4, 0)
    assert stranger.read_text() == "mine"


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"not empty and holds no config\.json"):
        experiments.reproduce(NAME, tmp_path, config=small())
    keys = {"experiment": NAME, "config": {}, "versions": {}, "hash": ""}
    wrong = [json.dumps({**keys, key: value}) for key in keys for value in (3, None, [])]
    for content in ("{}", "[]", "3", "null", "{", "\xff", *wrong):
        (tmp_path / NAME / "config.json").write_text(content, encoding="latin-1")
        with pytest.raises(InputError, match="cannot be read as settings"):
            experiments.reproduce(NAME, tmp_path, config=small())
        with pytest.raises(InputError, match="cannot be read as settings"):
            experiments.redraw(tmp_path / NAME)


@pytest.mark.wrong_type
@pytest.mark.parametrize("config", [experiments.get("threshold").config(quick=True), small().model_dump(), 3])
def test_a_config_of_another_experiment_is_refused_before_a_folder_is_made(tmp_path, config):
    with pytest.raises(InputError, match=rf"config is of type .*get\('{NAME}'\)\.config"):
        experiments.reproduce(NAME, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize("again", ["reproduce", "redraw"])
def test_a_complete_folder_is_collected_again_where_theory_changed(tmp_path, monkeypatch, again):
    first = experiments.reproduce(NAME, tmp_path, config=small())
    before = experiments.redraw(first.folder).table
    assert before.equals(first.table, check_metadata=True)
    column = "undertow.trials.summary.theory_column"
    monkeypatch.setattr(column, lambda panel, method: np.full(panel.grid[0].size, 7.0))
    call = {
        "reproduce": lambda: experiments.reproduce(NAME, tmp_path, config=small()),
        "redraw": lambda: experiments.redraw(first.folder),
    }[again]
    changed = call()
    assert (changed.computed, changed.was_complete) == (0, True)
    assert set(changed.table["theory_exact"].to_pylist()) == {7.0}
    assert pq.read_table(first.folder / "table.parquet").equals(changed.table)
    # Without all cells there is nothing to collect from: the table is what is left.
    monkeypatch.undo()
    next((first.folder / "cells").iterdir()).unlink()
    assert set(call().table["theory_exact"].to_pylist()) == {7.0}


def test_a_new_version_does_not_mix_with_the_cells_of_an_old_one(tmp_path, monkeypatch):
    Folder(tmp_path / NAME).open(NAME, small())
    monkeypatch.setattr("undertow.trials.store.__version__", "99.0")
    with pytest.raises(InputError, match=r"undertow .* there, 99\.0 now"):
        experiments.reproduce(NAME, tmp_path, config=small())


def test_redraw_needs_results(tmp_path):
    with pytest.raises(InputError, match="no results"):
        experiments.redraw(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="choose one of 'overparameterized'"):
        experiments.reproduce("overparametrised", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_a_process_killed_by_ctrl_c_keeps_its_cells_and_the_next_one_ends_with_the_same_bits(tmp_path):
    """SIGINT to a real process in the middle of a cell; the reference is a run that was never stopped."""
    # A shell that starts us in the background makes us ignore SIGINT, and children inherit that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from undertow.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "reproduce", NAME, "--quick", "--out", str(tmp_path / "stopped")]
    cells = tmp_path / "stopped" / f"{NAME}-quick" / "cells"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(6000):
            if len(list(cells.glob("*.parquet"))) >= 2 or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "parts of overparameterized are kept" in err
    kept = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert 2 <= len(kept) < 6
    assert all(name.endswith(".parquet") and not name.startswith(".") for name in kept)

    resumed = experiments.reproduce(NAME, tmp_path / "stopped", quick=True)
    assert resumed.kept == len(kept)
    assert {name: (cells / name).stat().st_mtime_ns for name in kept} == kept
    whole = experiments.reproduce(NAME, tmp_path / "whole", quick=True)
    for name in ("table.parquet", "figure.svg", "figure.png", "verdict.txt", "finding.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


@pytest.mark.usefixtures("drawn")
def test_the_global_matplotlib_settings_stay_as_they_are(finished):
    import matplotlib

    before = dict(matplotlib.rcParams)
    experiments.get(NAME).draw(finished.table, small())
    experiments.redraw(finished.folder)
    assert dict(matplotlib.rcParams) == before


def test_rows_of_a_table_are_the_means_of_its_cells(finished):
    cells = pa.concat_tables(
        [pq.read_table(path) for path in sorted((finished.folder / "cells").glob("b-*.parquet"))]
    ).to_pandas()
    rows = finished.table.to_pandas().query("panel == 'b'").set_index("train_rate")
    for name in ("raw", "conditional"):
        by_rate = cells.groupby("train_rate")[name]
        np.testing.assert_allclose(rows[f"{name}_mean"], by_rate.mean(), rtol=1e-13)
        np.testing.assert_allclose(rows[f"{name}_se"], by_rate.std(ddof=1) / np.sqrt(30), rtol=1e-13)
        np.testing.assert_allclose(rows[f"{name}_median"], by_rate.median(), rtol=1e-13)
        expected = (rows[f"{name}_mean"] - rows["theory_exact"]) / rows[f"{name}_se"]
        np.testing.assert_allclose(rows[f"{name}_z"], expected, rtol=1e-10)
