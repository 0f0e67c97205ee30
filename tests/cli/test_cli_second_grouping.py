"""A second grouping from ``undertow fit --random-intercept`` to ``undertow predict``."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as arrow_csv
from typer.testing import CliRunner

from undertow.cli import app

RUN = CliRunner()


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of raters and products in the working directory, as columns."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rater, product = np.repeat(np.arange(20), 8), rng.integers(0, 9, 160)
    x, effect = rng.standard_normal(160), 3 * rng.standard_normal(9)
    score = x + effect[product] + rng.standard_normal(20)[rater] + 0.2 * rng.standard_normal(160)
    columns = {"rater": rater, "product": [f"p{i}" for i in product], "x": x, "score": score}
    arrow_csv.write_csv(pa.table(columns), "t.csv")
    return columns | {"effect": effect}


def test_known_levels_are_added_and_strange_ones_named(table):
    small = ["--draws", "1", "--folds", "3", "--out", "o", "--n-support", "3"]
    said = run("fit", "t.csv", "--task", "rater", "--target", "score", "--random-intercept", "product", *small,
               "--save", "m.safetensors")  # fmt: skip
    assert "9 levels of product" in said
    new = {"rater": ["new"] * 10, "product": [*(f"p{i}" for i in range(9)), "strange"], "x": [0.0] * 10}
    arrow_csv.write_csv(pa.table(new), "n.csv")
    said = run("predict", "m.safetensors", "n.csv", "--interval", "0.9")
    assert "'strange'" in said
    found = arrow_csv.read_csv("n-predictions.csv").to_pydict()
    shown = np.array(found["prediction"])[:9]
    assert np.corrcoef(shown, table["effect"])[0, 1] > 0.99
    width = np.array(found["high"]) - np.array(found["low"])
    assert width[9] > 1.5 * width[:9].max()


def test_a_column_that_cannot_be_it_is_refused(table):
    said = run("fit", "t.csv", "--task", "rater", "--target", "score", "--random-intercept", "score", code=2)
    assert "--random-intercept score" in said


def test_compare_takes_the_same_option_and_says_so(table):
    usual = ["--task", "rater", "--target", "score", "--rivals", "pooled", "--n-support", "3", "--time-limit", "inf"]
    without = run("compare", "t.csv", *usual, "--features", "x", "--out", "a")
    said = run("compare", "t.csv", *usual, "--random-intercept", "product", "--out", "b")
    assert "what levels of product add is predicted from training tasks for every rival" in said
    first, second = (float(text.split("(MSE ")[1].split(" of")[0]) for text in (without, said))
    assert second < 0.5 * first


def test_random_slopes_are_an_option_of_fit_and_compare(table):
    usual = ["--task", "rater", "--target", "score", "--features", "x,product", "--categories", "onehot"]
    few = ["--n-support", "3", "--folds", "3", "--draws", "1", "--random-slopes", "x"]
    run("fit", "t.csv", *usual, *few, "--effort", "fast", "--out", "a")
    spread = dict(zip(*(spreads("a/weights.parquet")), strict=True))
    assert spread["product=p1"] == 0.0
    said = run("compare", "t.csv", *usual, *few, "--rivals", "default", "--time-limit", "inf", "--out", "b")
    assert "MAMLRegressorCV default" in said
    said = run("fit", "t.csv", *usual, "--random-slopes", "score", "--out", "c", code=2)
    assert "--random-slopes score" in said
    said = run("fit", "t.csv", "--formula", "score ~ x + (1 | rater)", "--random-slopes", "x", "--out", "d", code=2)
    assert "the formula says it" in said


def spreads(path):
    """Features and their deviations between tasks."""
    found = pq.read_table(path).to_pydict()
    return found["feature"], found["std_between_tasks"]


def test_a_screen_has_24_lines_however_much_there_is_to_note(table):
    columns = {name: table[name] for name in ("rater", "product", "x", "score")}
    columns |= {"size": ["7"] * 160, "price": ["1.5 €", "2.5 €"] * 80, "gap": ["", "1"] * 2 + ["1", "2"] * 78}
    arrow_csv.write_csv(pa.table(columns), "n.csv")
    options = "--random-intercept product --draws 1 --folds 3 --n-support 3 --on-missing drop --out o"
    lines = RUN.invoke(app, f"fit n.csv --task rater --target score {options}".split()).stdout.splitlines()
    assert sum(line.startswith("note: ") for line in lines) > 3
    assert len(lines) <= 24
    [left] = [int(line[1:].split()[0]) for line in lines if line.endswith("more in strategies.parquet)")]
    names = "mixed model,", "gradient step,", "blend of", "ridge", "common weights,"
    assert sum(line.startswith(names) for line in lines) + left == len(pq.read_table("o/strategies.parquet"))
