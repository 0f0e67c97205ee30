"""Intervals on the circle, influences of blocks, gains and verdicts."""

import numpy as np
import pytest
from made import plan_of, table
from scipy import stats

from undertow import _circle
from undertow.choice.influence import Influences, influences
from undertow.choice.interval import gain, rate_interval, verdict_of
from undertow.choice.proximal_family import gather_moments
from undertow.choice.record import Gain, RateInterval, Verdict
from undertow.linear import circle

SCALE = 2.5
ANGLES = _circle.grid(41)[:-1]


def made(own, cross=None, joint=None):
    """Losses from influences of blocks of equal weight."""
    none = np.zeros((len(own), len(own), own.shape[1]))
    cross, joint = (none if one is None else one for one in (cross, joint))
    return Influences(own, cross, np.ones(len(own)), joint).losses()


def influence(curve, noise=0.0, n_blocks=20, seed=0):
    """Influences of a given curve; every block has it, and a wave of its own."""
    rng = np.random.default_rng(seed)
    waves = rng.standard_normal((n_blocks, 1)) * np.cos(2 * ANGLES) + rng.standard_normal((n_blocks, 1)) * np.sin(
        2 * ANGLES
    )
    return made(curve + noise * waves)


@pytest.mark.parametrize("at", [-0.7, 0.0, 0.6, np.pi / 2 - 0.1, -np.pi / 2])
def test_a_clear_minimum_is_found_wherever_it_lies_on_the_circle(at):
    interval = rate_interval(influence(-np.cos(2 * (ANGLES - at)), 0.05), ANGLES, SCALE)
    assert SCALE * np.tan(at + 0.003) in interval
    assert not interval.whole_circle
    assert SCALE * np.tan(at + np.pi / 2 - 0.3) not in interval
    ends = np.arctan([interval.low_spectral, interval.high_spectral])
    assert (interval.low, interval.high) == (SCALE * interval.low_spectral, SCALE * interval.high_spectral)
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
        interval = rate_interval(influence(0.0, 1.0, seed=seed), ANGLES, SCALE, n_boot=50)
        named.append(interval.sign != "")
        sizes.append(interval.whole_circle)
    # Binomial: 300 draws at no more than 5 %, four standard errors.
    assert np.mean(named) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(sizes) > 0.5


def test_the_interval_holds_the_best_rate_as_often_as_it_says():
    held = []
    for seed in range(400):
        curve = -np.cos(2 * (ANGLES - 0.4))
        blocks = influence(curve, 3.0, n_blocks=25, seed=seed)
        held.append(SCALE * np.tan(0.4) in rate_interval(blocks, ANGLES, SCALE, n_boot=20))
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
    moments, _ = gather_moments(plan_of(*table(m=12, seed=4), n_folds=3, n_draws=1), 1, None)
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
    interval = rate_interval(made(own), ANGLES, SCALE, n_boot=20)
    assert interval.contains_infinity == kept
    assert interval.contains_zero


def interval_of(low, high, zero, infinity, whole=False):
    """An interval in spectral units, of which one is two raw ones."""
    return RateInterval(low, high, 2.0, 0.95, whole, zero, infinity, 0.5)


def test_an_interval_holds_raw_rates():
    plain = interval_of(-0.5, 0.25, True, False)
    for rate, held in ((-1.0, True), (0.5, True), (0.6, False), (-1.1, False), (np.inf, False), (-np.inf, False)):
        assert (rate in plain) == held
    assert "x" not in plain
    through = interval_of(2.0, -3.0, False, True)
    for rate, held in ((5.0, True), (3.0, False), (-8.0, True), (-5.0, False), (0.0, False), (np.inf, True)):
        assert (rate in through) == held
    whole = interval_of(-np.inf, np.inf, True, True, whole=True)
    assert all(rate in whole for rate in (0.0, -1e9, np.inf))


@pytest.mark.parametrize(
    ("low", "high", "zero", "infinity", "sign"),
    [
        (-2.0, -0.1, False, False, "negative"),
        (0.1, 3.0, False, False, "positive"),
        (-0.1, 3.0, True, False, ""),
        (0.5, -3.0, False, True, ""),
        (-3.0, 0.5, True, False, ""),
    ],
)
def test_the_verdict_is_the_sign_of_the_interval_where_the_gain_is_not_negligible(low, high, zero, infinity, sign):
    interval = interval_of(low, high, zero, infinity)
    assert interval.sign == sign
    for over_step in (Gain(0.2, -1.0, 9.0, 0.3), Gain(5.0, 1.0, 9.0, 2.0)):
        assert verdict_of(interval, over_step) == (sign or "undetermined")
    # Whatever the sign: an interval of the gain that ends below half a per cent.
    for over_step in (Gain(0.1, -0.1, 0.3, 0.1), Gain(-4.0, -5.0, -3.0, 0.5)):
        assert verdict_of(interval, over_step) is Verdict.NEGLIGIBLE


def test_gain_is_a_paired_share_of_the_rivals_loss():
    rng = np.random.default_rng(0)
    rival = rng.uniform(1, 3, 50)
    rows = rng.integers(1, 9, 50).astype(float)
    freedom = rows.sum() ** 2 / (rows**2).sum() - 1
    one = gain(rival, rng.uniform(1, 3, 50), rows)
    assert one.low < one.percent < one.high
    assert (one.high - one.low) / one.standard_error == pytest.approx(2 * stats.t.ppf(0.975, freedom))
    ours = rival - np.arange(50) / 100
    uneven = gain(rival, ours, rows)
    ratio = 1 - rows @ ours / (rows @ rival)
    others = [np.arange(50) != i for i in range(50)]
    without = np.array([1 - rows[one] @ ours[one] / (rows[one] @ rival[one]) for one in others])
    # Twice the variance that tasks show, as the documentation says.
    error = np.sqrt(2 * 49 / 50 * ((without - without.mean()) ** 2).sum())
    assert uneven.percent == pytest.approx(100 * ratio)
    assert uneven.standard_error == pytest.approx(100 * error)
    # What falls by the same share for every task falls by that share for certain.
    certain = gain(rival, 0.9 * rival, rows)
    np.testing.assert_allclose([certain.low, certain.percent, certain.high], 10)
    same = gain(rival, rival, rows)
    assert (same.percent, same.low, same.high) == (0, 0, 0)
    assert gain(np.zeros(3), np.zeros(3), np.ones(3)) == Gain(0, 0, 0, 0)
    # One task, or one that has all of the weight, does not say how tasks vary.
    for weights in (np.ones(1), np.array([1.0, 0.0])):
        unsure = gain(np.ones(len(weights)), np.full(len(weights), 0.9), weights)
        np.testing.assert_allclose([unsure.low, unsure.percent, unsure.high], [-np.inf, 10, 100])
