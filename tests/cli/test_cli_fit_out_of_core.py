"""``undertow fit`` on folders, globs and files that stay out of memory."""

import json

import numpy as np
import pytest
from scattered import frame, scatter
from typer.testing import CliRunner

import undertow as ut
from undertow.choice import words
from undertow.cli import app
from undertow.cli.saved_model import load_model

RUN = CliRunner()
COLUMNS = ("--task", "shop", "--target", "sales")
FEW = ("--n-support", 2, "--draws", 1, "--folds", 3)


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_folder_of_files_is_fitted_as_one_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = frame()
    scatter(rows, tmp_path / "shops")
    result = run("fit", "shops", *COLUMNS, *FEW, "--out", "out", "--save", "m.safetensors")
    model, columns = load_model(tmp_path / "m.safetensors")
    expected = ut.MAMLRegressorCV(2, 3, n_draws=1).fit(
        rows[[f"f{j}" for j in range(4)]], rows["sales"], groups=rows["shop"]
    )
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    assert (columns.task, columns.target) == ("shop", "sales")
    text = " ".join(result.output.split())
    for said in (words.recommendation(model.choice_), "60 tasks (shop)", "602 rows", "sorted by task into", "2 GB"):
        assert said in text
    assert len(result.stdout.splitlines()) <= 24
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]["memory"] is None
    # The model goes on to new tables.
    new = frame(m=2, seed=9, low=10)
    new.loc[::2, "sales"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    assert (
        "2 tasks"
        in run("predict", tmp_path / "m.safetensors", tmp_path / "new.csv", "--out", tmp_path / "p.csv").output
    )


def test_a_glob_and_a_ceiling_on_one_file(tmp_path):
    folder = scatter(frame(), tmp_path / "shops", kind="csv")
    one = scatter(frame(), tmp_path / "one", n_files=1, kind="csv") / "part-0.csv"
    by_glob = run("fit", folder / "*.csv", *COLUMNS, *FEW, "--out", tmp_path / "a", "--work", tmp_path / "work")
    by_file = run("fit", one, *COLUMNS, *FEW, "--out", tmp_path / "b", "--memory", "1GB")
    assert by_glob.stdout.splitlines()[3:-2] == by_file.stdout.splitlines()[3:-2]
    assert (tmp_path / "work" / "sorted.parquet").is_file()


def test_what_cannot_be_done_out_of_core_is_said(tmp_path):
    folder = scatter(frame(), tmp_path / "shops")
    said = run("fit", folder, *COLUMNS, "--report", tmp_path / "r.html", "--out", tmp_path / "a", code=2)
    assert "--report" in said.output
    for there in ("a", "others"):  # what cannot be read comes before results that are there
        (tmp_path / "others").mkdir(exist_ok=True)
        (tmp_path / "others" / "thesis.tex").write_text("")
        done = run("fit", folder, *COLUMNS, "--memory", "3 apples", "--out", tmp_path / there, code=2)
        assert "--memory" in done.output
    assert "--task" in run("fit", folder, "--target", "sales", "--out", tmp_path / "a", code=2).output
    assert "no file matches" in run("fit", tmp_path / "*.none", *COLUMNS, "--out", tmp_path / "a", code=2).output
    assert "more than one file" in run("compare", folder, *COLUMNS, "--out", tmp_path / "a", code=2).output
    assert "files" in run("fit", "gapminder", "--memory", "1GB", "--out", tmp_path / "a", code=2).output


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there_is_said(tmp_path):
    pytest.importorskip("distributed")
    folder = scatter(frame(), tmp_path / "shops")
    said = run("fit", folder, *COLUMNS, "--scheduler", "tcp://127.0.0.1:9", "--out", tmp_path / "a", code=2)
    assert "no scheduler answers" in said.output
