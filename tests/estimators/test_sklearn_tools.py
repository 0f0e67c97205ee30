"""Inside scikit-learn's tools, with metadata routing on and off."""

import numpy as np
import pytest
import sklearn
from made import cv, table
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import undertow as ut
from undertow.estimators import MissingGroupsWarning

X, Y, G = table(m=18)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def by_hand(model, split):
    scores = []
    for train, test in split:
        fitted = clone(model).fit(X[train], Y[train], groups=G[train])
        scores.append(fitted.score(X[test], Y[test], groups=G[test]))
    return np.array(scores)


@pytest.mark.usefixtures("routing")
def test_groups_reach_fit_and_score_with_routing():
    model = ut.MAMLRegressor(-0.2, 0.3)
    split = list(GroupKFold(3).split(X, Y, G))
    found = cross_validate(model, X, Y, cv=GroupKFold(3), params={"groups": G})["test_score"]
    np.testing.assert_allclose(found, by_hand(model, split))


@pytest.mark.usefixtures("routing")
def test_grid_search_over_rates_with_routing():
    grid = {"train_rate": [-0.3, 0.0, 0.3], "adapt_rate": [0.0, 0.3]}
    search = GridSearchCV(ut.MAMLRegressor(), grid, cv=GroupKFold(3)).fit(X, Y, groups=G)
    assert search.best_params_["adapt_rate"] == 0.3
    split = list(GroupKFold(3).split(X, Y, G))
    assert search.best_score_ == pytest.approx(by_hand(ut.MAMLRegressor(**search.best_params_), split).mean())
    np.testing.assert_array_equal(
        search.best_estimator_.coef_, ut.MAMLRegressor(**search.best_params_).fit(X, Y, groups=G).coef_
    )


@pytest.mark.usefixtures("routing")
def test_pipelines_pass_groups_on_with_routing():
    pipe = make_pipeline(StandardScaler(), ut.MAMLRegressor(-0.2, 0.3)).fit(X, Y, groups=G)
    plain = ut.MAMLRegressor(-0.2, 0.3).fit(StandardScaler().fit_transform(X), Y, groups=G)
    np.testing.assert_array_equal(pipe[-1].coef_, plain.coef_)
    assert pipe.score(X, Y, groups=G) == pytest.approx(plain.score(StandardScaler().fit_transform(X), Y, groups=G))
    weighted = ut.MAMLRegressor().set_fit_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    found = make_pipeline(scaler, weighted).fit(X, Y, groups=G, sample_weight=weights)
    direct = ut.MAMLRegressor().fit(StandardScaler().fit_transform(X), Y, groups=G, sample_weight=weights)
    np.testing.assert_array_equal(found[-1].coef_, direct.coef_)


@pytest.mark.usefixtures("routing")
def test_requests_can_be_changed():
    model = ut.MAMLRegressor().set_fit_request(groups=False).set_score_request(groups=False)
    with pytest.warns(MissingGroupsWarning):
        cross_val_score(model, X, Y, cv=GroupKFold(3), params={"groups": G})


def test_without_routing_groups_are_taken_directly_and_tools_warn():
    pipe = make_pipeline(StandardScaler(), ut.MAMLRegressor(-0.2, 0.3)).fit(X, Y, mamlregressor__groups=G)
    assert pipe[-1].n_tasks_ == 18
    with (
        pytest.warns(MissingGroupsWarning, match="all rows are taken for one task"),
        pytest.warns(MissingGroupsWarning, match="nothing is adapted"),
    ):
        cross_val_score(ut.MAMLRegressor(), X, Y, groups=G, cv=GroupKFold(3))
    model = ut.MAMLRegressor(-0.2, 0.3).fit(X, Y, groups=G)
    assert model.score(X, Y, groups=G) == model.score(X, Y, None, groups=G)


@pytest.mark.parametrize(
    "model",
    [
        ut.MAMLRegressor(0.3, clip=None),
        ut.MAMLRegressor(rule=ut.MixedRule("full")),
        cv(rules="proximal"),
        ut.MAMLClassifier(rule=ut.ProximalRule(2.0)),
        ut.MAMLClassifierCV(),
    ],
)
def test_clones_and_parameters(model):
    other = clone(model)
    assert repr(other.get_params()) == repr(model.get_params())
    assert repr(other) == repr(model)
    assert not hasattr(other, "coef_")
    other.set_params(n_support=7)
    assert model.n_support == 5
