"""What counts once: each task, or each row. By-hand values, Monte Carlo, and a table with one very large task."""

import json

import numpy as np
import pytest
from made import by_hand, cv, draws, outer_problem, table, task_rows

import undertow as ut
from undertow.choice import words
from undertow.choice.record import Choice
from undertow.tasks.losses import effective_number, mean_over_tasks, t_quantile

X, Y, G = table(m=24, seed=5, task_std=0.7)


def shops(m, n_large, seed):
    """m small tasks of 6 rows with their own intercepts and slopes; the first has ``n_large`` rows."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), [n_large, *[6] * (m - 1)])
    x = rng.standard_normal(len(groups))
    own = rng.standard_normal((2, m))
    y = own[0, groups] + (1 + 0.5 * own[1, groups]) * x + rng.standard_normal(len(groups))
    return x[:, None], y, groups


@pytest.mark.parametrize("rate", [0.0, -0.4, np.inf])
def test_training_with_tasks_alike_is_least_squares_with_rows_weighted_by_the_size_of_their_task(rate):
    model = ut.MAMLRegressor(rate, n_support=4, ridge=0.0, n_draws=2).fit(X, Y, groups=G)
    data, _ = by_hand(X, Y, G)
    batches = draws(data, 4, 2)
    path = ut.rate_path(batches, rate, rate_unit="spectral")
    matrix, target = outer_problem(batches, path.train_rates[0])
    counts = np.concatenate([np.repeat(batch.query_counts, batch.query_counts) for batch in batches])
    root = counts**-0.5
    omega = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
    np.testing.assert_allclose(model.model_.omega[0], omega, rtol=1e-7)
    assert np.abs(path.weights[0] / omega - 1).max() > 1e-3  # each row once is another problem


def test_query_rows_of_a_task_weigh_one_together_whatever_their_weights():
    weights = np.random.default_rng(0).uniform(0.1, 3, len(X))
    rows = task_rows(X, Y, G, weights)
    plain = list(rows.draw(4, np.random.SeedSequence(1)))
    for (batch, _, weight), (own, _, of_rows) in zip(
        rows.draw(4, np.random.SeedSequence(1), weighting="tasks"), plain, strict=True
    ):
        np.testing.assert_array_equal(weight, 1)
        factor = of_rows**-0.5
        np.testing.assert_allclose(batch.query_x, own.query_x * factor[:, None, None], rtol=1e-12)
        np.testing.assert_array_equal(batch.support_x, own.support_x)


@pytest.mark.parametrize("weighting", ["tasks", "rows"])
def test_errors_and_the_choice_are_means_over_tasks_or_over_rows(weighting):
    model = cv(n_support=4, weighting=weighting).fit(X, Y, groups=G)
    held_out, choice = model.held_out_, model.choice_
    np.testing.assert_array_equal(held_out.rows, np.bincount(G)[held_out.task_ids] - 4)
    by = held_out.rows if weighting == "rows" else np.ones(24)
    for name, one in choice.candidates.items():
        assert one.mse == pytest.approx(np.average(held_out.of(name), weights=by), rel=1e-12)
    assert choice.n_effective == pytest.approx(by.sum() ** 2 / (by**2).sum())
    assert choice == Choice.from_dict(json.loads(json.dumps(choice.to_dict())))


def test_the_standard_error_of_a_weighted_mean_is_right_on_average():
    rng = np.random.default_rng(2)
    weights = np.array([40.0, 5, 5, 5, 3, 2, 1, 1, 1])
    drawn = rng.standard_normal((20_000, 9))
    squares = np.array([mean_over_tasks(one, weights)[1] ** 2 for one in drawn])
    truth = (weights**2).sum() / weights.sum() ** 2
    z = (squares.mean() - truth) / (squares.std() / np.sqrt(len(squares)))
    assert abs(z) < 4
    assert mean_over_tasks(drawn[0], np.ones(9))[1] == pytest.approx(drawn[0].std(ddof=1) / 3)
    assert effective_number(np.ones(9)) == pytest.approx(9)


@pytest.mark.long
def test_one_large_task_does_not_decide_for_the_others():
    x, y, groups = shops(60, 2000, seed=3)
    model = ut.MAMLRegressorCV(3).fit(x, y, groups=groups)
    new_x, new_y, new = shops(2000, 6, seed=4)
    before, after = [], []
    for task in range(2000):
        own = np.flatnonzero(new == task)
        adapted = model.adapt(new_x[own[:3]], new_y[own[:3]])
        before.append(np.mean((model.predict(new_x[own[3:]]) - new_y[own[3:]]) ** 2))
        after.append(np.mean((adapted.predict(new_x[own[3:]]) - new_y[own[3:]]) ** 2))
    truth = 100 * (1 - np.mean(after) / np.mean(before))
    gain = model.choice_.best_gains["joint"]
    assert gain.low < truth < gain.high
    assert gain.low > 0
    assert "(shop 0) has 85 %" in words.weight_note(model.choice_, "shop")
    assert "(0) has 85 %" in words.weight_note(model.choice_)
    by_rows = ut.MAMLRegressorCV(3, weighting="rows").fit(x, y, groups=groups)
    # Hardly more than one task in effect: nothing is known of how tasks vary, and that is said.
    assert by_rows.choice_.n_effective < 2
    assert by_rows.choice_.best_gains["joint"].low == -np.inf
    assert "each row counts" in words.weight_note(by_rows.choice_)
    assert t_quantile(np.array([1.0, 1e-9]), 0.95) == np.inf


def test_tasks_of_like_size_give_no_note():
    assert words.weight_note(cv(n_support=4).fit(X, Y, groups=G).choice_) == ""


def test_another_weighting_is_refused():
    with pytest.raises(ut.InputError, match="weighting"):
        ut.MAMLRegressor(weighting="groups").fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match="weighting"):
        ut.MAMLRegressor(rule=ut.MixedRule(), weighting="rows").fit(X, Y, groups=G)
