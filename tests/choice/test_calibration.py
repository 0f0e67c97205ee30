"""The benchmark that measures the coverage of intervals, and a few of its figures."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import undertow as ut
from undertow.linear.surface import evaluate


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("calibration")


@pytest.mark.long
def test_the_benchmark_measures_a_design_and_repeats_itself(calibration, monkeypatch, tmp_path, capsys):
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["calibration", "ten tasks", "--tables", "4", "--seed", "3", "--out", str(out)])
    calibration.main()
    said = capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["calibration", "ten tasks", "--tables", "4", "--seed", "3"])
    calibration.main()
    assert capsys.readouterr().out.rsplit(";", 1)[0] == said.rsplit(";", 1)[0]
    found = json.loads(out.read_text())["ten tasks"]
    assert found["tables"] == 4
    assert found["gains"].keys() == {"step", "tied", "joint"}
    assert 0 <= found["coverage"] <= 1


def test_the_benchmark_refuses_a_design_it_does_not_have(calibration, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "magic"])
    with pytest.raises(SystemExit):
        calibration.main()
    assert "no design magic" in capsys.readouterr().err


def test_the_truth_of_the_benchmark_agrees_with_another_way_to_it(calibration):
    # Losses at three rates by fits of the estimator itself, scored on new tasks.
    setting, angles = calibration.SETTINGS["ten tasks"], np.array([-0.3, 0.0, 0.4])
    known = calibration.truth(setting, 40, seed=0, angles=angles)
    new = ut.Moments.from_tasks(setting.new_tasks(20_000, 4))
    losses = np.zeros((40, 3))
    for i in range(40):
        x, y, groups = setting.draw(1_000_000 + i)
        for j, rate in enumerate(np.tan(angles)):
            model = ut.MAMLRegressor(
                rate, n_support=4, ridge=1e-3, n_draws=1, standardize=False, fit_intercept=False
            ).fit(x, y, groups=groups)
            losses[i, j] = evaluate(np.zeros(1), model.coef_[None], 1.0, np.zeros(1), new).best_loss[0]
    # The adapt rate is best for the mean there and for each table here, which can only be lower.
    mean = known.batches.mean(axis=0)[:, 0]
    error = known.batches.std(axis=0, ddof=1)[:, 0] / np.sqrt(10)
    assert (losses.mean(axis=0) <= mean + 4 * error).all()
    assert (losses.mean(axis=0) >= mean - 4 * error).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ["many tasks", "zero, sharp", "correlated weights"])
def test_intervals_are_calibrated(calibration, name):
    n = 100
    found = calibration.measure(name, n, seed=11)
    low, high = (np.sqrt(share * (1 - share) / n) for share in (0.92, 0.98))
    assert 0.92 - 4 * low <= found["coverage"] <= 0.98 + 4 * high
    if name.startswith("zero"):
        assert found["sign_named"] <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / n)
