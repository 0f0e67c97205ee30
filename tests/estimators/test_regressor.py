"""MAMLRegressor against the same thing written out: coefficients, adaptation, predictions, scores, weights."""

import numpy as np
import pytest
from made import by_hand, draws, table, task_rows
from sklearn.base import clone
from sklearn.metrics import r2_score

import undertow as ut
from undertow.estimators import training
from undertow.linear import adapt
from undertow.linear.proximal_step import ridge_adapt

X, Y, G = table()


def in_user_units(omega, standard):
    coef = omega[:-1] / standard.spread * standard.target_spread
    return coef, standard.target_centre[0] + standard.target_spread[0] * omega[-1] - coef @ standard.centre


@pytest.mark.parametrize("rate", [-0.7, 0.0, 0.4, np.inf])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("unit", ["spectral", "raw"])
def test_coefficients_are_those_of_the_rate_path_on_the_same_draws(rate, steps, unit):
    data, standard = by_hand(X, Y, G)
    path = ut.rate_path(draws(data, 4, 2, seed=3), rate, ridge=1e-2, steps=steps, rate_unit=unit)
    model = ut.MAMLRegressor(
        rate, 0.2, n_support=4, ridge=1e-2, steps=steps, rate_unit=unit, n_draws=2, weighting="rows", random_state=3
    ).fit(X, Y, groups=G)
    coef, intercept = in_user_units(path.weights[0], standard)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-8)
    assert model.intercept_ == pytest.approx(intercept, rel=1e-9)
    assert model.scale_ == pytest.approx(path.scale, rel=1e-12)
    assert model.train_rate_ == pytest.approx(path.train_rates[0])
    assert model.adapt_rate_spectral_ == pytest.approx(0.2 if unit == "spectral" else 0.2 / path.scale)


def test_predictions_are_linear_in_the_users_units_where_nothing_is_clipped():
    model = ut.MAMLRegressor(clip=None).fit(X, Y, groups=G)
    np.testing.assert_allclose(model.predict(X), X @ model.coef_ + model.intercept_, rtol=1e-10)
    assert model.n_clipped_ == 0
    clipped = ut.MAMLRegressor(clip=1.0).fit(X, Y, groups=G)
    z = (X - X.mean(0)) / X.std(0)
    assert clipped.n_clipped_ == (np.abs(z) > 1).sum()
    inside = X.mean(0) + X.std(0) * z.clip(-1, 1)
    np.testing.assert_allclose(clipped.predict(X), inside @ clipped.coef_ + clipped.intercept_, rtol=1e-10)


def test_without_intercept_nothing_is_centred():
    model = ut.MAMLRegressor(fit_intercept=False, ridge=0.0, standardize=False, weighting="rows").fit(X, Y, groups=G)
    assert model.intercept_ == 0
    path = ut.rate_path(draws(ut.tasks.GroupedTable.from_arrays(X, Y, G), 5, 5), 0.0)
    np.testing.assert_allclose(model.coef_, path.weights[0], rtol=1e-9)


MODELS = {
    "rates": ut.MAMLRegressor(-0.3, 0.4),
    "gradient": ut.MAMLRegressor(-0.3, rule=ut.GradientRule(0.6)),
    "proximal": ut.MAMLRegressor(rule=ut.ProximalRule(3.0)),
    "proximal in some directions": ut.MAMLRegressor(rule=ut.ProximalRule(3.0, np.array([2.0, 1.0, 0.0, 0.5]))),
    "mixed": ut.MAMLRegressor(rule=ut.MixedRule("full")),
}


@pytest.mark.parametrize("name", MODELS)
def test_adapt_is_the_rule_applied_to_the_few_rows(name):
    model = clone(MODELS[name]).fit(X, Y, groups=G)
    few, targets = X[:4], Y[:4]
    before = model.coef_.copy()
    new = model.adapt(few, targets)
    np.testing.assert_array_equal(model.coef_, before)
    assert new is not model
    _, standard = by_hand(X, Y, G)
    z = np.c_[standard.features(few), np.ones(4)]
    t = (targets - standard.target_centre) / standard.target_spread
    batch = ut.TaskBatch(z[None], t[None], z[None], t[None])
    omega, rule = model.model_.omega[0], model.model_.rules[0]
    if isinstance(rule, ut.GradientRule):
        theta = omega - model.adapt_rate_ * z.T @ (z @ omega - t) / 4
        np.testing.assert_allclose(adapt(omega, batch, model.adapt_rate_)[0], theta, rtol=1e-12)
        # The rate of a rule that is a value is raw.
        assert model.adapt_rate_ == pytest.approx(0.6 if name == "gradient" else 0.4 * model.scale_)
    elif name == "mixed":
        theta = ridge_adapt(omega, batch, rule.ratio, rule.covariance)[0]
    else:
        c = np.eye(4) if rule.covariance is None else np.diag(rule.covariance)
        theta = omega + c @ z.T @ np.linalg.solve(z @ c @ z.T + 3 * np.eye(4), t - z @ omega)
        assert model.train_rate_ is model.adapt_rate_ is model.adapt_rate_spectral_ is None
    coef, intercept = in_user_units(theta, standard)
    np.testing.assert_allclose(new.coef_, coef, rtol=1e-7)
    np.testing.assert_allclose(new.predict(X), standard.features(X) @ (coef * standard.spread) + intercept
                               + coef @ standard.centre, rtol=1e-7)  # fmt: skip


def test_adaptation_helps_on_new_tasks():
    model = ut.MAMLRegressor(rule=ut.MixedRule()).fit(X, Y, groups=G)
    x, y, groups = table(m=30, seed=9, low=25, high=30)
    one = groups == 3
    new = model.adapt(x[one][:10], y[one][:10])
    assert r2_score(y[one][10:], new.predict(x[one][10:])) > r2_score(y[one][10:], model.predict(x[one][10:]))


def test_score_adapts_on_support_rows_and_measures_on_the_others():
    model = ut.MAMLRegressor(0.0, 0.3, n_support=4, random_state=5).fit(X, Y, groups=G)
    x, y, groups = table(m=7, seed=2)
    data = ut.tasks.GroupedTable.from_arrays(x, np.arange(len(x), dtype=float), groups)
    drawn = data.draw(4, np.random.SeedSequence(5))
    truth, predicted = [], []
    for i in range(7):
        support, query = drawn.support_y[i].astype(int), drawn.query_y[i][drawn.query_mask[i]].astype(int)
        new = model.adapt(x[support], y[support])
        truth.append(y[query])
        predicted.append(new.predict(x[query]))
    expected = r2_score(np.concatenate(truth), np.concatenate(predicted))
    assert model.score(x, y, groups=groups) == pytest.approx(expected, rel=1e-10)


def test_tasks_seen_in_training_are_predicted_by_their_own_weights_and_others_by_omega():
    model = ut.MAMLRegressor(0.0, 0.3).fit(X, Y, groups=G)
    mine = G == 4
    asked = np.where(mine, 4, 999)
    got = model.predict(X, groups=asked)
    np.testing.assert_allclose(got[mine], model.adapt(X[mine], Y[mine]).predict(X[mine]), rtol=1e-10)
    np.testing.assert_array_equal(got[~mine], model.predict(X)[~mine])


def test_whole_number_weights_are_copies_of_rows_and_zero_is_none():
    weights = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    copies = np.repeat(np.arange(len(X)), weights.astype(int))
    model = ut.MAMLRegressor(-0.4, 0.3)
    with pytest.warns(ut.estimators.MissingGroupsWarning):
        one = model.fit(X, Y, sample_weight=weights)
    first, intercept = one.coef_.copy(), one.intercept_
    with pytest.warns(ut.estimators.MissingGroupsWarning):
        many = model.fit(X[copies], Y[copies])
    np.testing.assert_allclose(first, many.coef_, rtol=1e-9)
    assert intercept == pytest.approx(many.intercept_, rel=1e-10)
    for model in (ut.MAMLRegressor(0.0, 0.3), ut.MAMLRegressor(rule=ut.ProximalRule(1.0))):
        model.fit(X, Y, groups=G)
        few = np.repeat(np.arange(6), [1, 2, 3, 1, 1, 2])
        weighted = model.adapt(X[:7], Y[:7], sample_weight=[1, 2, 3, 1, 1, 2, 0])
        np.testing.assert_allclose(weighted.coef_, model.adapt(X[few], Y[few]).coef_, rtol=1e-9)
    # With groups a weight of 0 leaves the draws of all other rows as they are.
    some = (np.arange(len(X)) % 7 > 0).astype(float)
    a = ut.MAMLRegressor(-0.4, n_support=2).fit(X, Y, groups=G, sample_weight=some)
    b = ut.MAMLRegressor(-0.4, n_support=2).fit(
        np.where(some[:, None] > 0, X, 1e6), Y * some, groups=G, sample_weight=some
    )
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-12)


def test_weights_of_the_mixed_rule_are_copies_and_adapt_knows_them_too():
    x, y, groups = table(m=12, low=4, high=6)
    model = ut.MAMLRegressor(rule=ut.MixedRule(), n_support=2)
    weighted = model.fit(x, y, groups=groups, sample_weight=np.full(len(x), 3.0))
    copies = ut.MAMLRegressor(rule=ut.MixedRule(), n_support=2).fit(
        np.repeat(x, 3, 0), np.repeat(y, 3), groups=np.repeat(groups, 3)
    )
    np.testing.assert_allclose(weighted.coef_, copies.coef_, rtol=1e-6)
    own = weighted.predict(x, groups=groups)
    np.testing.assert_allclose(own, copies.predict(x, groups=groups), rtol=1e-6)
    assert not np.allclose(
        own, ut.MAMLRegressor(rule=ut.MixedRule(), n_support=2).fit(x, y, groups=groups).predict(x, groups=groups)
    )
    one = groups == 4
    adapted = weighted.adapt(x[one], y[one], sample_weight=np.full(one.sum(), 3.0))
    np.testing.assert_allclose(adapted.predict(x[one]), own[one], rtol=1e-10)


@pytest.mark.parametrize("unit", [1e-170, 1e170])
def test_units_of_any_size_are_standardised(unit):
    plain, far = ut.MAMLRegressor().fit(X, Y, groups=G), ut.MAMLRegressor().fit(X * unit, Y * unit, groups=G)
    np.testing.assert_allclose(far.predict(X * unit, groups=G) / unit, plain.predict(X, groups=G), rtol=1e-9)


def test_groups_of_another_kind_are_tasks_that_were_not_seen():
    model = ut.MAMLRegressor().fit(X, Y, groups=G)
    for others in (np.full(len(X), "a"), np.full(len(X), 2.0**40), np.full(len(X), "a", dtype=object)):
        np.testing.assert_array_equal(model.predict(X, groups=others), model.predict(X))
    np.testing.assert_array_equal(model.predict(X, groups=G.astype(float)), model.predict(X, groups=G))
    mixed = np.array([*G[:-1], "a"], dtype=object)
    np.testing.assert_array_equal(model.predict(X, groups=mixed)[:-1], model.predict(X, groups=G)[:-1])


def test_weights_enter_the_outer_problem_as_squares():
    weights = np.random.default_rng(1).uniform(0.2, 3, len(X))
    model = ut.MAMLRegressor(0.0, ridge=0.0, n_draws=1, clip=None, weighting="rows")
    model.fit(X, Y, groups=G, sample_weight=weights)
    order = np.argsort(G, kind="stable")
    data = ut.tasks.GroupedTable.from_arrays(X, np.arange(len(X), dtype=float), G)
    drawn = data.draw(5, np.random.SeedSequence(0, spawn_key=(0,)))
    query = drawn.query_y[drawn.query_mask].astype(int)
    assert len(query) == len(order) - 5 * 24
    root = np.sqrt(weights[query])
    design = np.c_[X[query], np.ones(len(query))] * root[:, None]
    expected = np.linalg.lstsq(design, Y[query] * root, rcond=None)[0]
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), expected, rtol=1e-7)


def test_weights_enter_the_inner_step_as_a_weighted_mean():
    weights = np.random.default_rng(2).uniform(0.2, 3, len(X))
    rows = task_rows(X, Y, G, weights)
    data = ut.tasks.GroupedTable.from_arrays(X, np.arange(len(X), dtype=float), G)
    seed = np.random.SeedSequence(4)
    drawn = data.draw(5, seed)
    seen = 0
    for batch, tasks, weight in rows.draw(5, seed):
        for i, task in enumerate(tasks):
            support = drawn.support_y[task].astype(int)
            query = drawn.query_y[task][drawn.query_mask[task]].astype(int)
            z, t = rows.standard.features(X[support]), rows.standard.targets(Y[support][:, None])
            w = weights[support] / weights[support].sum()
            np.testing.assert_allclose(batch.support_x[i].T @ batch.support_x[i] / 5, z.T @ (w[:, None] * z), rtol=1e-9)
            np.testing.assert_allclose(batch.support_x[i].T @ batch.support_y[i] / 5, z.T @ (w[:, None] * t), rtol=1e-9)
            assert weight[i] == pytest.approx(weights[query].sum())
            seen += 1
    assert seen == 24


def test_several_targets_are_one_fit_each():
    both = np.c_[Y, 3 - X[:, 0]]
    model = ut.MAMLRegressor(-0.3, 0.2).fit(X, both, groups=G)
    assert model.coef_.shape == (2, 3)
    assert model.predict(X).shape == (len(X), 2)
    for j in range(2):
        alone = ut.MAMLRegressor(-0.3, 0.2).fit(X, both[:, j], groups=G)
        np.testing.assert_allclose(model.coef_[j], alone.coef_, rtol=1e-10)
        adapted = model.adapt(X[:5], both[:5]), alone.adapt(X[:5], both[:5, j])
        np.testing.assert_allclose(adapted[0].predict(X)[:, j], adapted[1].predict(X), rtol=1e-10)
    assert 0 < model.score(X, both, groups=G) <= 1


def test_small_tasks_are_left_out_with_a_warning_or_refused():
    groups = np.where(np.arange(len(G)) < 3, 1000, G)
    with pytest.warns(UserWarning, match="1 of 25 tasks have no more than n_support=5 rows"):
        model = ut.MAMLRegressor().fit(X, Y, groups=groups)
    rest = groups != 1000
    assert np.isfinite(model.score(X, Y, groups=groups))
    assert model.n_tasks_ == 25
    assert model.score(X, Y, groups=groups) == model.score(X, Y, groups=np.where(rest, groups, 7777))
    with pytest.raises(ut.InputError, match="task 1000 has 3"):
        ut.MAMLRegressor(on_small="raise").fit(X, Y, groups=groups)
    with pytest.raises(ut.InputError, match="no task has 6 rows"):
        ut.MAMLRegressor().fit(X[:9], Y[:9], groups=np.arange(9) // 3)


def test_results_follow_the_seed_and_not_the_order_of_tasks():
    a, b, c = (ut.MAMLRegressor(-0.3, random_state=s).fit(X, Y, groups=G).coef_ for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-6
    renamed = np.array([f"task {99 - g}" for g in G])
    np.testing.assert_allclose(ut.MAMLRegressor(-0.3).fit(X, Y, groups=renamed).coef_, a, rtol=1e-10)


def test_a_rate_above_the_stability_limit_warns_with_the_limit():
    data, _ = by_hand(X, Y, G)
    support = data.draw(5, np.random.SeedSequence(0, spawn_key=(0,))).support_x
    limit = np.median([2 / np.linalg.eigvalsh(x.T @ x / 5)[-1] for x in support])
    with pytest.warns(UserWarning, match=rf"in the median {limit:.3g}, a step overshoots"):
        ut.MAMLRegressor(0.0, 1.01 * limit, rate_unit="raw").fit(X, Y, groups=G)
    model = ut.MAMLRegressor(0.0, 0.99 * limit, rate_unit="raw").fit(X, Y, groups=G)
    spectral = limit / model.scale_
    with pytest.warns(UserWarning, match=rf"in the median {limit:.3g}, {spectral:.3g} in spectral units"):
        ut.MAMLRegressor(0.0, 1.01 * spectral).fit(X, Y, groups=G)
    with pytest.warns(UserWarning, match="a step overshoots"):
        ut.MAMLRegressor(rule=ut.GradientRule(1.01 * limit)).fit(X, Y, groups=G)


def test_the_spectral_unit_of_a_mixed_fit_is_that_of_the_tasks_second_moments():
    data, _ = by_hand(X, Y, G)
    second = [x.T @ x / len(x) for x in np.split(data.x, data.offsets[1:-1])]
    model = ut.MAMLRegressor(rule=ut.MixedRule()).fit(X, Y, groups=G)
    assert model.scale_ == pytest.approx(1 / np.linalg.eigvalsh(np.mean(second, axis=0))[-1], rel=1e-9)
    weights = np.random.default_rng(0).integers(1, 4, len(X))
    copies = np.repeat(np.arange(len(X)), weights)
    weighted = ut.MAMLRegressor(rule=ut.MixedRule()).fit(X, Y, groups=G, sample_weight=weights)
    copied = ut.MAMLRegressor(rule=ut.MixedRule()).fit(X[copies], Y[copies], groups=G[copies])
    assert weighted.scale_ == pytest.approx(copied.scale_, rel=1e-9)


def test_a_negative_adapt_rate_warns_and_is_used():
    with pytest.warns(UserWarning, match="adapt_rate=-0.1 is negative"):
        model = ut.MAMLRegressor(0.0, -0.1).fit(X, Y, groups=G)
    assert model.adapt_rate_ < 0
    assert model.score(X, Y, groups=G) < ut.MAMLRegressor(0.0, 0.1).fit(X, Y, groups=G).score(X, Y, groups=G)


@pytest.mark.parametrize(
    "model",
    [ut.MAMLRegressor(-0.3, 0.2), ut.MAMLRegressor(rule=ut.ProximalRule(1.0, train_ratio=2.0))],
    ids=["gradient", "proximal"],
)
def test_large_tables_are_summed_up_batch_by_batch_with_the_same_result(model, monkeypatch):
    both = np.c_[Y, 3 - X[:, 0] + Y**2]
    model.fit(X, both, groups=G)
    held = model.coef_.copy(), model.scale_, model.score(X, both, groups=G)
    monkeypatch.setattr(training, "FEW_NUMBERS", 0)
    assert len(list(task_rows(X, both, G).draw(5, np.random.SeedSequence(0)))) > 1
    model.fit(X, both, groups=G)
    np.testing.assert_allclose(model.coef_, held[0], rtol=1e-7)
    assert model.scale_ == pytest.approx(held[1], rel=1e-12)
    assert model.score(X, both, groups=G) == pytest.approx(held[2], rel=1e-9)
