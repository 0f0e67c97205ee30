"""The record: means, paired differences with corrected intervals, ranking, verdict, and its plain values."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from undertow import InputError
from undertow.comparison import Comparison, Standing
from undertow.comparison.interval import corrected


def made(columns, rows=None, n_folds=5, level=0.95, notes=None, weighting="tasks"):
    """A record with these losses: name -> (m,), or None for a rival that was left out."""
    m = max(len(v) for v in columns.values() if v is not None)
    losses = np.column_stack([np.full(m, np.nan) if v is None else v for v in columns.values()])
    c = losses.shape[1]
    seconds = np.where(np.isnan(losses).any(axis=0), np.nan, np.arange(1.0, c + 1))
    return Comparison(
        tuple(columns), tuple(f"the {name}" for name in columns), np.arange(m), np.ones(m) if rows is None else rows,
        losses, np.full((n_folds, c), 1.0), seconds, seconds / 10, {n: "" for n in columns} | (notes or {}),
        {"n_folds": n_folds, "level": level, "n_support": 3, "weighting": weighting},
    )  # fmt: skip


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((40, 4))


def test_the_corrected_interval_is_the_formula_written_out(noise):
    d, w = noise[:, 0], 1 + np.abs(noise[:, 1])
    found = corrected(d, w, 5, 0.9)
    m = len(d)
    mean = sum(w[i] * d[i] for i in range(m)) / sum(w)
    share = w / sum(w)
    variance = sum((share[i] * (d[i] - mean)) ** 2 / (1 - 2 * share[i] + sum(share**2)) for i in range(m))
    error = math.sqrt(variance * (1 + 5 / 4))
    assert found.estimate == pytest.approx(mean)
    assert found.standard_error == pytest.approx(error)
    assert found.high - mean == pytest.approx(stats.t.ppf(0.95, 1 / sum(share**2) - 1) * error)
    assert mean - found.low == pytest.approx(found.high - mean)


def test_with_equal_rows_and_folds_it_is_nadeau_and_bengios_with_the_spread_of_tasks():
    """(1/J + n2/n1) S^2 with S^2 the variance of fold means, which for independent tasks is K/m times theirs."""
    d = np.random.default_rng(1).standard_normal(30)
    k, m = 5, 30
    nadeau_bengio = (1 / k + 1 / (k - 1)) * (d.var(ddof=1) * k / m)
    assert corrected(d, np.ones(m), k, 0.95).standard_error ** 2 == pytest.approx(nadeau_bengio)


def test_differences_are_paired_by_task(noise):
    base = 10 * np.abs(noise[:, 0])
    found = made({"a": base, "b": base + 0.1 + 0.01 * noise[:, 1]})
    gap = found.difference("b", "a")
    assert gap.estimate == pytest.approx(np.mean(0.1 + 0.01 * noise[:, 1]))
    assert gap.standard_error < 0.01 < 0.5 < found.mean_loss("a")[1]
    assert gap.significant
    back = found.difference("a", "b")
    assert (back.estimate, back.low, back.high) == pytest.approx((-gap.estimate, -gap.high, -gap.low))
    assert found.difference("b", "a", level=0.5).high < gap.high


def test_means_weigh_tasks_alike_or_by_their_rows():
    found = {w: made({"a": np.array([1.0, 3.0])}, np.array([30.0, 10.0]), weighting=w) for w in ("tasks", "rows")}
    assert found["tasks"].mean_loss("a")[0] == pytest.approx(2)
    assert found["rows"].mean_loss("a")[0] == pytest.approx(1.5)


def test_ranking_base_and_best(noise):
    one = np.abs(noise)
    found = made({"a": one[:, 0] + 2, "b": None, "default": one[:, 0] + 1, "d": one[:, 0]})
    assert found.ranking() == ["d", "default", "a"]
    assert found.measured == ("a", "default", "d")
    assert (found.best, found.base) == ("d", "default")
    assert made({"a": one[:, 0] + 2, "d": one[:, 0]}).base == "d"
    for call in (found.losses, found.mean_loss, lambda name: found.difference("a", name)):
        with pytest.raises(InputError, match="'b'"):
            call("b")


def test_the_verdict_names_the_best_and_how_the_others_stand_to_it(noise):
    base = 1 + 0.1 * np.abs(noise[:, 0])
    level, worse = base + 0.05 * noise[:, 1] + 0.01, base + 0.3 + 0.05 * noise[:, 2]
    found = made({"ridge": base, "default": level, "pooled": worse})
    gap = found.difference("default", "ridge")
    assert found.verdict == (
        f"Least held-out error: the ridge (MSE {base.mean():.4f} of the target's variance). the default does not "
        f"differ significantly from the ridge "
        f"(difference {gap.estimate:+.4f}, 95 % CI {gap.low:+.4f} to {gap.high:+.4f}). "
        "Worse: the pooled."
    )
    said = made({"ridge": worse, "default": base, "pooled": level}).verdict
    assert said.startswith("Least held-out error: the default")
    assert "Not significantly different from the best: the pooled. Worse: the ridge." in said
    said = made({"ridge": base, "default": worse}).verdict
    assert "the default is worse than the ridge (difference +0.2" in said
    said = made({"ridge": base, "default": base + 1e-4 + 1e-6 * noise[:, 1], "pooled": worse}).verdict
    assert "the default differs negligibly from the ridge (difference +0.0001" in said
    said = made({"default": base, "ridge": base + 1e-4 + 1e-6 * noise[:, 1], "pooled": worse}).verdict
    assert said.endswith("Negligibly different: the ridge. Worse: the pooled.")
    assert "only rival" in made({"ridge": base}).verdict


def test_the_standing_follows_the_interval_and_what_is_negligible(noise):
    base = 1 + 0.1 * np.abs(noise[:, 0])
    found = made({"default": 1e-22 * base, "ridge": 0 * base, "pooled": base, "near": base + 0.05 * noise[:, 1]})
    assert found.standing("default", "ridge") is Standing.EQUAL
    assert found.standing("default", "pooled") is Standing.BETTER
    assert found.standing("pooled", "default") is Standing.WORSE
    assert found.standing("near", "pooled") is Standing.LEVEL


def test_table_and_dict_are_plain_and_in_order(noise):
    base = 1 + 0.1 * np.abs(noise[:, 0])
    found = made({"gone": None, "a": base + 1, "default": base}, notes={"gone": "left out: why"})
    rows = found.table()
    assert [row["name"] for row in rows] == ["default", "a", "gone"]
    gap = found.difference("a", "default")
    assert rows[1]["difference"] == gap.estimate
    assert (rows[1]["low"], rows[1]["high"], rows[1]["difference_error"]) == (gap.low, gap.high, gap.standard_error)
    assert rows[0]["difference"] is rows[2]["loss"] is None
    assert rows[2]["note"] == "left out: why"
    assert rows[1]["fit_seconds"] == 2.0
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["verdict"] == found.verdict
    assert values["rivals"][1]["loss"] == pytest.approx(found.mean_loss("a")[0])
    assert set(values["fold_losses"]) == {"a", "default"}
