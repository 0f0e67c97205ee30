"""Rivals that can bend, against what they are said to be, and where a package is missing."""

from typing import get_type_hints

import numpy as np
import pytest
from grouped_small import PLAN, small, standardised
from sklearn.ensemble import HistGradientBoostingRegressor

import undertow.comparison.rivals
from undertow import TaskBatch
from undertow.cli.compare import compare as command
from undertow.comparison import RIVALS, Plan, boosted_intercept, compare, mixedlm_rust, trees
from undertow.comparison.boosted_intercept import Intercepts
from undertow.comparison.cell import training_of
from undertow.comparison.mixedlm import fit_mixedlm
from undertow.comparison.plain import inner_draws
from undertow.comparison.registry import chosen
from undertow.linear.proximal_step import ridge_adapt
from undertow.tasks import GroupedTable, folds


@pytest.mark.parametrize("weighting", ["tasks", "rows"])
def test_trees_are_scikit_learns_on_query_rows_beside_means_of_support_rows(weighting):
    table = small(10, seed=3)
    training, test, _ = training_of(table, PLAN._replace(weighting=weighting), 0, 0)
    features, targets, back = standardised(training)

    def columns(x, y, query):
        return [np.concatenate([one, [y.mean()], x.mean(axis=0)]) for one in query]

    x, y, tasks, weights = [], [], [], []
    for draw in inner_draws(training.data, PLAN.n_support, PLAN.seed):
        for batch in draw:
            for t in range(batch.n_tasks):
                real = slice(None) if batch.query_mask is None else batch.query_mask[t]
                query = batch.query_y[t][real]
                x += columns(batch.support_x[t, :, :-1], batch.support_y[t], batch.query_x[t][real][:, :-1])
                y += query.tolist()
                tasks += [batch.ids[t]] * len(query)
                weights += [1 / len(query) if weighting == "tasks" else 1.0] * len(query)
    x, y, tasks, weights = map(np.array, (x, y, tasks, weights))

    def grown(kept, n):
        own = HistGradientBoostingRegressor(max_iter=n, early_stopping=False)
        return own.fit(x[kept], y[kept], weights[kept])

    losses = dict.fromkeys(trees.NUMBERS, 0.0)
    for part in folds(training.raw.ids, 5, PLAN.seed):
        own = np.isin(tasks, training.raw.ids[part])
        for n, found in enumerate(grown(~own, max(losses)).staged_predict(x[own]), start=1):
            if n in losses:
                losses[n] += (weights[own] * (found - y[own]) ** 2).sum()
    best = grown(np.ones(len(y), bool), min(losses, key=losses.get))

    batch = test.draw_buckets(PLAN.n_support, np.random.SeedSequence(0))[0]
    ours = trees.fit(training).model.predict(batch.support_x, batch.support_y, batch.query_x)
    for t in range(batch.n_tasks):
        rows = columns(
            features(batch.support_x[t])[:, :-1], targets(batch.support_y[t]), features(batch.query_x[t])[:, :-1]
        )
        np.testing.assert_allclose(ours[t], back(best.predict(np.array(rows))), rtol=1e-9)


def test_where_the_common_relation_is_curved_trees_beat_what_is_linear():
    rng = np.random.default_rng(5)
    tasks = np.repeat(np.arange(24), 15)
    x = rng.uniform(-2, 2, (360, 2))
    y = 3 * x[:, 0] ** 2 + rng.standard_normal(24)[tasks] + 0.3 * rng.standard_normal(360)
    found = compare(
        GroupedTable.from_arrays(x, y, tasks), Plan(n_folds=2, n_draws=1), rivals=["pooled", "trees"], time_limit=None
    )
    gap = found.difference("trees", "pooled")
    assert gap.high < 0
    assert found.mean_loss("trees")[0] < 0.5


def test_an_intercept_is_moved_by_the_best_linear_unbiased_prediction():
    rng = np.random.default_rng(0)
    line = rng.standard_normal(3)
    x, y, query = rng.standard_normal((4, 6, 3)), rng.standard_normal((4, 6)), rng.standard_normal((4, 2, 3))
    ours = Intercepts(lambda rows: rows @ line, 0.7).adapted(x, y, query)
    with_one = [np.concatenate([one, np.ones((*one.shape[:2], 1))], axis=2) for one in (x, query)]
    covariance = np.zeros((4, 4))
    covariance[3, 3] = 1.0
    batch = TaskBatch(with_one[0], y, with_one[0][:, :1], y[:, :1])
    theta = ridge_adapt(np.append(line, 0.0), batch, 0.7, covariance)
    np.testing.assert_allclose(ours, np.einsum("mnd,md->mn", with_one[1], theta), rtol=1e-10)


def test_a_rival_whose_package_is_missing_is_named_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(undertow.comparison.rivals, "find_spec", lambda name: None)
    assert not {"gpboost", "mixedlm_rs"} & {rival.name for rival in chosen(None)}
    found = compare(small(), PLAN, rivals=["pooled", "gpboost", "mixedlm_rs"], time_limit=None)
    assert found.measured == ("pooled",)
    assert "pip install gpboost" in found.notes["gpboost"]
    assert "pip install mixedlm-rs" in found.notes["mixedlm_rs"]


def test_the_help_of_the_command_names_every_rival():
    text = get_type_hints(command, include_extras=True)["rivals"].__metadata__[0].help
    assert all(f" {name}," in text or f" {name}." in text for name in RIVALS)


def test_mixedlm_rs_finds_what_statsmodels_finds():
    pytest.importorskip("mixedlm_rs")
    pytest.importorskip("statsmodels")
    training, test, _ = training_of(small(16, seed=2), PLAN, 0, 0)
    data = training.data
    theirs = fit_mixedlm(data.x, data.y, data.offsets, slopes=True)
    batch = test.draw_buckets(PLAN.n_support, np.random.SeedSequence(0))[0]
    given = batch.support_x, batch.support_y, batch.query_x
    x, query = (
        np.concatenate([training.standard.features(one), np.ones((*one.shape[:2], 1))], axis=2)
        for one in (batch.support_x, batch.query_x)
    )
    y = training.standard.targets(batch.support_y[..., None])[..., 0]
    theta = ridge_adapt(theirs.omega, TaskBatch(x, y, x[:, :1], y[:, :1]), theirs.noise, theirs.covariance)
    expected = training.standard.restore_targets(np.einsum("mnd,md->mn", query, theta)[..., None])[..., 0]
    found = mixedlm_rust.fit(training).model.predict(*given)
    np.testing.assert_allclose(found, expected, atol=0.02 * training.raw.y.std())


def test_gpboost_moves_the_intercept_of_a_training_task_as_it_does_itself():
    gpboost = pytest.importorskip("gpboost")
    training = training_of(small(20, seed=4), PLAN, 0, 0)[0]
    data = training.data
    tasks = np.repeat(np.arange(data.n_tasks), data.counts)
    intercepts = gpboost.GPModel(group_data=tasks, likelihood="gaussian")
    own = gpboost.train(
        {"objective": "regression", "verbose": -1}, gpboost.Dataset(data.x[:, :-1], data.y), 20, gp_model=intercepts
    )
    noise, between = np.asarray(intercepts.get_cov_pars()).ravel()[:2]
    ours = Intercepts(lambda rows: own.predict(rows, ignore_gp_model=True), noise / between)
    for task in range(data.n_tasks):
        rows = data.x[tasks == task, :-1]
        found = own.predict(rows, group_data_pred=np.full(len(rows), task), pred_latent=True)
        theirs = found["fixed_effect"] + found["random_effect_mean"]
        np.testing.assert_allclose(
            ours.adapted(rows[None], data.y[None, tasks == task], rows[None])[0], theirs, atol=1e-6
        )
    assert np.isfinite(
        boosted_intercept.fit(training).model.predict(
            *[one[None] for one in (training.raw.x[:3], training.raw.y[:3], training.raw.x[3:6])]
        )
    ).all()
