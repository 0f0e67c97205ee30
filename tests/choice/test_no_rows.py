"""Tasks without labelled rows: what predicts them, and its error."""

import numpy as np
import pytest
from made import cv, table

import undertow as ut
from undertow.choice.held_out import HeldOut
from undertow.choice.without_rows import choose_at_zero


def apart(m=60, n=12, seed=0):
    """Tasks whose feature has another slope between them (3) than within (-1): their means say where they lie."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), n)
    centre = rng.standard_normal(m)
    x = centre[groups] + 0.3 * rng.standard_normal(m * n)
    y = (
        3 * centre[groups]
        - (x - centre[groups])
        + 0.5 * rng.standard_normal(m)[groups]
        + 0.3 * rng.standard_normal(m * n)
    )
    return x[:, None], y, groups


def test_a_task_without_rows_is_predicted_by_what_predicts_such_tasks():
    x, y, groups = apart()
    model = ut.MAMLRegressorCV(5).fit(x, y, groups=groups)
    new_x, new_y, new = apart(m=2000, seed=1)
    # The mixed model's mean is the slope within a task: worse than a constant for tasks without rows.
    assert model.choice_.at_zero["joint"] > 0.9
    assert model.choice_.candidates["mixed_full"].mse_at_zero > 1
    error = np.mean((model.predict(new_x) - new_y) ** 2) / y.var()
    assert error < 0.5
    found = model.choice_
    assert abs(found.mse_at_zero - error) < 4 * found.standard_error_at_zero
    pooled = np.polyfit(x[:, 0], y, 1)
    assert error < 1.02 * np.mean((np.polyval(pooled, new_x[:, 0]) - new_y) ** 2) / y.var()
    # With rows of its own a task is adapted from where adaptation starts.
    own = new == 7
    rows, rest = np.flatnonzero(own)[:5], np.flatnonzero(own)[5:]
    adapted = model.adapt(new_x[rows], new_y[rows])
    assert adapted.model_.unadapted is None
    assert np.mean((adapted.predict(new_x[rest]) - new_y[rest]) ** 2) < 0.2 * error * y.var()


def test_the_prediction_without_rows_survives_saving_further_tasks_and_known_ones(tmp_path):
    x, y, groups = apart()
    model = ut.MAMLRegressorCV(5).fit(x, y, groups=groups)
    assert model.model_.unadapted is not None
    ut.estimators.save(model, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    np.testing.assert_allclose(model.predict(x), x @ model.coef_ + model.intercept_, rtol=1e-9)
    more_x, more_y, more = apart(m=30, seed=2)
    whole = again.partial_fit(more_x, more_y, groups=more + 1000)
    assert np.abs(whole.model_.alone - model.model_.alone).max() > 1e-4
    joint = ut.MAMLRegressor(0.0, 0.0, 5, ridge=model.choice_.candidates["joint"].settings["ridge"], clip=None)
    every = joint.fit(np.r_[x, more_x], np.r_[y, more_y], groups=np.r_[groups, more + 1000])
    # Other units and draws: the same least squares to within those.
    assert whole.coef_ == pytest.approx(every.coef_, rel=0.05)


def test_errors_without_rows_are_those_of_common_weights_on_the_query_rows():
    x, y, groups = table(m=24, seed=5, task_std=0.7)
    model = cv(n_support=4, cv=4, n_draws=1).fit(x, y, groups=groups)
    held_out = model.held_out_
    # Nothing is adapted: with and without rows are one.
    joint = model.choice_.candidates["joint"]
    assert joint.mse_at_zero == pytest.approx(joint.mse, rel=1e-12)
    assert joint.mse == pytest.approx(held_out.of("joint").mean(), rel=1e-12)
    assert set(model.choice_.at_zero) <= {"constant", "joint", model.strategy_}


def test_weights_without_rows_are_the_shares_of_their_parts_and_so_are_the_errors():
    x, y, groups = table(m=24, seed=5, task_std=0.7)
    model = cv(n_support=4, cv=4, n_draws=1, blend=False, rules="proximal").fit(x, y, groups=groups)
    shares = model.choice_.at_zero
    assert sum(shares.values()) == pytest.approx(1)
    joint = ut.MAMLRegressor(0.0, 0.0, 4, ridge=model.choice_.candidates["joint"].settings["ridge"], n_draws=1)
    own = {
        "joint": joint.fit(x, y, groups=groups).model_.omega,
        model.strategy_: model.model_.omega,
        "constant": np.append(np.zeros(x.shape[1]), model.model_.alone[0, -1])[None],
    }
    slopes = sum(share * own[name] for name, share in shares.items())[0, :-1]
    np.testing.assert_allclose(model.model_.alone[0, :-1], slopes, rtol=1e-6)


@pytest.mark.parametrize("least", ["constant", "joint", "ridge", "both"])
def test_shares_without_rows_go_to_what_predicts_such_tasks(least):
    """Errors of 60 tasks at zero rows, independent between strategies: variance 1 for the least, 9 for others."""
    rng, names = np.random.default_rng(0), ["joint", "ridge", "signed", "constant"]
    small = {"joint", "ridge"} if least == "both" else {least}
    errors = rng.standard_normal((60, 8, 4)) * [1.0 if name in small else 3.0 for name in names]
    at_zero = np.einsum("mra,mrb->mab", errors, errors) / 8
    held_out = HeldOut(at_zero, at_zero, np.ones(60), np.arange(60), np.arange(60) % 4)
    found = choose_at_zero(held_out, names, "blend", [{"ridge": 0.9, "signed": 0.1}] * 4, 0)
    assert sum(found.shares.values()) == pytest.approx(1)
    own = {"ridge": {"blend"}, "both": {"joint", "blend"}}.get(least, {least})
    assert sum(found.shares.get(name, 0.0) for name in own) > 0.8
    assert len(found.of_folds) == 4
    # A convex combination of two that err independently is better than either.
    assert found.errors.mean() < (0.7 if least == "both" else 1.1)
    weights = found.weights(lambda name: np.full((1, 1), {"constant": 0.0, "joint": 1.0, "blend": 2.0}[name]))
    assert weights[0, 0] == pytest.approx(found.shares.get("joint", 0.0) + 2 * found.shares.get("blend", 0.0))


@pytest.mark.parametrize("gain", [-1.0, 0.0, 0.2, 3.0])
def test_the_constant_has_a_part_only_where_it_is_clearly_better_than_joint(gain):
    """gain: of the constant over "joint", in standard errors of the tasks; the best combination has a half of each."""
    rng = np.random.default_rng(1)
    errors = rng.standard_normal((24, 50, 2))
    products = np.einsum("mra,mrb->mab", errors, errors) / 50
    less = products[:, 0, 0] - products[:, 1, 1]
    products[:, 0, 0] += gain * less.std(ddof=1) / np.sqrt(24) - less.mean()
    held_out = HeldOut(products, products, np.ones(24), np.arange(24), np.arange(24) % 3)
    found = choose_at_zero(held_out, ["joint", "constant"], "joint", [{"joint": 1.0}] * 3, 0)
    assert ("constant" in found.shares) == (gain > 1)
    if gain < 1:
        assert found.shares == {"joint": 1.0}
