"""Probabilities of classes: the curve is that of greatest likelihood, and new tasks bear the probabilities out."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

import undertow as ut
from undertow.choice.probability import curve, probabilities, two_valued


def patients(m, n=20, seed=0):
    """Yes or no with a probability that depends on x and on the task."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(m), n)
    x = rng.standard_normal((m * n, 2))
    own = 1.2 * rng.standard_normal(m)
    p = expit(-1.0 + own[groups] + x @ [1.0, -0.5])
    return x, np.where(rng.random(m * n) < p, "yes", "no"), groups


def test_the_curve_is_that_of_greatest_likelihood():
    rng = np.random.default_rng(1)
    values, weights = rng.standard_normal(400), rng.uniform(0.2, 2, 400)
    larger = rng.random(400) < expit(0.7 - 1.5 * values)
    a, b = curve(values, larger, weights)
    # Their penalty is on the sum, ours on the mean.
    theirs = LogisticRegression(C=1e4 / weights.sum(), tol=1e-10).fit(values[:, None], larger, sample_weight=weights)
    assert (a, b) == pytest.approx((theirs.intercept_[0], theirs.coef_[0, 0]), rel=1e-4)
    # Parted without an error: steep, but finite.
    assert np.isfinite(curve(values, values > 0, weights)).all()


def test_the_curve_moves_from_that_without_rows_to_that_with_them():
    curves = np.array([[[-1.0, 0.5], [2.0, 3.0]]])
    values = np.full((4, 1), 0.7)
    found = probabilities(curves, values, np.array([0, 0.5, 1, 4]))
    np.testing.assert_allclose(found[:, 0], expit([-1 + 0.5 * 0.7, 0.5 + 1.75 * 0.7, 2 + 3 * 0.7, 2 + 3 * 0.7]))


def test_targets_of_two_values_are_told():
    assert two_valued(np.array([[0.0, 2], [1, 3], [0, 3]]))
    assert not two_valued(np.array([[0.0, 2], [1, 3], [0, 4]]))
    assert not two_valued(np.array([[0.0, 2], [0, 3]]))


@pytest.fixture(scope="module")
def model():
    x, y, groups = patients(120)
    return ut.MAMLClassifierCV(5).fit(x, y, groups=groups)


@pytest.mark.parametrize("rows", [0, 5])
def test_new_tasks_bear_the_probabilities_out(model, rows):
    x, y, groups = patients(600, seed=2)
    p, truth, task = [], [], []
    for one in range(600):
        own = np.flatnonzero(groups == one)
        adapted = model.adapt(x[own[:rows]], y[own[:rows]]) if rows else model
        p.append(adapted.predict_proba(x[own[5:]])[:, 1])
        truth.append(y[own[5:]] == "yes")
        task.append(one)
    p, truth = np.array(p), np.array(truth)
    # In the large and at every height of the probability, with tasks as the units. The curve is an estimate too, from
    # 120 tasks: their own error comes on top.
    for low, high in ((0, 1), (0, 0.2), (0.2, 0.5), (0.5, 1)):
        inside = (p >= low) & (p <= high)
        gap = ((truth - p) * inside).sum(axis=1)
        error = np.sqrt((gap**2).sum() * (1 + 600 / 120)) / inside.sum()
        assert abs(gap.sum() / inside.sum()) < 4 * error
    log_loss = -np.mean(np.log(np.where(truth, p, 1 - p)))
    share = truth.mean()
    assert log_loss < -(share * np.log(share) + (1 - share) * np.log(1 - share))


def test_rows_of_a_task_make_probabilities_bolder_and_known_tasks_are_known(model):
    x, y, groups = patients(120)
    alone, own = model.predict_proba(x), model.predict_proba(x, groups=groups)
    assert own[:, 1].std() > alone[:, 1].std()
    np.testing.assert_allclose(own.sum(axis=1), 1)
    task = groups == 7
    again = model.adapt(x[task], y[task]).predict_proba(x[task])
    np.testing.assert_allclose(again, own[task], rtol=1e-6)


@pytest.mark.long
def test_probabilities_are_kept_in_a_file_and_are_there_for_several_classes(model, tmp_path):
    x, _, groups = patients(120)
    ut.estimators.save(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        ut.estimators.load(tmp_path / "m.safetensors").predict_proba(x), model.predict_proba(x)
    )
    labels = np.digitize(x[:, 0] + 0.5 * np.random.default_rng(3).standard_normal(len(x)), [-0.5, 0.5])
    several = ut.MAMLClassifierCV(5, n_draws=1).fit(x, labels, groups=groups)
    p = several.predict_proba(x)
    assert p.shape == (len(x), 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    share = np.bincount(labels) / len(labels)
    assert -np.log(p[np.arange(len(x)), labels]).mean() < 0.9 * -(share @ np.log(share))


def test_without_a_search_there_are_none():
    x, y, groups = patients(20)
    assert not hasattr(ut.MAMLClassifier().fit(x, y, groups=groups), "predict_proba")
    assert not hasattr(ut.MAMLRegressorCV(n_draws=1).fit(x, y == "yes", groups=groups), "predict_proba")
