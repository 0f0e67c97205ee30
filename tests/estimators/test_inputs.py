"""Input of many kinds, precision, and messages for what cannot be used."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from made import cv, table, task_rows

import undertow as ut
from undertow.estimators import MissingGroupsWarning
from undertow.tasks.standard import Standard

X, Y, G = table()
NAMES = ["a", "b", "c"]
TEXT = np.array([f"school {g}" for g in G])


class Foreign:
    """Only what DLPack asks for."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def frames():
    columns = {name: X[:, j] for j, name in enumerate(NAMES)}
    yield "pandas", pd.DataFrame(columns), pd.Series(Y), pd.Series(TEXT)
    yield "pandas categories", pd.DataFrame(columns), pd.Series(Y), pd.Series(TEXT).astype("category")
    yield "polars", pl.DataFrame(columns), pl.Series(Y), pl.Series(TEXT)
    yield "arrow", pa.table(columns), pa.array(Y), pa.array(TEXT.tolist())
    yield "dlpack", Foreign(X), Y, Foreign(G)
    yield "lists", X.tolist(), Y.tolist(), TEXT.tolist()


@pytest.mark.parametrize(("name", "x", "y", "groups"), list(frames()), ids=[f[0] for f in frames()])
def test_every_kind_of_table_gives_the_same_fit(name, x, y, groups):
    reference = ut.MAMLRegressor(-0.3, 0.2).fit(X, Y, groups=G)
    model = ut.MAMLRegressor(-0.3, 0.2).fit(x, y, groups=groups)
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-10)
    assert model.score(x, y, groups=groups) == pytest.approx(reference.score(X, Y, groups=G), rel=1e-10)
    np.testing.assert_allclose(model.predict(x, groups=groups), reference.predict(X, groups=G), rtol=1e-9)
    if name in ("pandas", "polars", "arrow"):
        assert list(model.feature_names_in_) == NAMES


def test_float32_stays_float32_and_close_to_float64():
    wide = cv(n_rates=11, cv=3).fit(X, Y, groups=G)
    for model in (
        ut.MAMLRegressor(-0.3, 0.2),
        ut.MAMLRegressor(rule=ut.ProximalRule(1.0)),
        ut.MAMLRegressor(rule=ut.MixedRule()),
        cv(n_rates=11, cv=3),
    ):
        narrow = model.fit(X.astype(np.float32), Y.astype(np.float32), groups=G)
        assert narrow.coef_.dtype == np.float32
        assert narrow.predict(X.astype(np.float32)).dtype == np.float32
        assert narrow.adapt(X[:4].astype(np.float32), Y[:4]).coef_.dtype == np.float32
        assert narrow.predict(X.astype(np.float32), groups=G).dtype == np.float32
    assert narrow.choice_.candidates["signed"].mse == pytest.approx(wide.choice_.candidates["signed"].mse, rel=1e-4)


def test_rows_are_fetched_in_parts_and_never_copied_to_float64_as_a_whole():
    import tracemalloc

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40_000, 96), dtype=np.float32)
    y = x[:, 0] + rng.standard_normal(40_000, dtype=np.float32)
    groups = np.arange(40_000) // 16
    model = ut.MAMLRegressorCV(rules="gradient", n_draws=1, n_rates=11, ridges=[1e-3])
    tracemalloc.start()
    model.fit(x, y, groups=groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Blocks of moments (2 x 97)^2 x 100 x 8 bytes are 30 MB, with copies; x is 15 MB, and would be 31 MB in float64.
    moments = 100 * (2 * 97) ** 2 * 8
    assert peak < 2.5 * moments + x.nbytes


def test_more_features_than_rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((72, 100))
    groups = np.repeat(np.arange(9), 8)
    y = x[:, 0] + 0.1 * rng.standard_normal(72)
    model = ut.MAMLRegressor(-0.2, 0.1, ridge=0.0, n_draws=1).fit(x, y, groups=groups)
    rows = task_rows(x, y, groups)
    batches = [
        b._replace(support_y=b.support_y[..., 0], query_y=b.query_y[..., 0])
        for b, _, _ in rows.draw(5, np.random.SeedSequence(0, spawn_key=(0,)))
    ]
    path = ut.rate_path(batches, -0.2, rate_unit="spectral")
    assert path.outcome[0] == "minimum_norm"
    np.testing.assert_allclose(model.model_.omega[0], path.weights[0], rtol=1e-7, atol=1e-10)
    found = ut.MAMLRegressorCV(cv=3, rules=("gradient", "proximal"), n_rates=11, n_draws=1).fit(x, y, groups=groups)
    assert np.isfinite(found.coef_).all()


def test_standard_numbers_are_those_of_numpy_with_and_without_weights():
    rng = np.random.default_rng(0)
    x = 1e6 + rng.standard_normal((20_000, 3)) * [1, 5, 0]
    y = rng.standard_normal((20_000, 2))
    w = rng.integers(0, 3, 20_000).astype(float)
    x[w == 0, 2] = 7.0
    for weights in (None, w):
        repeated = slice(None) if weights is None else np.repeat(np.arange(20_000), w.astype(int))
        found = Standard.fit(x, y, weights, features=True, targets=True, intercept=True, clip=None)
        np.testing.assert_allclose(found.centre, x[repeated].mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.spread[:2], x[repeated].std(0)[:2], rtol=1e-9)
        assert found.spread[2] == 1 or weights is None
        np.testing.assert_allclose(found.target_spread, y[repeated].std(0), rtol=1e-12)
    plain = Standard.fit(x, y, None, features=True, targets=True, intercept=False, clip=None)
    np.testing.assert_allclose(plain.spread[:2], np.sqrt((x**2).mean(0))[:2], rtol=1e-12)
    assert (plain.centre == 0).all()


def test_groups_that_cannot_be_used():
    model = ut.MAMLRegressor()
    with pytest.raises(ut.InputError, match=r"groups has shape \(3,\): it must hold the task of each of the"):
        model.fit(X, Y, groups=[1, 2, 3])
    with pytest.raises(ut.InputError, match=r"groups is missing in 1 of \d+ rows \(the first is row 2\)"):
        model.fit(X, Y, groups=[None if i == 2 else "a" for i in range(len(X))])
    with pytest.raises(ut.InputError, match="groups is missing"):
        model.fit(X, Y, groups=np.where(np.arange(len(X)) == 2, np.nan, G))
    with pytest.raises(ut.InputError, match="mixes kinds of ids"):
        model.fit(X, Y, groups=pd.Series([1, "a"] * len(X), dtype=object)[: len(X)])
    dates = np.datetime64("2020-01-01") + G
    np.testing.assert_array_equal(model.fit(X, Y, groups=dates).coef_, model.fit(X, Y, groups=G[:, None]).coef_)


def test_missing_groups_warn_and_name_the_way_out():
    with pytest.warns(
        MissingGroupsWarning, match=r"MAMLRegressor.fit was called without groups.*enable_metadata_routing"
    ):
        model = ut.MAMLRegressor().fit(X, Y)
    with pytest.warns(MissingGroupsWarning, match="nothing is adapted"):
        model.score(X, Y)


def test_other_columns_and_targets_are_refused():
    model = ut.MAMLRegressor().fit(pd.DataFrame(X, columns=NAMES), Y, groups=G)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pd.DataFrame(X, columns=["a", "b", "z"]))
    with pytest.raises(ValueError, match="expecting 3 features"):
        ut.MAMLRegressor().fit(X, Y, groups=G).adapt(X[:3, :2], Y[:3])
    with pytest.raises(ut.InputError, match="y has 2 targets: the estimator was fitted to 1"):
        ut.MAMLRegressor().fit(X, Y, groups=G).adapt(X[:3], np.c_[Y, Y][:3])
    with pytest.raises(ValueError, match="zero"):
        ut.MAMLRegressor().fit(X, Y, groups=G, sample_weight=np.zeros(len(X)))


@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"sex": ["f", "m"] * (len(X) // 2)}, "'sex' of X holds text ('f', 'm')"),
        ({"age": [None, 3.5] * (len(X) // 2)}, "'age' in "),
    ],
)
def test_a_column_of_a_frame_that_cannot_be_used_is_named(made, column, words):
    n = len(next(iter(column.values())))
    frame = made({"a": X[:n, 0], **column})
    usable = made({"a": X[:n, 0], next(iter(column)): X[:n, 1]})
    model = ut.MAMLRegressor(n_support=2).fit(usable, Y[:n], groups=G[:n])
    for call in (
        lambda: ut.MAMLRegressor(n_support=2).fit(frame, Y[:n], groups=G[:n]),
        lambda: model.predict(frame),
        lambda: model.adapt(frame, Y[:n]),
    ):
        with pytest.raises(ut.InputError) as error:
            call()
        assert words in str(error.value)
        assert "read_table" in error.value.way_out


def test_missing_values_are_named_in_frames_of_pandas_own_kinds_and_names():
    gap = [None, *X[1:, 1]]
    for frame, words in (
        (pd.DataFrame({"a": X[:, 0], "b": pd.array(gap, dtype="Float64")}), "'b' in 1 row"),
        (pd.DataFrame(np.column_stack([X[:, 0], np.array(gap, dtype=float)])), "1 in 1 row"),
    ):
        with pytest.raises(ut.InputError) as error:
            ut.MAMLRegressor(n_support=2).fit(frame, Y, groups=G)
        assert words in str(error.value)
