"""The choice of rates by task-wise cross-validation, against the same thing done with rows in hand."""

import numpy as np
import pytest
import stacked
from undertow.choice.rate_comparison import compare_rates
from undertow.choice.rate_picks import RIDGES, STRATEGIES, candidate_rates, cross_validate, pick

import undertow as ut
from undertow.tasks import GroupedTable, folds
from undertow.tasks.losses import mean_over_tasks


def table(m=24, p=3, seed=0, noise=0.5, task_std=1.0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(7, 14, m)
    groups = np.repeat(np.arange(m), counts)
    x = rng.standard_normal((counts.sum(), p))
    weights = np.linspace(1, -1, p) + task_std / np.sqrt(p) * rng.standard_normal((m, p))
    y = (x * weights[groups]).sum(1) + noise * rng.standard_normal(len(x))
    return GroupedTable.from_arrays(x, y, groups)


def after_step(tasks, weights, rate):
    """Sum of squared errors and number of query rows of each task after one step, by hand."""
    out = []
    for i in range(tasks.n_tasks):
        x_t, y_t, x_v, y_v = stacked.task(tasks, i)
        theta = weights - rate * x_t.T @ (x_t @ weights - y_t) / len(x_t)
        out.append((((x_v @ theta - y_v) ** 2).sum(), len(y_v)))
    return np.array(out)


def test_cross_validation_equals_refitting_on_rows():
    whole = table().draw(4, seed=1)
    parts = folds(24, 3, seed=2)
    moments = [ut.Moments.from_tasks(whole.select(part)) for part in parts]
    rates = np.array([-0.4, 0.0, 0.3, np.inf])
    surface = cross_validate(moments, rates, [1e-4, 0.1])
    for k, rate in enumerate(rates):
        for r, ridge in enumerate((1e-4, 0.1)):
            squares = np.zeros(2)
            for part in parts:
                others = np.setdiff1d(np.arange(24), part)
                weights = stacked.solve(whole.select(others), rate, ridge=ridge)
                squares += after_step(whole.select(part), weights, 0.2).sum(0)
            assert surface.loss(0.2)[k, r] == pytest.approx(0.5 * squares[0] / squares[1], rel=1e-9)


def test_each_strategy_takes_the_best_of_what_it_allows():
    moments = [ut.Moments.from_tasks(table(seed=s).draw(4, seed=1)) for s in range(3)]
    rates = candidate_rates(moments[0].scale)
    surface = cross_validate(moments, rates)
    zero = int(np.flatnonzero(rates == 0)[0])
    picks = {name: pick(surface, name) for name in STRATEGIES}
    assert picks["joint"].loss == surface.loss(0.0)[zero].min()
    assert picks["step"].loss == surface.best_loss[zero].min()
    assert picks["signed"].loss == surface.best_loss.min()
    tied = [(surface.loss(rate)[k].min(), rate) for k, rate in enumerate(rates) if 0 < rate < np.inf]
    assert picks["tied"].loss == pytest.approx(min(tied)[0], rel=1e-12)
    assert picks["tied"].train_rate == picks["tied"].adapt_rate == min(tied)[1]
    assert (picks["joint"].train_rate, picks["joint"].adapt_rate, picks["step"].train_rate) == (0, 0, 0)
    for one in picks.values():
        assert one.ridge in RIDGES
        assert rates[one.position] == one.train_rate


def test_candidate_rates_are_symmetric_and_fine_near_zero():
    rates = candidate_rates(2.0)
    np.testing.assert_array_equal(rates, -rates[::-1])
    assert (rates == 0).sum() == 1
    assert 0.006 in rates
    assert np.isinf(rates[-1])


def test_mean_over_tasks_is_the_row_mean_with_a_standard_error_over_tasks():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 9, 40).astype(float)
    means, errors = [], []
    for _ in range(2000):
        mean, error = mean_over_tasks(rng.standard_normal(40), rows)
        means.append(mean)
        errors.append(error)
    truth = np.sqrt((rows**2).sum()) / rows.sum()
    # Spread of 2,000 means: relative standard error 1/sqrt(4000).
    assert abs(np.std(means) / truth - 1) < 4 / np.sqrt(4000)
    assert (
        abs(np.mean(np.square(errors)) / truth**2 - 1) < 4 * np.std(np.square(errors)) / truth**2 / np.sqrt(2000) + 0.03
    )


@pytest.fixture(scope="module")
def comparison():
    return compare_rates(table(), 4, n_folds=4, n_draws=2, seed=3)


def test_held_out_losses_equal_refitting_on_rows(comparison):
    data = table()
    parts = folds(data.ids, 4, 3)
    for i in (0, 2):
        others = data.select(np.setdiff1d(np.arange(24), parts[i]))
        for column, name in enumerate(STRATEGIES):
            one = comparison.fold_picks[name][i]
            seeds = [np.random.SeedSequence(3, spawn_key=(k,)) for k in range(2)]
            trained = [others.draw(4, seed) for seed in seeds]
            # Two draws of the same tasks are one stacked problem.
            rows = [stacked.outer_rows(draw, one.train_rate, 1) for draw in trained]
            matrix, target = np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
            weight = np.sqrt(one.ridge * (matrix**2).sum() / 3)
            weights = np.linalg.lstsq(
                np.concatenate([matrix, weight * np.eye(3)]), np.concatenate([target, np.zeros(3)]), rcond=None
            )[0]
            squares = sum(after_step(data.select(parts[i]).draw(4, seed), weights, one.adapt_rate) for seed in seeds)
            np.testing.assert_allclose(
                comparison.task_losses[parts[i], column], 0.5 * squares[:, 0] / squares[:, 1], rtol=1e-8
            )


def test_held_out_tasks_do_not_influence_what_is_chosen_without_them(comparison):
    data = table()
    part = folds(data.ids, 4, 3)[1]
    y = data.y.copy()
    y[np.isin(data.groups, data.ids[part])] *= -5.0
    other = compare_rates(GroupedTable.from_arrays(data.x, y, data.groups), 4, n_folds=4, n_draws=2, seed=3)
    for name in STRATEGIES:
        assert other.fold_picks[name][1] == comparison.fold_picks[name][1]
        assert other.fold_picks[name][0].loss != comparison.fold_picks[name][0].loss


def test_curve_is_the_cross_validated_loss(comparison):
    surface, chosen = comparison.surface, comparison.picks["signed"]
    r = list(surface.ridges).index(chosen.ridge)
    np.testing.assert_allclose(comparison.curve, surface.best_loss[:, r])
    assert comparison.curve.min() == pytest.approx(chosen.loss)
    zero = int(np.flatnonzero(surface.train_rates == 0)[0])
    assert comparison.curve_errors[zero] == 0
    assert (np.delete(comparison.curve_errors, zero) > 0).all()


def test_verdict_says_what_the_figures_say():
    quiet = compare_rates(table(m=40, noise=1.0, task_std=0.3), 4, n_folds=4, n_draws=2)
    gain, error = quiet.difference("step", "signed")
    assert abs(gain) <= 2 * error
    assert quiet.verdict.startswith("No evidence either way")
    # The setting of the paper: noisy tasks, fewer query rows than features, hardly any ridge.
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(16), 33)
    x = rng.standard_normal((len(groups), 60))
    y = (x * (0.5 / np.sqrt(60) * rng.standard_normal((16, 60)))[groups]).sum(1) + rng.standard_normal(len(groups))
    noisy = compare_rates(GroupedTable.from_arrays(x, y, groups), 30, n_draws=1, ridges=(1e-8,))
    gain, error = noisy.difference("step", "signed")
    assert gain > 2 * error
    assert noisy.verdict.startswith("A signed train rate helps here")
    assert "the rates chosen are negative" in noisy.verdict
    assert all(one.train_rate < 0 for one in noisy.fold_picks["signed"])


def test_a_difference_too_small_to_use_is_called_so(comparison):
    from dataclasses import replace

    losses = np.ones((24, 4))
    losses[:, list(STRATEGIES).index("signed")] = 0.999
    assert replace(comparison, task_losses=losses).verdict.startswith("The sign hardly matters here")
    losses[:, list(STRATEGIES).index("signed")] = 1.1
    assert replace(comparison, task_losses=losses).verdict.startswith("No inner loop (train rate 0) is better here")


def test_progress_counts_up_to_its_total():
    calls = []
    compare_rates(table(m=9), 4, n_folds=3, n_draws=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 9) for i in range(1, 10)]


def test_two_folds_and_bad_input():
    assert compare_rates(table(m=8), 4, n_folds=2, n_draws=1).task_losses.shape == (8, 4)
    with pytest.raises(ut.InputError, match="n_folds=30"):
        compare_rates(table(), 4, n_folds=30)
    with pytest.raises(ut.InputError, match=r"n_support=12: .* of 24 tasks have no row left"):
        compare_rates(table(), 12)
    flat = GroupedTable.from_arrays(table().x, np.ones(table().n_rows), table().groups)
    with pytest.raises(ut.InputError, match="one value only"):
        compare_rates(flat)
    surface = cross_validate(iter([ut.Moments.from_tasks(table().draw(4))] * 2), np.array([0.1]), 0.1)
    with pytest.raises(ut.InputError, match="allows none of the train rates"):
        pick(surface, "step")
    moments = ut.Moments.from_tasks(table().draw(4))
    with pytest.raises(ut.InputError, match="1 folds"):
        cross_validate([moments], np.array([0.0]))
    with pytest.raises(ut.InputError, match="strategy='best'"):
        pick(cross_validate([moments, moments], np.array([0.0])), "best")
