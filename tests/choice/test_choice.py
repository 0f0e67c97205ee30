"""The choice: interval on the circle, gains, verdicts, and what they rest on."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import cv, table, task_rows

import undertow as ut
from undertow._check import InputError
from undertow.choice.influence import Influences, influences
from undertow.choice.interval import gain, rate_interval, uniform_angles
from undertow.choice.plan import Plan
from undertow.choice.proximal_family import gather_moments
from undertow.choice.record import Choice, Gain, RateInterval
from undertow.choice.words import VERDICTS, decide, percent
from undertow.linear import circle
from undertow.linear.surface import evaluate
from undertow.tasks.losses import mean_over_tasks

X, Y, G = table(m=30, seed=3)
ANGLES = uniform_angles(41)


@pytest.fixture(scope="module")
def model():
    return cv().fit(X, Y, groups=G)


def made(own, cross=None, joint=None):
    """Influences of blocks of equal weight."""
    none = np.zeros((len(own), len(own), own.shape[1]))
    return Influences(own, none if cross is None else cross, np.ones(len(own)), none if joint is None else joint)


def influence(curve, noise=0.0, n_blocks=20, seed=0):
    """Influences of a given curve; every block has it, and a wave of its own."""
    rng = np.random.default_rng(seed)
    waves = rng.standard_normal((n_blocks, 1)) * np.cos(2 * ANGLES) + rng.standard_normal((n_blocks, 1)) * np.sin(
        2 * ANGLES
    )
    return made(curve + noise * waves)


@pytest.mark.parametrize("at", [-0.7, 0.0, 0.6, np.pi / 2 - 0.1, -np.pi / 2])
def test_a_clear_minimum_is_found_wherever_it_lies_on_the_circle(at):
    interval = rate_interval(influence(-np.cos(2 * (ANGLES - at)), 0.05), ANGLES)
    assert np.tan(at + 0.003) in interval
    assert not interval.whole_circle
    assert np.tan(at + np.pi / 2 - 0.3) not in interval
    ends = np.arctan([interval.low, interval.high])
    assert ((ends[1] - ends[0]) % np.pi) < 0.5
    assert interval.contains_zero == (0.0 in interval) == (abs(at) < 0.2)
    assert interval.contains_infinity == (np.inf in interval) == (abs(at) > 1.5)
    assert (interval.low > interval.high) == interval.contains_infinity
    if 0.2 < abs(at) < 1.4:
        assert interval.sign_probability == (at < 0)


def test_a_flat_curve_gives_the_whole_circle_and_no_sign():
    # One wave cannot cross 5 % at a time everywhere; on average over noise 95 % of the circle is kept.
    sizes, named = [], []
    for seed in range(300):
        interval = rate_interval(influence(0.0, 1.0, seed=seed), ANGLES, n_boot=50)
        named.append(not (interval.contains_zero or interval.contains_infinity))
        sizes.append(interval.whole_circle)
    # Binomial: 300 draws at no more than 5 %, four standard errors.
    assert np.mean(named) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(sizes) > 0.5


def test_the_interval_holds_the_best_rate_as_often_as_it_says():
    held = []
    for seed in range(400):
        curve = -np.cos(2 * (ANGLES - 0.4))
        blocks = influence(curve, 3.0, n_blocks=25, seed=seed)
        held.append(np.tan(0.4) in rate_interval(blocks, ANGLES, n_boot=20))
    # No block moves another's loss here, so the variance is the plain one; four standard errors about 95 %.
    assert abs(np.mean(held) - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 400)


def pairs_only(rng, n_blocks=30, d=50):
    """Losses that only pairs of a test block and a training block make: x_c . x_b, no two blocks of one fold."""
    x = rng.standard_normal((n_blocks, d))
    folds = np.arange(n_blocks) // 6
    products = (x @ x.T) * (folds[:, None] != folds)
    return made(products.sum(axis=1)[:, None], products[:, :, None])


def test_variance_of_what_pairs_of_blocks_do():
    rng, n_blocks, d = np.random.default_rng(5), 30, 50
    found = [pairs_only(rng) for _ in range(600)]
    # 360 pairs of blocks in different folds, each counted both ways: the mean of 30 own losses has this variance.
    true = 4 * 360 * d / n_blocks**2
    means = np.array([one.mean[0] for one in found])
    assert abs(np.mean(means**2) - true) <= 4 * np.std(means**2) / np.sqrt(len(means))
    said = np.array([one.variance()[0][0] for one in found])
    # The centring of influences takes 2 of B - 1 parts, 1 of them from the jackknife, which says twice as much.
    for values, expected in (
        (said, true * (n_blocks - 3) / (n_blocks - 1)),
        (said / [one.variance()[1][0] for one in found], 2 * true * (n_blocks - 2) / (n_blocks - 1)),
    ):
        assert abs(values.mean() - expected) <= 4 * values.std() / np.sqrt(len(values))


def test_variance_lies_between_that_of_own_losses_and_the_jackknife():
    rng = np.random.default_rng(2)
    own, cross = rng.standard_normal((12, 5)), np.zeros((12, 12, 5))
    # Nothing in training: the plain variance of a mean.
    plain = made(own, cross).variance()
    np.testing.assert_allclose(plain[0], own.var(axis=0, ddof=1) / 12, rtol=1e-12)
    np.testing.assert_allclose(plain[1], 1)
    # What a block does with itself is no pair.
    alone = np.broadcast_to(3 * np.eye(12)[..., None], (12, 12, 5))
    np.testing.assert_allclose(made(own, cross, alone).variance()[0], plain[0], rtol=1e-12)
    # A block takes back as training data what it does as test data: own losses overstate, the jackknife knows. Pairs
    # may not take off more than half of it.
    dev = own - own.mean(axis=0)
    plain_variance = own.var(axis=0, ddof=1) / 12
    back = np.broadcast_to(-0.9 * dev[None] / 12, (12, 12, 5))
    free = -(back + back.transpose(1, 0, 2))
    np.testing.assert_allclose(made(own, back, free).variance()[0], 0.01 * plain_variance, rtol=1e-9)
    np.testing.assert_allclose(made(own, back, 5 + free).variance()[0], 0.005 * plain_variance, rtol=1e-9)
    # Large pairs that cancel in each block's sum: own losses are the floor.
    noisy = 10 * rng.standard_normal((12, 12, 5))
    found = made(own, noisy - noisy.mean(axis=0) + dev[None] / 12).variance()
    np.testing.assert_allclose(found[0], plain_variance, rtol=1e-9)
    np.testing.assert_allclose(found[1], 1 / 4, rtol=1e-9)


def test_what_a_pair_of_blocks_does_is_the_second_derivative_of_the_loss():
    rates, adapt, ridge, h = np.array([-0.4, 0.7]), np.array([0.1, 0.3]), 1e-2, 1e-3
    data = task_rows(*table(m=12, seed=4))
    parts = [np.arange(i, 12, 3) for i in range(3)]
    moments, _ = gather_moments(Plan(data, data, parts, 4, 1, 0), 1, None)
    found = influences(moments, rates, adapt, np.full(2, ridge), exact=False)
    c, powers = circle.coefficients(rates, moments.scale, 1)[0], circle.powers(adapt, 1)
    d = moments.n_features

    def loss(weight):
        """Summed loss where blocks have these weights, as training and test data; each fold's ridge stays."""
        total = np.zeros(2)
        for k in range(2):
            grams = np.einsum("i,j,biajc->bac", c[k], c[k], moments.gram)
            tests = np.einsum("i,j,biajc->bac", powers[k], powers[k], moments.gram)
            for fold in range(3):
                out, held = moments.folds != fold, moments.folds == fold
                full = (weight[out, None, None] * grams[out]).sum(axis=0)
                shift = ridge * np.trace(grams[out].sum(axis=0)[:d, :d]) / d
                v = np.append(np.linalg.solve(full[:d, :d] + shift * np.eye(d), full[:d, d]), -1)
                total[k] += 0.5 * weight[held] @ (tests[held] @ v @ v)
        return total

    pairs = found.cross + found.cross.transpose(1, 0, 2) + found.joint
    unit = np.eye(12)
    for a, b in ((0, 1), (0, 4), (2, 9), (11, 5)):
        same = moments.folds[a] == moments.folds[b]
        corners = [i * j * loss(1 + h * (i * unit[a] + j * unit[b])) for i in (-1, 1) for j in (-1, 1)]
        np.testing.assert_allclose(pairs[a, b], sum(corners) / (4 * h**2), rtol=1e-4, atol=1e-7)
        assert (found.cross[a, b] == 0).all() == same


@pytest.mark.parametrize(("errors", "kept"), [(2.3, True), (2.8, False)])
def test_a_flat_place_is_left_out_where_its_loss_is_clearly_higher(errors, kept):
    # Highest at infinity, where the slope is 0 too, by so many standard errors above the least; t at 1 % is 2.54.
    first, second = np.tile([1, -1], 10)[:, None], np.tile([1, 1, -1, -1], 5)[:, None]
    wave = 2 * np.sqrt(19) / errors * first * (1 - np.cos(2 * ANGLES)) / 2 + 0.2 * second * np.sin(2 * ANGLES)
    own = -np.cos(2 * ANGLES) + wave
    interval = rate_interval(made(own), ANGLES, n_boot=20)
    assert interval.contains_infinity == kept
    assert interval.contains_zero


def test_where_an_interval_contains_a_rate():
    plain = RateInterval(-0.5, 0.25, 0.95, False, True, False, 0.5)
    assert -0.5 in plain
    assert 0.3 not in plain
    assert np.inf not in plain
    assert "x" not in plain
    through = RateInterval(2.0, -3.0, 0.95, False, False, True, 0.5)
    assert 5.0 in through
    assert -4.0 in through
    assert 0.0 not in through
    assert np.inf in through
    assert str(through) == "from 2 to -3 through infinity"
    assert str(plain) == "from -0.5 to 0.25"


def test_gain_is_a_paired_share_of_the_rivals_loss():
    rng = np.random.default_rng(0)
    rival = rng.uniform(1, 3, 50)
    rows = rng.integers(1, 9, 50).astype(float)
    one = gain(rival, 0.9 * rival, rows)
    assert one.percent == pytest.approx(10)
    assert one.low < 10 < one.high
    assert (one.high - one.low) / one.standard_error == pytest.approx(2 * 2.0096, rel=1e-3)
    uneven = gain(rival, rival - np.arange(50) / 100, rows)
    mean, error = mean_over_tasks(np.arange(50) / 100, rows)
    base = rows @ rival / rows.sum()
    # Twice the variance that tasks show, as the documentation says.
    assert uneven.percent == pytest.approx(100 * mean / base)
    assert uneven.standard_error == pytest.approx(100 * np.sqrt(2) * error / base)
    same = gain(rival, rival, rows)
    assert (same.percent, same.low, same.high) == (0, 0, 0)
    assert gain(np.zeros(3), np.zeros(3), np.ones(3)) == Gain(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "zero", "infinity", "gain_high", "verdict"),
    [
        (-2.0, -0.1, False, False, 9.0, "negative"),
        (0.1, 3.0, False, False, 9.0, "positive"),
        (-0.1, 3.0, True, False, 9.0, "no evidence either way"),
        (0.5, -3.0, False, True, 9.0, "no evidence either way"),
        (0.1, 3.0, False, False, 0.3, "the inner loop is not worth it here"),
    ],
)
def test_verdicts(model, low, high, zero, infinity, gain_high, verdict):
    interval = RateInterval(low, high, 0.95, False, zero, infinity, 0.5)
    gains = model.choice_.gains | {"step": Gain(0.2, -1.0, gain_high, 0.3)}
    found = decide(replace(model.choice_, interval=interval, gains=gains))
    assert found.verdict == verdict
    assert verdict in VERDICTS
    assert str(found).startswith(verdict)
    assert "interval -1 to" in found.explanation
    assert ("but what it gains over no inner loop cannot be told from chance" in found.explanation) == (
        verdict in ("negative", "positive")
    )
    sure = decide(replace(model.choice_, interval=interval, gains=gains | {"step": Gain(5.0, 1.0, gain_high, 2.0)}))
    assert "cannot be told from chance (held" not in sure.explanation


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            Gain(30.0, 12.0, 100.0, 9.0),
            "not the best way to .* has a loss lower by 30 % .interval .12 to .100 %",
        ),
        (Gain(3.0, -1.0, 7.0, 2.0), r"Used is .* the signed gradient step, \+3 %, cannot be told from chance"),
        (Gain(-3.0, -4.0, -2.0, 0.5), r"Used is .* the signed gradient step, -3 %, cannot be told"),
    ],
)
def test_the_text_claims_no_more_than_the_figures(model, over, words):
    choice = replace(model.choice_, strategy="ridge", best_gains=model.choice_.best_gains | {"signed": over})
    assert re.search(words, decide(choice).explanation)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0421, "+0.042 %"), (-9.96, "-10 %"), (9.94, "+9.9 %"), (134.0, "+134 %"), (0.0, "+0 %")]
)
def test_percentages(value, text):
    assert percent(value) == text


def test_the_record_holds_what_was_tried(model):
    choice = model.choice_
    assert set(choice.gains) == {"step", "tied", "joint", "pooled_ridge"}
    assert choice.strategy == model.rule_ == "blend"
    assert set(choice.best_gains) == set(choice.losses) - {choice.strategy}
    assert choice.n_tasks == 30
    assert Choice.from_dict(choice.to_dict()) == choice
    assert model.rate_path_.ridges in (1e-4, 1e-2)
    assert model.rate_path_.scale == pytest.approx(model.scale_)


def test_losses_by_task_and_the_surface_are_those_behind_the_choice(model):
    held_out, choice = model.held_out_, model.choice_
    assert held_out.names == tuple(choice.losses)
    assert sorted(held_out.task_ids) == sorted(set(G))
    for name, (loss, _) in choice.losses.items():
        assert held_out.weights @ held_out.of(name) / held_out.weights.sum() == pytest.approx(loss, rel=1e-12)
    np.testing.assert_array_equal(held_out.gains("signed"), held_out.of("joint") - held_out.of("signed"))
    with pytest.raises(InputError, match="choose one of 'joint'"):
        held_out.of("magic")
    best = model.cv_surface_.best()
    assert best.train_rate / model.scale_ == pytest.approx(choice.train_rate)
    assert best.adapt_rate / model.scale_ == pytest.approx(choice.adapt_rate)


def test_the_same_seed_gives_the_same_choice(model):
    again = cv().fit(X, Y, groups=G)
    assert again.choice_ == model.choice_
    np.testing.assert_array_equal(again.coef_, model.coef_)
    other = cv(random_state=1).fit(X, Y, groups=G)
    assert other.choice_.interval.sign_probability != model.choice_.interval.sign_probability


def test_only_the_rules_asked_for_are_used_and_the_gradient_rule_is_always_measured():
    for rules, allowed in (
        ("gradient", ("signed", "step", "tied", "joint")),
        (["ridge"], ("ridge", "pooled_ridge", "blend")),
    ):
        found = cv(rules=rules).fit(X, Y, groups=G)
        assert found.rule_ in allowed
        assert "signed" in found.choice_.losses
    assert found.train_rate_ == pytest.approx(found.choice_.train_rate * found.scale_)
    assert found.adapt_rate_spectral_ == pytest.approx(found.choice_.adapt_rate)


def test_rates_of_the_chosen_gradient_rule_are_those_of_the_estimator():
    found = cv(rules="gradient").fit(X, Y, groups=G)
    fixed = ut.MAMLRegressor(
        found.train_rate_, found.adapt_rate_, rate_unit="raw", ridge=found.ridge_, n_draws=2, steps=found.steps_
    ).fit(X, Y, groups=G)
    np.testing.assert_allclose(found.coef_, fixed.coef_, rtol=1e-7)
    assert found.train_rate_spectral_ == pytest.approx(found.train_rate_ / found.scale_)


def test_more_steps_are_chosen_where_they_are_better():
    found = cv(rules="gradient", steps=(1, 6)).fit(X, Y, groups=G)
    one = cv(rules="gradient", steps=1).fit(X, Y, groups=G)
    assert found.steps_ in (1, 6)
    assert found.choice_.losses["signed"][0] <= one.choice_.losses["signed"][0] * 1.02


def test_fewer_tasks_than_can_be_chosen_by_are_pooled():
    few = G < 1
    with pytest.warns(ut.estimators.MissingGroupsWarning):
        pooled = cv().fit(X[few], Y[few])
    assert pooled.choice_ is None
    assert pooled.adapt_rate_ == 0
    groups = np.where(few, 0, np.arange(len(G)) + 10)
    some = few | (np.arange(len(G)) < 4)
    with (
        pytest.warns(UserWarning, match="tasks have no more than"),
        pytest.warns(UserWarning, match="only one task has more"),
    ):
        single = cv().fit(X[some], Y[some], groups=groups[some])
    assert single.choice_ is None


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("calibration")


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
                rate, n_support=4, ridge=1e-3, n_draws=1, standardize=False, fit_intercept=False, clip=None
            ).fit(x, y, groups=groups)
            losses[i, j] = evaluate(np.zeros(1), model.coef_[None], 1.0, np.zeros(1), new).best_loss[0]
    # The adaptation rate is best for the mean there and for each table here, which can only be lower.
    mean = known.batches.mean(axis=0)[:, 0]
    error = known.batches.std(axis=0, ddof=1)[:, 0] / np.sqrt(10)
    assert (losses.mean(axis=0) <= mean + 4 * error).all()
    assert (losses.mean(axis=0) >= mean - 4 * error).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ["many tasks", "zero, sharp", "correlated weights"])
def test_intervals_are_calibrated(calibration, name):
    found = calibration.measure(name, 200, seed=11)
    low, high = (np.sqrt(share * (1 - share) / 200) for share in (0.92, 0.98))
    assert 0.92 - 4 * low <= found["coverage"] <= 0.98 + 4 * high
    if name.startswith("zero"):
        assert found["sign_named"] <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)
