"""Rows added to tasks that a model knows: as if all had been there at once, for every rule."""

import numpy as np
import pytest
from made import MODELS, table
from sklearn.base import clone

import undertow as ut

X, Y, G = table(m=12, seed=5)
BOTH = np.c_[Y, 3 - X[:, 0] + 0.01 * Y**2]
WEIGHTS = np.random.default_rng(3).uniform(0.2, 3, len(X))
FIRST = np.arange(len(X)) % 3 > 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.long
def test_rows_added_later_are_as_good_as_rows_that_were_there(name, weighted, tmp_path):
    def weights(rows):
        return WEIGHTS[rows] if weighted else None

    model = (
        clone(MODELS[name])
        .set_params(n_support=2)
        .fit(X[FIRST], BOTH[FIRST], groups=G[FIRST], sample_weight=weights(FIRST))
    )
    ut.estimators.save(model, tmp_path / "m.safetensors")
    model = ut.estimators.load(tmp_path / "m.safetensors")
    more = ~FIRST & (G != 3)
    new = np.arange(4)
    groups = np.concatenate([G[more], np.full(4, 99)])
    x, y = np.concatenate([X[more], X[new]]), np.concatenate([BOTH[more], BOTH[new]])
    w = np.concatenate([WEIGHTS[more], WEIGHTS[new]]) if weighted else None
    after = model.adapt(x, y, w, groups=groups)
    for task in (0, 5, 11):
        of_task = task == G
        expected = model.adapt(X[of_task], BOTH[of_task], weights(of_task)).predict(X[:7])
        np.testing.assert_allclose(after.predict(X[:7], np.full(7, task)), expected, rtol=1e-7, atol=1e-9)
    # A new task is adapted to as alone, a task without new rows stays, and so do the common weights.
    np.testing.assert_allclose(
        after.predict(X[:7], np.full(7, 99)), model.adapt(X[new], BOTH[new], weights(new)).predict(X[:7]), rtol=1e-7
    )
    np.testing.assert_array_equal(after.predict(X[:7], np.full(7, 3)), model.predict(X[:7], np.full(7, 3)))
    np.testing.assert_array_equal(after.predict(X[:7]), model.predict(X[:7]))
    assert model.task_ids_.tolist() == list(range(12))
    assert after.task_ids_.tolist() == [*range(12), 99]


def test_what_is_kept_is_no_row_and_no_more_than_the_columns(tmp_path):
    x = np.repeat(X, 5, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((5 * len(X), X.shape[1]))
    model = ut.MAMLRegressor().fit(x, np.repeat(Y, 5), groups=np.repeat(G, 5))
    kept = model.model_.task_rows
    d = X.shape[1] + 1
    assert kept.counts.max() == d + 1
    rows = model.model_.rows(x, np.repeat(Y, 5)[:, None], None, (np.unique(G), np.repeat(G, 5)))
    z = np.c_[rows.inputs(), rows.y]
    for i in range(12):
        mine, factor = z[rows.offsets[i] : rows.offsets[i + 1]], kept.factor[kept.offsets[i] : kept.offsets[i + 1]]
        np.testing.assert_allclose(factor.T @ factor, mine.T @ mine, rtol=1e-9, atol=1e-9)
        assert np.abs(factor[:, None] - mine).max(axis=2).min() > 1e-3


def test_groups_that_are_almost_known_are_warned_of():
    model = ut.MAMLRegressor().fit(X, Y, groups=[f"shop {i}" for i in G])
    with pytest.warns(UserWarning, match=r"spelled almost as known ones.*'Shop 0' \(known: 'shop 0'\)"):
        found = model.predict(X, groups=[f"Shop {i}" for i in G])
    np.testing.assert_array_equal(found, model.predict(X))
    own = ut.MAMLRegressor().fit(X, Y, groups=G)
    np.testing.assert_array_equal(own.predict(X, groups=[str(i) for i in G]), own.predict(X, groups=G))
