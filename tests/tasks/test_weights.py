"""A column of row weights: what it does to a table, and that estimators get it."""

import numpy as np
import pandas as pd
import pytest

import undertow as ut
from undertow.tasks import read_table

pytestmark = pytest.mark.filterwarnings("ignore::undertow.tasks.reading.TableNote")


def frame(seed=0, tasks=12):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(tasks), 9)
    x, n = rng.normal(size=len(g)), rng.integers(1, 5, len(g))
    y = 2 * x + rng.normal(size=tasks)[g] + rng.normal(size=len(g)) / np.sqrt(n)
    return pd.DataFrame({"g": g, "x": x, "n": n, "y": y}).sample(frac=1, random_state=1)


def test_the_column_of_weights_is_no_feature_and_rows_of_weight_0_are_gone():
    rows = frame().reset_index(drop=True)
    rows.loc[[3, 7], "n"] = 0
    table = read_table(rows, "g", "y", weights="n")
    assert table.feature_names == ("x",)
    assert table.n_rows == len(rows) - 2
    np.testing.assert_array_equal(table.weights, rows["n"].to_numpy()[table.rows])
    assert f"copies of rows, {rows['n'].sum()} in all; 2 rows of weight 0 left out" in table.notes[-1]
    assert "precisions" in read_table(rows, "g", "y", weights="n", weights_are="precision").notes[-1]
    part = table.select([2, 5])
    np.testing.assert_array_equal(part.weights, rows["n"].to_numpy()[part.rows])
    with pytest.raises(ut.InputError, match="no place for the weights"):
        table.draw(3)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"n": -1.0}, {}, "cannot be negative"),
        ({"n": 0.0}, {}, "all weights are 0"),
        ({"n": None}, {}, "weights 'n' is missing"),
        ({}, {"weights": "m"}, "no such column"),
        ({}, {"weights": None, "weights_are": "precision"}, "there are no weights"),
        ({}, {"weights_are": "copies"}, "choose one of"),
        ({}, {"features": ["x", "n"]}, "which is the column of weights"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(change, options, said):
    with pytest.raises(ut.InputError, match=said):
        read_table(frame().assign(**change), "g", "y", **{"weights": "n"} | options)


@pytest.mark.parametrize("kind", ["frequency", "precision"])
def test_a_weighted_table_is_fitted_as_its_rows_with_sample_weight(kind):
    rows = frame()
    table = read_table(rows, "g", "y", weights="n", weights_are=kind)
    estimator = ut.MAMLRegressorCV(3, 3, n_draws=2, n_rates=21, row_weights=kind, random_state=0)
    ours = ut.estimators.fit_table(estimator, table)
    theirs = ut.MAMLRegressorCV(3, 3, n_draws=2, n_rates=21, row_weights=kind, random_state=0)
    theirs.fit(rows[["x"]], rows["y"], groups=rows["g"], sample_weight=rows["n"])
    assert ours.choice_ == theirs.choice_
    assert ours.weight_unit_ == theirs.weight_unit_
    assert (ours.coef_ == theirs.coef_).all()
    other = {"frequency": "precision", "precision": "frequency"}[kind]
    with pytest.raises(ut.InputError, match="of the kind"):
        ut.estimators.fit_table(ut.MAMLRegressorCV(3, row_weights=other), table)


def test_copies_are_repeated_rows():
    rows = frame()
    weighted = read_table(rows, "g", "y", weights="n")
    repeated = read_table(rows.loc[rows.index.repeat(rows["n"])].drop(columns="n"), "g", "y")
    rule = ut.MixedRule("intercept")
    one, other = (ut.estimators.fit_table(ut.MAMLRegressor(rule=rule), table) for table in (weighted, repeated))
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-6)
    np.testing.assert_allclose(one.task_intercept_, other.task_intercept_, rtol=1e-6)
    np.testing.assert_allclose(weighted.standardized()[1].spread, repeated.standardized()[1].spread, rtol=1e-12)


def test_copies_are_named_and_rows_that_are_alike_by_chance_are_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)

    def notes(x, y, twice):
        frame = {"g": groups, "x": x, "y": y}
        frame = {name: np.concatenate([column, column[:twice]]) for name, column in frame.items()}
        return [note for note in read_table(pd.DataFrame(frame), "g", "y").notes if "repeat" in note]

    measured, scores = rng.standard_normal(200).round(2), rng.integers(0, 4, 200)
    (note,) = notes(measured, rng.standard_normal(200).round(2), 30)
    assert note.startswith("30 of 230 rows")
    assert "rows 200, 201" in note
    for x, y, twice in ((measured, measured**2, 0), (scores, rng.poisson(1, 200), 200), (scores, scores, 0)):
        assert not notes(x, y, twice)


def test_copies_are_named_of_a_target_of_two_values_too():
    rng = np.random.default_rng(1)
    m, n = 30, 12
    groups = np.repeat(np.arange(m), n)
    coin = rng.integers(0, 2, m * n)

    def notes(columns, y, copied=()):
        rows = np.concatenate([np.arange(len(y)), np.asarray(copied, dtype=int)])
        frame = pd.DataFrame({f"x{i}": column for i, column in enumerate(columns)} | {"g": groups, "y": y}).iloc[rows]
        return [note for note in read_table(frame, "g", "y").notes if "repeat" in note]

    some = np.arange(0, m * n, 6)
    measured = rng.standard_normal((2, m * n)).round(4)
    of_task = rng.standard_normal(m).round(2)[groups]
    for columns in (measured, measured[:1], [measured[0], of_task], [measured[0], coin]):
        assert len(notes(columns, coin, some)) == 1
        assert not notes(columns, coin)
    # Nothing is a copy: features of few values; those that go together; and doses, measured three times each.
    codes = rng.integers(0, 4, (3, m * n))
    place = rng.integers(0, 30, m * n)
    nested = [place, place // 3, place // 6, place // 15]
    doses = [np.repeat(rng.standard_normal(m * 4), 3).round(2) for _ in range(3)]
    for columns in (codes, nested, doses, [rng.integers(0, 6, m * n)]):
        assert not notes(columns, coin)
    assert not notes(codes[:1], (codes[0] > 1).astype(int))
