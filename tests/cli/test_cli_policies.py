"""One policy for tables as people have them, from ``fit`` to ``predict``: gaps, new levels, codes, spellings."""

import csv
import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app

RUN = CliRunner()
RNG = np.random.default_rng(7)
N, SHOPS = 144, 12
SHOP = np.arange(N) % SHOPS
PRICE = RNG.normal(100, 10, N)
KIND = RNG.integers(0, 3, N)
DAY = np.datetime64("2021-01-01") + RNG.integers(0, 300, N)
SOLD = 2000 + 0.5 * (PRICE - 100) + 3.0 * KIND + 0.1 * (DAY - DAY.min()).astype(float) + 0.1 * RNG.standard_normal(N)
SMALL = ["--draws", 1, "--folds", 3, "--overwrite", "--out", "o"]


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def rows(spell=str, day="%Y-%m-%d", target=True, chosen=range(N)):
    for i in chosen:
        when = DAY[i].astype("datetime64[D]").item().strftime(day)
        yield [f"s{SHOP[i]}", spell(f"{PRICE[i]:.4f}"), KIND[i], when, spell(f"{SOLD[i]:,.4f}") if target else ""]


def write(file, lines, sep=",", header=("shop", "unit price, EUR", "kind", "day", "sold")):
    with open(file, "w", newline="", encoding="utf-8") as to:
        csv.writer(to, delimiter=sep).writerows([header, *lines])


def read(file, sep=","):
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text, delimiter=sep))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def european(text):
    return text.replace(",", "#").replace(".", ",").replace("#", ".")


@pytest.mark.long
def test_a_table_of_another_country_predicts_the_same_and_comes_out_as_it_was(folder):
    write("plain.csv", rows())
    write("euro.csv", rows(european, "%d.%m.%Y"), ";")
    write("new.csv", rows(target=False, chosen=range(30)))
    write("neu.csv", rows(european, "%d.%m.%Y", False, range(30)), ";")
    asked = ["--task", "shop", "--target", "sold", "--features", "unit price, EUR,kind,day", "--categorical", "kind"]
    output = run("fit", "plain.csv", *asked, *SMALL, "--save", "a.safetensors")
    assert "4 features" in output
    assert "'day': dates, as days since 1970-01-01" in output
    assert "'sold': thousands separators" in output
    output = run("fit", "euro.csv", *asked, *SMALL, "--save", "b.safetensors")
    assert "columns parted by semicolons, decimal commas" in output
    run("predict", "a.safetensors", "new.csv")
    output = run("predict", "b.safetensors", "neu.csv")
    assert "12 of 12 tasks are known" in output
    ours, theirs = read("new-predictions.csv"), read("neu-predictions.csv", ";")
    assert [row["unit price, EUR"] for row in theirs] == [european(row["unit price, EUR"]) for row in ours]
    found = np.array([float(row["prediction"]) for row in ours])
    np.testing.assert_allclose([float(row["prediction"].replace(",", ".")) for row in theirs], found, rtol=1e-12)
    assert np.abs(found - SOLD[:30]).max() < 1


@pytest.mark.long
def test_gaps_by_each_policy(folder):
    lines = list(rows())
    for i in (3, 17, 50):
        lines[i][1] = ""
    lines[60][0], lines[61][4] = "", ""
    write("t.csv", lines)
    asked = ["fit", "t.csv", "--task", "shop", "--target", "sold", "--features", "unit price, EUR,kind", *SMALL]
    output = run(*asked, code=2)
    assert "task column 'shop' is missing (null, NaN or empty text) in 1 of 144 rows (row 60" in output
    assert "'unit price, EUR' in 3 rows" in output
    assert "--on-missing drop or --on-missing mean" in output
    output = run(*asked, "--on-missing", "drop")
    assert "139 rows" in output
    assert "note: 5 of 144 rows left out, missing: 'unit price, EUR' in 3 rows" in output
    output = run(*asked, "--on-missing", "mean", "--save", "m.safetensors")
    assert "142 rows" in output
    assert "means put for missing values: 'unit price, EUR' in 3 rows" in output
    # Columns that are not used never matter.
    assert "142 rows" in run(*[*asked[:7], "kind", *SMALL], "--on-missing", "drop")
    new = list(rows(target=False, chosen=range(12)))
    new[0][1] = ""
    write("new.csv", new)
    assert "--on-missing drop" in run("predict", "m.safetensors", "new.csv", code=2)
    run("predict", "m.safetensors", "new.csv", "--on-missing", "mean")
    filled = read("new-predictions.csv")
    there = [row[1] for row in lines if row[0] and row[4] and row[1]]
    new[0][1] = repr(float(np.mean([float(one) for one in there])))
    write("new.csv", new)
    run("predict", "m.safetensors", "new.csv", "--overwrite")
    assert float(read("new-predictions.csv")[0]["prediction"]) == pytest.approx(float(filled[0]["prediction"]))


def test_a_new_code_by_each_policy(folder):
    write("t.csv", rows())
    asked = ["--task", "shop", "--target", "sold", "--features", "kind,unit price, EUR", "--categorical", "kind"]
    run("fit", "t.csv", *asked, *SMALL, "--save", "m.safetensors")
    new = list(rows(target=False, chosen=range(60)))
    for line in new:
        line[2] = f"{line[2]}.0"
    new[7][2] = "9"
    write("new.csv", new)
    output = run("predict", "m.safetensors", "new.csv", code=2)
    assert "'kind' holds '9' in 1 of 60 rows (row 7" in output
    assert "--on-unseen skip" in output
    run("predict", "m.safetensors", "new.csv", "--on-unseen", "skip")
    skipped = [row["prediction"] for row in read("new-predictions.csv")]
    assert [i for i, one in enumerate(skipped) if not one] == [7]
    run("predict", "m.safetensors", "new.csv", "--on-unseen", "base", "--overwrite")
    based = [row["prediction"] for row in read("new-predictions.csv")]
    assert [one for i, one in enumerate(based) if i != 7] == [one for i, one in enumerate(skipped) if i != 7]
    new[7][2] = "0"
    write("new.csv", new)
    run("predict", "m.safetensors", "new.csv", "--overwrite")
    assert read("new-predictions.csv")[7]["prediction"] == based[7]


def test_ids_of_two_columns_from_fit_to_predict(folder):
    lines = [[f"school{i % 3}", 1 + i % 12 // 3, *line[1:]] for i, line in enumerate(rows())]
    write("t.csv", lines, header=("school", "klass", "price", "kind", "day", "sold"))
    asked = ["--task", "school,klass", "--target", "sold", "--features", "price,kind,day"]
    assert "12 tasks (school,klass)" in run("fit", "t.csv", *asked, *SMALL, "--save", "m.safetensors")
    write(
        "new.csv", [[*line[:5], ""] for line in lines[:24]], header=("school", "klass", "price", "kind", "day", "sold")
    )
    output = run("predict", "m.safetensors", "new.csv", "--out", "new.parquet")
    assert "24 rows of 12 tasks (school,klass)" in output
    assert "12 of 12 tasks are known" in output
    # Columns of other names in a new table name the same tasks.
    write("other.csv", [[*line[:5], ""] for line in lines[:24]], header=("s", "k", "price", "kind", "day", "sold"))
    assert "12 of 12 tasks are known" in run("predict", "m.safetensors", "other.csv", "--task", "s,k")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["frequency", "precision"])
def test_weights_of_rows_from_fit_to_predict(folder, kind):
    weights = 1 + np.arange(N) * 7 % 5
    lines = [[*line, weights[i]] for i, line in enumerate(rows())]
    header = ("shop", "price", "kind", "day", "sold", "n")
    write("t.csv", lines, header=header)
    asked = ["--task", "shop", "--target", "sold", "--weights", "n", "--weights-are", kind]
    assert "rows weighted by n" in run("fit", "t.csv", *asked, *SMALL, "--save", "m.safetensors")
    new = [line if i % 2 else [*line[:4], "", line[5]] for i, line in enumerate(lines[:48])]
    write("new.csv", new, header=header)
    assert "weighted by n" in run("predict", "m.safetensors", "new.csv", "--as-new")
    write("none.csv", [line[:5] for line in new], header=header[:5])
    assert "which weigh alike: no n" in run("predict", "m.safetensors", "none.csv", "--as-new")
    estimator = ut.estimators.load("m.safetensors")
    assert list(estimator.feature_names_in_) == ["price", "kind", "day"]
    table = np.array(
        [[float(line[1]), line[2], (np.datetime64(line[3]) - np.datetime64("1970-01-01")).astype(int)] for line in new],
        dtype=float,
    )
    estimator.publish(estimator.model_.without_tasks())
    known = np.arange(48) % 2 == 1
    sold, shop = np.array([float(line[4].replace(",", "")) for line in lines[:48]]), np.array([line[0] for line in new])
    del estimator.feature_names_in_
    for file, w in (("new", weights[:48]), ("none", None)):
        own = None if w is None else w[known]
        adapted = estimator.adapt(table[known], sold[known], own, groups=shop[known])
        found = [float(row["prediction"]) for row in read(f"{file}-predictions.csv") if row["prediction"]]
        np.testing.assert_allclose(found, adapted.predict(table[~known], shop[~known]), rtol=1e-9)


def test_compare_takes_weights_of_rows(folder):
    write(
        "t.csv",
        [[*line, 1 + i % 3] for i, line in enumerate(rows())],
        header=("shop", "price", "kind", "day", "sold", "n"),
    )
    asked = ["--task", "shop", "--target", "sold", "--weights", "n", "--rivals", "pooled,alone,step", *SMALL]
    output = run("compare", "t.csv", *asked)
    assert "ridge, each task alone: left out: it takes no weights of rows" in output


@pytest.mark.parametrize(
    ("form", "more"), [("%Y-%m-%d", []), ("%Y-%m-%d %H:%M", []), ("%Y-%m-%d %H:%M", ["--anonymous"])]
)
def test_tasks_that_are_days_or_times_from_fit_to_predict(folder, form, more):
    when = [(np.datetime64("2024-01-01T06:30") + np.timedelta64(7 * s, "D")).item().strftime(form) for s in SHOP]
    lines = [[day, f"{price:.3f}", f"{sold:.3f}"] for day, price, sold in zip(when, PRICE, SOLD, strict=True)]
    write("weeks.csv", lines, header=("week", "price", "sold"))
    later = "2030-05-05" + when[0][10:]
    write(
        "later.csv", [[when[0], "100", ""], [later, "100", "2000"], [later, "90", ""]], header=("week", "price", "sold")
    )
    asked = ["--task", "week", "--target", "sold", "--effort", "fast", "--save", "m.safetensors", *SMALL]
    run("fit", "weeks.csv", *asked, *more)
    first = str(pq.read_table("o/tasks.parquet")["task"].cast("string")[0])
    oddest = json.loads(pathlib.Path("o/summary.json").read_text())["summary"]["oddest"][0]["task"]
    known = run("predict", "m.safetensors", "later.csv")
    if more:
        assert first == "task 01"
        return
    assert first.startswith(when[0])
    assert oddest[: len(when[0])] in when
    assert "1 of 2 tasks is known" in known
