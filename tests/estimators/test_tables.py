"""An estimator on a grouped table is the estimator on its rows in their original order, bit for bit."""

import numpy as np
import pytest
from sklearn.base import clone

import undertow as ut
from undertow._check import InputError
from undertow.estimators import fit_table
from undertow.tasks import GroupedTable
from undertow.tasks.rows import TaskRows


@pytest.fixture(scope="module")
def rows():
    """Rows of tasks that are interleaved."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([f"shop {i:02d}" for i in range(12)], np.arange(7, 19)))
    x = rng.standard_normal((len(groups), 3)) * [1, 30, 0.1]
    return x, x @ [1, 0.02, 5] + rng.standard_normal(len(groups)), groups


@pytest.mark.parametrize(
    "estimator",
    [
        ut.MAMLRegressor(0.1, 0.2),
        ut.MAMLRegressorCV(5, 3, n_draws=2, n_rates=9),
        ut.MAMLClassifier(adapt_rate=0.3),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_result_is_that_of_fit_on_the_original_order(estimator, rows):
    x, y, groups = rows
    y = (y > 0).astype(float) if isinstance(estimator, ut.MAMLClassifier) else y
    table = GroupedTable.from_arrays(x, y, groups, feature_names=("a", "b", "c"))
    assert not np.array_equal(table.rows, np.arange(len(y)))
    ours, theirs = fit_table(clone(estimator), table), clone(estimator).fit(x, y, groups=groups)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    np.testing.assert_array_equal(ours.intercept_, theirs.intercept_)
    np.testing.assert_array_equal(ours.model_.task_omega, theirs.model_.task_omega)
    np.testing.assert_array_equal(ours.task_ids_, theirs.task_ids_)
    assert ours.feature_names_in_.tolist() == ["a", "b", "c"]
    assert ours.n_features_in_ == 3
    if isinstance(estimator, ut.MAMLRegressorCV):
        assert ours.choice_.to_dict() == theirs.choice_.to_dict()


def test_more_columns_than_rows_are_searched_alike():
    rng = np.random.default_rng(1)
    groups = rng.permutation(np.repeat(np.arange(8), 8))
    x = rng.standard_normal((64, 80))
    y = x[:, 0] + rng.standard_normal(64)
    estimator = ut.MAMLRegressorCV(4, 3, n_draws=1, n_rates=9, rules="gradient")
    ours, theirs = fit_table(clone(estimator), GroupedTable.from_arrays(x, y, groups)), clone(estimator)
    theirs.fit(x, y, groups=groups)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


def test_the_rows_of_a_table_are_those_that_the_model_makes_of_arrays(rows):
    x, y, groups = rows
    table = GroupedTable.from_arrays(x, y, groups)
    model = ut.MAMLRegressor().fit(x, y, groups=groups).model_
    ids, codes = np.unique(groups, return_inverse=True)
    ours, theirs = TaskRows.of_table(table, model.standard), model.rows(x, y[:, None], None, (ids, codes))
    np.testing.assert_array_equal(ours.inputs(), theirs.inputs())
    np.testing.assert_array_equal(ours.y, theirs.y)
    seed = np.random.SeedSequence(3)
    for one, other in zip(ours.split(4, seed), theirs.split(4, seed), strict=True):
        np.testing.assert_array_equal(ours.rows[one], theirs.rows[other])


def test_another_kind_of_table_is_refused():
    with pytest.raises(InputError) as error:
        fit_table(ut.MAMLRegressor(), np.zeros((3, 2)))
    assert error.value.argument == "table"
