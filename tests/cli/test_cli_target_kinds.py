"""Targets of two values and counts, from ``fit`` to ``predict``."""

import csv

import numpy as np
import pytest
from cases import case
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app

RUN = CliRunner()
SMALL = ["--draws", 1, "--folds", 3, "--overwrite", "--out", "o"]


def run(*arguments, code=0):
    result = RUN.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def read(file):
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_new(file, target, known):
    """A table as ``file`` without the targets of some rows; returns the targets."""
    rows = read(file)
    truth = [row[target] for row in rows]
    for i, row in enumerate(rows):
        row[target] = row[target] if i % known == 0 else ""
    with open("new.csv", "w", newline="", encoding="utf-8") as to:
        writer = csv.DictWriter(to, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return np.array(truth)


@pytest.mark.parametrize(
    ("name", "task", "target", "labels"),
    [
        ("yesno.csv", "shop", "promo", ("no", "yes")),
        ("t11_one_class.csv", "g", "y", ("no", "yes")),
        ("t27_binary.csv", "g", "y", ("0", "1")),
    ],
)
def test_two_values_become_probabilities_and_labels(folder, name, task, target, labels):
    file = case(name)
    said = run("fit", file, "--task", task, "--target", target, *SMALL, "--save", "m.safetensors")
    assert f"{target} has two values" in said
    if set(labels) != {"0", "1"}:
        assert all(f"{label} ({number})" in said for number, label in enumerate(labels))
    assert "Brier score" in said
    truth = write_new(file, target, 3)
    assert f"probability: of {target} {labels[1]}" in run("predict", "m.safetensors", "new.csv", "--as-new")
    rows = [row for row in read("new-predictions.csv") if row["prediction"]]
    assert len(rows) == sum(i % 3 > 0 for i in range(len(truth)))
    chance = np.array([float(row["probability"]) for row in rows])
    assert ((chance >= 0) & (chance <= 1)).all()
    assert [row["prediction"] for row in rows] == [labels[int(p >= 0.5)] for p in chance]
    larger = truth[np.arange(len(truth)) % 3 > 0] == labels[1]
    # Better than the share of the label in all rows.
    assert np.mean((chance - larger) ** 2) < larger.mean() * (1 - larger.mean())
    refused = run("predict", "m.safetensors", "new.csv", "--interval", 0.9, "--overwrite", code=2)
    assert "what is predicted is a probability" in refused


def test_counts_are_never_predicted_below_0_unless_they_are_called_numbers(folder):
    file = case("counts.csv")
    asked = ["--task", "shop", "--target", "sold", *SMALL, "--save", "m.safetensors"]
    assert "taken for counts: no prediction is below 0" in run("fit", file, *asked)
    write_new(file, "sold", 4)
    least = {}
    for kind in ("count", "number"):
        if kind == "number":
            assert "taken for counts" not in run("fit", file, *asked, "--target-kind", "number")
        run("predict", "m.safetensors", "new.csv", "--interval", 0.9, "--overwrite")
        rows = [row for row in read("new-predictions.csv") if row["prediction"]]
        least[kind] = min(float(row[name]) for row in rows for name in ("prediction", "low"))
    assert least["count"] == 0
    assert least["number"] < 0
    assert ut.estimators.load("m.safetensors").floor is None


@pytest.mark.parametrize(
    ("name", "task", "target", "rule"),
    [("yesno.csv", "shop", "promo", "logistic"), ("counts.csv", "shop", "sold", "poisson")],
)
def test_the_mixed_model_of_the_target_is_offered_and_saved(folder, name, task, target, rule):
    asked = ["--task", task, "--target", target, "--effort", "fast", *SMALL]
    if rule == "poisson":
        assert "see --rule poisson" in run("fit", case(name), *asked)
    said = run("fit", case(name), *asked, "--rule", rule, "--save", "m.safetensors")
    assert "it is saved" in said
    assert "rule.txt" in said
    model = ut.estimators.load("m.safetensors")
    assert model.summary().link in (folder / "o" / "rule.txt").read_text(encoding="utf-8")
    # The error in the line is that of the rival of the comparison, by the folds and draws of the search.
    kind = "two-valued" if rule == "logistic" else "count"
    table = ut.tasks.read_table(case(name), task, target, target_kind=kind)
    plan = ut.comparison.Plan(5, 3, 1)
    found = ut.comparison.compare(table, plan, rivals=[f"{rule}_mixed"], time_limit=None)
    assert f"MSE {found.losses(f'{rule}_mixed').mean():.4f}" in said
    write_new(case(name), target, 3)
    assert model.summary().link in run("predict", "m.safetensors", "new.csv")
    rows = [row for row in read("new-predictions.csv") if row["prediction"]]
    values = np.array([float(row["probability" if rule == "logistic" else "prediction"]) for row in rows])
    assert ((values >= 0) & (values <= (1 if rule == "logistic" else np.inf))).all()


def test_a_rule_for_another_target_is_refused(folder):
    asked = ["--task", "shop", "--target", "sold", *SMALL]
    said = run("fit", case("counts.csv"), *asked, "--rule", "logistic", code=2)
    assert "--target-kind two-valued" in said
    assert "Give --rule poisson" in said
    assert "poisson" in run("fit", case("counts.csv"), *asked, "--rule", "gamma", code=2)


def test_a_strategy_without_error_makes_no_endless_percentage(folder):
    rng = np.random.default_rng(0)
    lines = [f"{g},{rng.standard_normal():.3f},{g % 2}" for g in range(30) for _ in range(8)]
    (folder / "t.csv").write_text("\n".join(["g,x,y", *lines]))
    said = run("fit", "t.csv", "--task", "g", "--target", "y", "--effort", "fast", *SMALL)
    assert "by the strategy used; see --rule logistic" in said
    assert max(len(word) for word in said.split()) < 30
