"""``undertow compare`` as a user calls it: what it prints, what it writes, and what it says of bad input."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from undrawn import drawing

import undertow as ut
from undertow.cli import app
from undertow.comparison import Plan, compare
from undertow.comparison.registry import chosen

RUN = CliRunner()
QUICK = ("--rivals", "pooled,alone,step", "--folds", 3, "--draws", 2, "--time-limit", "inf")


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module", autouse=True)
def no_width():
    # Set by pytest-xdist: tables would be printed for a terminal of that width.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="module")
def written(no_width, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "results"
    with drawing():
        return folder, run("compare", "radon", "--out", folder, *QUICK)


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "results")


@pytest.fixture(scope="module")
def ours():
    table = ut.tasks.read_table(ut.datasets.load("radon"), min_rows=6, on_small="drop")
    return compare(table, Plan(5, 3, 2), rivals=["pooled", "alone", "step"], time_limit=None)


def test_the_table_and_the_verdict_are_printed(written, ours):
    _, output = written
    for words in (
        "radon: 39 tasks (county) of 6 to 116 rows, 764 rows, 2 features, target log.radon",
        "46 of 85 tasks left out (fewer than 6 rows)",
        "each task held out once in 3 folds; it brings 5 rows and is measured on the others (2 draws)",
        f"minus that of {ours.label(ours.best)}; positive is worse",
        ours.verdict,
    ):
        assert words in " ".join(output.split())
    assert len(output.splitlines()) <= 24
    for row in ours.table():
        line = next(line for line in output.splitlines() if line.startswith(row["label"]))
        assert f"{row['loss']:.4f}" in line
        assert f"{row['standard_error']:.4f}" in line
        if row["difference"] is not None:
            assert f"{row['difference']:+.4f}  {row['low']:+.4f} to {row['high']:+.4f}" in line


def test_what_is_written_is_what_the_library_gives(written, ours):
    folder, _ = written
    rows = pq.read_table(folder / "comparison.parquet").to_pylist()
    for row, expected in zip(rows, ours.table(), strict=True):
        timed = {"fit_seconds", "adapt_seconds"}
        assert {k: v for k, v in row.items() if k not in timed} == {k: v for k, v in expected.items() if k not in timed}
        assert row["fit_seconds"] > 0
    losses = pq.read_table(folder / "held_out.parquet")
    assert losses["task"].to_pylist() == ours.task_ids.tolist()
    np.testing.assert_array_equal(losses["query_rows"], ours.task_rows)
    np.testing.assert_array_equal(losses["mse_over_variance_alone"], ours.losses("alone"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"] is True
    assert summary["verdict"] == ours.verdict
    assert summary["settings"]["rivals"] == ["pooled", "alone", "step"]
    assert summary["target_variance"] == ours.settings["target_variance"]
    assert (folder / "figure.png").stat().st_size > 15_000
    assert "<svg" in (folder / "figure.svg").read_text()[:500]


def test_the_same_call_again_reads_its_fits_and_other_settings_are_refused(written):
    folder, first = written
    cells = (folder / "cells.jsonl").read_text()
    assert run("compare", "radon", "--out", folder, *QUICK) == first  # seconds of the fits included
    assert (folder / "cells.jsonl").read_text() == cells
    output = run("compare", "radon", "--out", folder, *QUICK, "--seed", 1, code=2)
    assert "other seed" in output
    assert "--overwrite" in output
    (folder.parent / "mine").mkdir()
    (folder.parent / "mine" / "notes.txt").write_text("mine")
    assert "Choose another --out" in run("compare", "radon", "--out", folder.parent / "mine", code=2)


def test_with_overwrite_another_choice_of_rivals_reuses_the_fits(copied):
    lines = len((copied / "cells.jsonl").read_text().splitlines())
    run("compare", "radon", "--out", copied, *QUICK, "--rivals", "pooled,step,tied", "--overwrite")
    assert len((copied / "cells.jsonl").read_text().splitlines()) == lines + 3
    assert json.loads((copied / "summary.json").read_text())["settings"]["rivals"] == ["pooled", "step", "tied"]


def test_ctrl_c_keeps_the_finished_fits_and_the_same_command_goes_on(tmp_path, monkeypatch):
    import undertow.comparison.run as run_module

    original, ran = run_module.run_cell, []

    def interrupted(*arguments):
        if len(ran) == 4:
            raise KeyboardInterrupt
        ran.append(arguments[4])
        return original(*arguments)

    folder = tmp_path / "results"
    monkeypatch.setattr(run_module, "run_cell", interrupted)
    output = run("compare", "radon", "--out", folder, *QUICK, code=130)
    assert f"Finished fits are kept in {folder / 'cells.jsonl'}: the same command goes on from them." in output
    assert json.loads((folder / "summary.json").read_text())["finished"] is False
    assert not (folder / "comparison.parquet").exists()
    ran[:] = ["enough"] * 10  # never 4 again
    run("compare", "radon", "--out", folder, *QUICK)
    assert len(ran) == 10 + 5
    assert json.loads((folder / "summary.json").read_text())["finished"] is True


def test_a_csv_file_with_a_constant_and_a_text_column(tmp_path):
    rng = np.random.default_rng(0)
    shop = np.repeat([f"shop {i}" for i in range(12)], 9)
    price = rng.standard_normal(len(shop))
    frame = {"shop": shop, "price": price, "kind": np.where(rng.random(len(shop)) < 0.5, "a", "b"), "one": np.ones(108)}
    frame["sales"] = 3 - price + 0.1 * rng.standard_normal(len(shop))
    import pyarrow.csv

    path = tmp_path / "my shops.csv"
    pyarrow.csv.write_csv(pa.table(frame), path)
    base = ("compare", path, "--task", "shop", "--target", "sales", *QUICK, "--n-support", 3, "--out", tmp_path / "out")
    assert "onehot" in run(*base, code=2)
    assert "one value in all rows" in run(*base, "--categories", "onehot", "--on-constant", "raise", code=2)
    output = run(*base, "--categories", "onehot")
    assert "note: left out, since they have one value in all rows: 'one' is 1" in output
    assert "my_shops: 12 tasks (shop) of 9 rows, 108 rows, 2 features, target sales" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.csv",), "there is no such file"),
        (
            ("radon", "--rivals", "pooled,lasso"),
            "--rivals pooled,lasso: there is no 'lasso'; choose among pooled, alone",
        ),
        (("radon", "--folds", 100), "there are only 39 tasks"),
        (("radon", "--folds", 39, "--n-support", 100), "a comparison needs 3"),
        (("radon", "--level", 1), "--level 1.0: it must lie between 0 and 1"),
        (("radon", "--time-limit", 0), "--time-limit 0.0: it must be greater than 0. Use --time-limit inf"),
        (("radon", "--clip", 0), "Use --clip inf for no limit"),
        (("radon", "--n-support", 200), "201 rows"),
        (("radon", "--on-small", "keep"), "--on-small keep: choose one of"),
        (("radon", "--features", "uranium"), "uranium"),
        (("radon", "--report", "report.txt"), "--report report.txt: the name must end in .html"),
        (("radon", "--repeats", 0), "repeats"),
    ],
)
def test_bad_input_is_named_in_options_and_leaves_nothing_behind(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    output = run("compare", *arguments, code=2)
    assert words in " ".join(output.replace("│", " ").split())
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [("--level", 95), ("--time-limit", -5), ("--clip", -1), ("--weighting", "equal")])
def test_a_value_that_cannot_be_used_comes_before_results_that_are_there(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "radon-compare").mkdir()
    (tmp_path / "radon-compare" / "thesis.tex").write_text("")
    output = run("compare", "radon", *wrong, code=2)
    assert f"{wrong[0]} {wrong[1]}" in output
    assert "radon-compare" not in output


def test_too_few_tasks_to_compare_on_are_named_with_their_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["shop,x,y", *(f"{'ab'[i % 2]},{i % 7},{i % 5}" for i in range(40))]))
    output = run("compare", path, "--task", "shop", "--target", "y", "--out", tmp_path / "out", code=2)
    assert "2 tasks (shop)" in " ".join(output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_every_rival_with_its_default_limit_and_a_report(tmp_path, monkeypatch):
    pytest.importorskip("statsmodels")
    pytest.importorskip("vl_convert")
    monkeypatch.chdir(tmp_path)
    output = run("compare", "radon", "--n-support", 12, "--folds", 2, "--draws", 1, "--report", "radon.html")
    assert "MixedLM, random slopes" in output
    assert "report radon.html" in " ".join(output.split())
    assert (tmp_path / "radon.html").read_text().lstrip().lower().startswith("<!doctype html")
    of_numbers = [rival for rival in chosen(None) if not rival.target]
    assert pq.read_table("radon-compare/comparison.parquet").num_rows == len(of_numbers)
    again = ("compare", "radon", "--out", "other", "--report", "radon.html")
    assert "--report radon.html: the file is there already" in run(*again, code=2)


@pytest.mark.long
def test_a_killed_command_loses_one_fit_and_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "undertow.cli", "compare", "radon", "--out", str(tmp_path / "out"), "--draws", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cells = tmp_path / "out" / "cells.jsonl"
    while not cells.is_file() or len(cells.read_text().splitlines()) < 5:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"the same command goes on from them" in errors
    done = len(cells.read_text().splitlines())
    assert not any(_is_worker_of(p, process.pid) for p in os.listdir("/proc") if p.isdigit())
    # Nor does one that is killed outright leave its second process at work.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (workers := [p for p in os.listdir("/proc") if p.isdigit() and _is_worker_of(p, process.pid)]):
        time.sleep(0.05)
    time.sleep(3)
    process.kill()
    process.wait()
    begun = time.monotonic()
    while any(map(_runs, workers)):
        assert time.monotonic() - begun < 30
        time.sleep(0.1)
    subprocess.run(command, check=True, capture_output=True)
    found = [json.loads(line) for line in cells.read_text().splitlines()]
    rivals = {one["rival"] for one in found}
    assert sorted((one["fold"], one["rival"]) for one in found) == sorted(itertools.product(range(5), rivals))
    assert len(found) > done


def _state_and_parent(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return "gone", "-1"


def _is_worker_of(number, parent):
    return _state_and_parent(number)[1] == str(parent)


def _runs(number):
    return _state_and_parent(number)[0] not in ("gone", "Z", "X")


def test_a_report_is_still_known_after_a_run_without_it(copied, tmp_path, monkeypatch):
    monkeypatch.setattr("undertow.report.extra.require", lambda: None)
    monkeypatch.setattr("undertow.report.write_compare_report", lambda file, *_: file.write_text("report"))
    page = tmp_path / "r.html"
    run("compare", "radon", "--out", copied, "--report", page, *QUICK)
    run("compare", "radon", "--out", copied, "--overwrite", *QUICK)
    assert "; report" in run("compare", "radon", "--out", copied, "--report", page, *QUICK)
