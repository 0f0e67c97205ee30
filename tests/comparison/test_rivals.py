"""Each rival against its definition, worked out row by row, and against sibling code."""

import numpy as np
import pytest
from grouped_small import PLAN, cells_by_hand, small, standardised
from sklearn.linear_model import LinearRegression, Ridge

from undertow import MAMLRegressorCV
from undertow.choice.gradient_family import candidate_rates, pick
from undertow.choice.search import RIDGES
from undertow.comparison import Plan, compare
from undertow.comparison.cell import training_of
from undertow.comparison.plain import inner_draws
from undertow.comparison.registry import BY_NAME
from undertow.estimators import fit_table
from undertow.linear import rate_path
from undertow.linear.proximal_step import RATIOS
from undertow.linear.surface import LossSurface
from undertow.tasks import folds


@pytest.fixture(scope="module")
def table():
    return small()


@pytest.fixture(scope="module")
def found(table):
    names = ["pooled", "alone", "pooled_ridge", "step", "tied", "signed"]
    return compare(
        table, PLAN, n_repeats=2, rivals=names, time_limit=None,
    )  # fmt: skip


def check(found, table, name, predict):
    ours = found.losses(name)
    theirs = [cells_by_hand(table, PLAN, repeat, predict) for repeat in (0, 1)]
    np.testing.assert_allclose(ours, np.mean(theirs, axis=0), rtol=1e-7)
    # Two repeats have other folds and draws.
    assert not np.allclose(theirs[0], theirs[1])


def test_pooled_is_least_squares_on_all_rows(found, table):
    def predict(training):
        rows, _, _ = standardised(training)
        line = LinearRegression().fit(rows(training.raw.x)[:, :-1], training.raw.y)
        return lambda x, y, query: line.predict(rows(query)[:, :-1])

    check(found, table, "pooled", predict)


@pytest.mark.long
def test_alone_is_ridge_on_the_support_rows_with_the_penalty_that_suits_training_tasks(found, table):
    def ridge(ratio, x, y, query):
        if np.isinf(ratio):
            return np.full(len(query), y.mean())
        return Ridge(alpha=ratio).fit(x, y).predict(query)

    def predict(training):
        rows, targets, back = standardised(training)
        losses = np.zeros(len(RATIOS))
        for draw in inner_draws(training.data, PLAN.n_support, PLAN.seed):
            for batch in draw:
                for t in range(batch.n_tasks):
                    real = slice(None) if batch.query_mask is None else batch.query_mask[t]
                    x, y = batch.support_x[t, :, :-1], batch.support_y[t]
                    for i, ratio in enumerate(RATIOS):
                        guess = ridge(ratio, x, y, batch.query_x[t][real][:, :-1])
                        losses[i] += ((guess - batch.query_y[t][real]) ** 2).sum()
        best = RATIOS[int(losses.argmin())]
        return lambda x, y, query: back(ridge(best, rows(x)[:, :-1], targets(y), rows(query)[:, :-1]))

    check(found, table, "alone", predict)


def test_pooled_ridge_is_ridge_towards_a_ridge_regression_of_all_rows(found, table):
    ridges = np.geomspace(1e-6, 10, 20)

    def towards(omega, ratio, x, y):
        if np.isinf(ratio):
            return omega
        return np.linalg.solve(x.T @ x + ratio * np.eye(x.shape[1]), x.T @ y + ratio * omega)

    def pooled(x, y, ridge):
        d = x.shape[1]
        return np.linalg.solve(x.T @ x + ridge * (x**2).sum() / d * np.eye(d), x.T @ y)

    def predict(training):
        data = training.data
        rows, targets, back = standardised(training)
        drawn = [
            (part, [b for draw in inner_draws(data.select(part), PLAN.n_support, PLAN.seed) for b in draw])
            for part in folds(data.ids, 5, PLAN.seed)
        ]

        def queries(batches):
            masks = [np.ones(b.query_y.shape, bool) if b.query_mask is None else b.query_mask for b in batches]
            pairs = list(zip(batches, masks, strict=True))
            return np.concatenate([b.query_x[k] for b, k in pairs]), np.concatenate([b.query_y[k] for b, k in pairs])

        losses = np.zeros((len(RATIOS), len(ridges)))
        for i in range(5):
            x, y = queries([b for j, (_, batches) in enumerate(drawn) if j != i for b in batches])
            omegas = np.column_stack([pooled(x, y, ridge) for ridge in ridges])
            for batch in drawn[i][1]:
                for t in range(batch.n_tasks):
                    real = slice(None) if batch.query_mask is None else batch.query_mask[t]
                    for k, ratio in enumerate(RATIOS):
                        thetas = towards(omegas, ratio, batch.support_x[t], batch.support_y[t][:, None])
                        losses[k] += ((batch.query_x[t][real] @ thetas - batch.query_y[t][real][:, None]) ** 2).sum(0)
        k, r = np.unravel_index(int(losses.argmin()), losses.shape)
        omega = pooled(*queries([b for _, batches in drawn for b in batches]), ridges[r])
        return lambda x, y, query: back(rows(query) @ towards(omega, RATIOS[k], rows(x), targets(y)))

    check(found, table, "pooled_ridge", predict)


@pytest.mark.parametrize("name", ["step", "tied", "signed"])
def test_maml_rivals_take_the_rates_with_the_least_loss_on_training_tasks_left_out(found, table, name):
    picked = []

    def predict(training):
        data = training.data
        rows, targets, back = standardised(training)
        parts = [
            [b for draw in inner_draws(data.select(part), PLAN.n_support, PLAN.seed) for b in draw]
            for part in folds(data.ids, 5, PLAN.seed)
        ]
        every = [b for part in parts for b in part]
        scale = rate_path(every, 0.0, ridge=1.0).scale
        rates, products, weight = candidate_rates(scale), 0.0, 0.0
        for i, part in enumerate(parts):
            path = rate_path([b for j, own in enumerate(parts) if j != i for b in own], rates, ridge=RIDGES)
            share = sum(float(b.query_counts.sum()) for b in part)
            products, weight = products + share * path.evaluate(part).products, weight + share
        best = pick(LossSurface(rates, products / weight, scale, np.array(RIDGES)), name)
        picked.append(best.train_rate)
        omega = rate_path(every, best.train_rate, ridge=best.ridge).weights[0]

        def adapted(x, y, query):
            gradient = rows(x).T @ (rows(x) @ omega - targets(y)) / len(x)
            return back(rows(query) @ (omega - best.adapt_rate * gradient))

        return adapted

    check(found, table, name, predict)
    assert (np.array(picked) == 0).all() if name == "step" else np.any(picked)


def test_a_rivals_settings_are_those_of_the_estimators_search(table):
    training, _, _ = training_of(table, PLAN, 0, 0)
    estimator = MAMLRegressorCV(PLAN.n_support, n_draws=5, weighting=PLAN.weighting, random_state=PLAN.seed)
    choice = fit_table(estimator, training.raw).choice_
    for name in ("step", "tied", "signed"):
        settings, [rule] = choice.candidates[name].settings, BY_NAME[name].fit(training).model.model.rules
        assert rule.rate == pytest.approx(settings["adapt_rate"])
    [rule] = BY_NAME["pooled_ridge"].fit(training).model.model.rules
    assert rule.ratio == choice.candidates["pooled_ridge"].settings["adapt_ratio"]


def test_the_default_is_the_estimator_through_its_public_methods(table):
    def predict(training):
        raw = training.raw
        estimator = fit_table(
            MAMLRegressorCV(PLAN.n_support, clip=PLAN.clip, weighting=PLAN.weighting, random_state=PLAN.seed), raw
        )
        del estimator.feature_names_in_  # so that arrays may be given
        return lambda x, y, query: estimator.adapt(x, y).predict(query)

    plan = PLAN._replace(n_folds=2, n_draws=1)
    ours = compare(table, plan, rivals=["default"], time_limit=None)
    np.testing.assert_allclose(ours.losses("default"), cells_by_hand(table, plan, 0, predict), rtol=1e-7)


def test_the_default_clips_as_the_estimator_does():
    table = small(seed=3)
    x = table.x.copy()
    x[::17] *= 40  # values far beyond four deviations, in training and held-out tasks
    wild = type(table).from_arrays(x, table.y, table.groups)
    training, test, _ = training_of(wild, PLAN, 0, 0)
    batch = test.draw(PLAN.n_support, 0, n_query=3)
    ours = BY_NAME["default"].fit(training).model.predict(batch.support_x, batch.support_y, batch.query_x)
    raw = training.raw
    estimator = fit_table(
        MAMLRegressorCV(PLAN.n_support, clip=PLAN.clip, weighting=PLAN.weighting, random_state=PLAN.seed), raw
    )
    del estimator.feature_names_in_
    theirs = [
        estimator.adapt(x, y).predict(query)
        for x, y, query in zip(batch.support_x, batch.support_y, batch.query_x, strict=True)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


# Rivals for two values and counts have tests of their own (test_generalised_rivals.py).
NUMBERS = [name for name in BY_NAME if not BY_NAME[name].target]


@pytest.mark.parametrize("name", [n for n in NUMBERS if n != "mixedlm_slopes"])
def test_no_prediction_depends_on_a_held_out_target_that_was_not_given(name):
    if why := BY_NAME[name].unfit(2):
        pytest.skip(why)
    rng, table = np.random.default_rng(5), small(12)
    _, test, part = training_of(table, PLAN, 0, 1)
    kept = np.isin(table.groups, test.ids)
    batch = test.draw(PLAN.n_support, 11, n_query=2)

    def predictions(y, support_y):
        changed = type(table).from_arrays(table.x, y, table.groups)
        training, _, again = training_of(changed, PLAN, 0, 1)
        np.testing.assert_array_equal(part, again)
        return BY_NAME[name].fit(training).model.predict(batch.support_x, support_y, batch.query_x)

    before = predictions(table.y, batch.support_y)
    other = np.where(kept, table.y + 100 * rng.standard_normal(table.n_rows), table.y)
    np.testing.assert_array_equal(predictions(other, batch.support_y), before)
    # The given rows do count, for all rivals but the one that adapts nothing; trees see large steps only.
    assert np.array_equal(predictions(table.y, batch.support_y - 30), before) == (name == "pooled")
    # And so do targets of training tasks.
    assert not np.array_equal(predictions(np.where(kept, table.y, -table.y), batch.support_y), before)


def test_one_support_row_is_enough_for_every_rival():
    pytest.importorskip("statsmodels")
    found = compare(small(6), Plan(1, 2, 1), time_limit=None)
    assert set(found.measured) == {name for name in NUMBERS if not BY_NAME[name].unfit(2)}
