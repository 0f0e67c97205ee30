"""Rows in their order in time: the first of a task are support rows, whatever the seed, and errors are forecasts."""

from dataclasses import replace

import numpy as np
import pytest
from made import cv, task_rows

import undertow as ut
from undertow.comparison import Plan, compare
from undertow.estimators import fit_table


def drifting(m=40, n=14, seed=0):
    """Tasks whose level walks at random: later rows say much of each other, and the first ones little of the last."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), n)
    level = np.cumsum(0.7 * rng.standard_normal((m, n)), axis=1).ravel()
    x = rng.standard_normal(m * n)
    return x[:, None], x + level + 0.3 * rng.standard_normal(m * n), groups


X, Y, G = drifting()


def test_support_rows_are_the_first_of_each_task_for_every_seed():
    shuffled = np.argsort(np.random.default_rng(0).random(len(G)), kind="stable")
    model = ut.MAMLRegressor(support="first").fit(X, Y, groups=G)
    assert model.coef_ == pytest.approx(ut.MAMLRegressor(support="first", random_state=9).fit(X, Y, groups=G).coef_)
    other = ut.MAMLRegressor(support="first").fit(X[shuffled], Y[shuffled], groups=G[shuffled])
    assert np.abs(other.coef_ - model.coef_).max() > 1e-6
    rows = replace(task_rows(X, Y, G), in_order=True)
    for batch, tasks, _ in rows.draw(5, np.random.SeedSequence(3)):
        for one, task in enumerate(tasks):
            own = np.flatnonzero(task == G)
            np.testing.assert_array_equal(batch.support_y[one], rows.y[own[:5], 0][:, None])
            np.testing.assert_array_equal(batch.query_y[one], rows.y[own[5:], 0][:, None])


@pytest.mark.long
def test_held_out_errors_are_those_of_a_forecast():
    model = cv(n_support=5, support="first").fit(X, Y, groups=G)
    assert model.n_draws_ == 1
    new_x, new_y, new = drifting(m=1500, seed=1)
    squares = []
    for task in range(1500):
        own = np.flatnonzero(new == task)
        squares.append(
            np.mean((model.adapt(new_x[own[:5]], new_y[own[:5]]).predict(new_x[own[5:]]) - new_y[own[5:]]) ** 2)
        )
    truth = np.mean(squares) / model.model_.standard.target_spread[0] ** 2
    found = model.choice_.candidates[model.strategy_]
    assert abs(found.mse - truth) < 3 * found.standard_error
    # Random support rows promise what no forecast keeps.
    random = cv(n_support=5).fit(X, Y, groups=G).choice_
    assert random.mse < 0.75 * found.mse
    assert model.score(new_x, new_y, groups=new) < cv(n_support=5).fit(X, Y, groups=G).score(new_x, new_y, groups=new)


@pytest.mark.long
def test_a_table_is_put_in_order_by_a_column(tmp_path):
    day = np.tile(np.arange(14), 40)
    shuffled = np.random.default_rng(2).permutation(len(G))
    lines = [
        "shop,day,x,sold",
        *(f"{G[i]},2024-01-{day[i] + 1:02d},{float(X[i, 0])!r},{float(Y[i])!r}" for i in shuffled),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    with pytest.warns(ut.tasks.TableNote, match="first rows of each shop by day"):
        table = ut.tasks.read_table(tmp_path / "t.csv", "shop", "sold", ["x"], order="day")
    assert table.in_order
    np.testing.assert_array_equal(table.y, Y)
    batch = table.draw(5, seed=4)
    np.testing.assert_array_equal(batch.support_y, Y.reshape(40, 14)[:, :5])
    ours = fit_table(cv(support="first"), table)
    del ours.feature_names_in_
    np.testing.assert_allclose(ours.coef_, cv(support="first").fit(X, Y, groups=G).coef_, rtol=1e-9)
    with pytest.raises(ut.InputError, match="support"):
        fit_table(cv(), table)
    with pytest.raises(ut.InputError, match="order"):
        ut.tasks.read_table(tmp_path / "t.csv", "shop", "sold", order="when")
    plan = Plan(5, 3, 1)
    inside, outside = (compare(table, plan, rivals=["alone", "default"], time_limit=limit) for limit in (None, 100.0))
    np.testing.assert_array_equal(inside.task_losses, outside.task_losses)
    mixed = ut.tasks.GroupedTable.from_arrays(X, Y, G)
    assert compare(mixed, plan, rivals=["alone"], time_limit=None).mean_loss("alone")[0] < inside.mean_loss("alone")[0]
