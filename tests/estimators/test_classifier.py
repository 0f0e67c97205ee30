"""The classifiers: the regressors on targets of -1 and 1."""

import numpy as np
import pytest
from made import table

import undertow as ut

X, Y, G = table(m=40, seed=4, task_std=2.0, low=12, high=20)
TWO = np.where(np.median(Y) < Y, "yes", "no")
THREE = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))


def signs(labels):
    classes = np.unique(labels)
    if len(classes) == 2:
        return np.where(labels == classes[1], 1.0, -1.0)[:, None]
    return np.where(labels[:, None] == classes, 1.0, -1.0)


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_decisions_are_those_of_the_regressor_on_signs(labels):
    model = ut.MAMLClassifier(-0.3, 0.4).fit(X, labels, groups=G)
    columns = signs(labels)
    regression = ut.MAMLRegressor(-0.3, 0.4).fit(X, columns, groups=G)
    np.testing.assert_allclose(model.decision_function(X).reshape(len(X), -1), regression.predict(X), rtol=1e-8)
    np.testing.assert_allclose(model.coef_, regression.coef_, rtol=1e-7)
    adapted = model.adapt(X[:6], labels[:6]).decision_function(X).reshape(len(X), -1)
    np.testing.assert_allclose(adapted, regression.adapt(X[:6], columns[:6]).predict(X), rtol=1e-8)
    decided = regression.predict(X)
    best = (decided[:, 0] > 0).astype(int) if len(model.classes_) == 2 else decided.argmax(1)
    np.testing.assert_array_equal(model.predict(X), model.classes_[best])


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_adaptation_and_search_beat_a_common_classifier(labels):
    common = ut.MAMLClassifier(0.0, 0.0).fit(X, labels, groups=G)
    chosen = ut.MAMLClassifierCV(n_draws=2, n_rates=21).fit(X, labels, groups=G)
    new_x, new_y, new_g = table(m=60, seed=5, task_std=2.0, low=12, high=20)
    cuts = np.median(Y) if labels is TWO else np.quantile(Y, [0.3, 0.6])
    new = np.where(cuts < new_y, "yes", "no") if labels is TWO else np.digitize(new_y, cuts)
    assert chosen.score(new_x, new, groups=new_g) > common.score(new_x, new, groups=new_g) + 0.02
    assert chosen.choice_.strategy == chosen.strategy_


def test_labels_that_were_not_there_in_training_are_refused():
    model = ut.MAMLClassifier().fit(X, TWO, groups=G)
    with pytest.raises(ut.InputError, match="'maybe', which was no class"):
        model.adapt(X[:2], ["yes", "maybe"])
    with pytest.raises(ut.InputError, match="one class only"):
        ut.MAMLClassifier().fit(X, np.full(len(X), "yes"), groups=G)
    only_yes = model.adapt(X[:3], ["yes", "yes", "yes"])
    assert (only_yes.decision_function(X[:3]) > model.decision_function(X[:3])).all()
