"""Fits to odd tables: finite numbers, the same after saving, or an InputError; nothing foreign, no leaked warning."""

import contextlib
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from faulty import seeds, times
from scipy import sparse

import undertow as ut
from undertow.estimators import load, save

# What is no number, or no weight, is refused in scikit-learn's words.
SCIKIT_LEARN = ("Input X", "Input y", "sample_weight", "Sample weights")


def odd_table(rng):
    """X, y, groups of few or many tasks, with columns that are constant, twice there, huge, tiny or exact."""
    m, p = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    counts = rng.integers(1, 12, m)
    groups = rng.permutation(np.repeat(np.arange(m), counts))
    x = rng.standard_normal((len(groups), p))
    y = x.sum(axis=1) + (groups if rng.random() < 0.5 else 0) + rng.standard_normal(len(groups))
    kind = rng.integers(0, 12)
    if kind == 0:
        x[:, 0] = 3.0
    elif kind == 1:
        x[:, -1] = x[:, 0]
    elif kind == 2:
        x *= 10.0 ** rng.integers(-140, 140, p)
    elif kind == 3:
        y = y * 10.0 ** rng.integers(-140, 140)
    elif kind == 4:
        y = x.sum(axis=1)
    elif kind == 5:
        y[:] = 1.0
    elif kind == 6:
        y = groups.astype(float)
    elif kind == 7:
        x = (x > 0).astype(float)
    elif kind == 8:
        x = x.astype(np.float32)
    elif kind == 9:
        x[rng.integers(len(x)), 0] = [np.nan, np.inf, 1e100, 1e30][rng.integers(4)]
    elif kind == 10:
        x, y = x + 1e9, y + 1e9
    return x, y, groups


def laid_out(x, y, groups, rng):
    """The same rows in another type, order of memory or container; whole numbers are other rows."""
    kind = rng.integers(0, 12)
    if kind == 0:
        x = np.asfortranarray(x)
    elif kind == 1:
        x = np.repeat(x, 2, axis=1)[:, ::2]
    elif kind == 2:
        x = np.nan_to_num(x.clip(-100, 100)).round().astype(rng.choice(["int8", "int32", "uint8"]))
    elif kind == 3:
        x = x.astype(np.longdouble)
    elif kind == 4:
        x = x.astype(object)
    elif kind == 5:
        x = x.tolist()
    elif kind == 6:
        x = pd.DataFrame(x, columns=[f"c{j}" for j in range(x.shape[1])])
    elif kind == 7:
        x = x[::-1][::-1].astype(">f8")
    elif kind == 8:
        y = y.clip(-1e30, 1e30).astype(np.float32)
    elif kind == 9:
        groups = np.array([f"t{one}" for one in groups], dtype=object)
    elif kind == 10:
        groups = groups.astype(float) - 0.5
    return x, y, groups


def odd_weights(n, rng):
    """Weights of rows: none, equal, of many sizes, some 0, all 0, whole numbers, or what cannot be a weight."""
    weights = [
        *[None] * 6, np.full(n, 3.0), 10.0 ** rng.uniform(-8, 8, n), rng.integers(0, 2, n).astype(float),
        np.zeros(n), rng.integers(0, 4, n), rng.random(n).astype(np.float32), np.r_[-1.0, np.ones(n - 1)],
        np.r_[np.nan, np.ones(n - 1)], 10.0 ** rng.uniform(-200, 200, n),
    ]  # fmt: skip
    return weights[rng.integers(len(weights))]


def odd_model(rng, y):
    one = ut.MAMLRegressor
    models = [
        lambda: (one(-0.3, 0.4, n_support=2), y),
        lambda: (one(np.inf, 0.4, steps=1), y),
        lambda: (one(0.3, 50.0, ridge=0.0, steps=3, rate_unit="raw"), y),
        lambda: (one(rule=ut.ProximalRule(0.0)), y),
        lambda: (one(rule=ut.ProximalRule(2.0, train_ratio=1.0), fit_intercept=False), y),
        lambda: (one(rule=ut.MixedRule("full"), n_support=1), y),
        lambda: (one(rule=ut.MixedRule("intercept")), np.c_[y, -y]),
        lambda: (one(rule=ut.MixedRule("diagonal", method="ml"), standardize=False), y),
        lambda: (ut.MAMLClassifier(), np.digitize(y, [-1, 1])),
        lambda: (ut.MAMLRegressorCV(2, 3, n_draws=1, n_rates=9, ridges=(1e-3,)), y),
        lambda: (ut.MAMLRegressorCV(1, 3, n_draws=1, n_rates=9, random_state=np.random.RandomState(1)), y),
        lambda: (ut.MAMLClassifierCV(2, 3, n_draws=1, n_rates=9, ridges=(1e-3,)), np.where(y > 0, "a", "b")),
    ]
    return models[rng.integers(len(models))]()


def outcome(seed, path):
    """How a fit to an odd table ends."""
    rng = np.random.default_rng(seed)
    x, y, groups = odd_table(rng)
    x, y, groups = laid_out(x, y, groups, rng)
    model, y = odd_model(rng, y)
    weights = odd_weights(len(groups), rng)
    if rng.random() < 0.3:
        model.set_params(row_weights="precision")
    try:
        model.fit(x, y, sample_weight=weights, groups=groups)
        found = [model.predict(x), model.predict(x, groups=groups), model.adapt(x[:2], y[:2]).predict(x)]
        found.append(model.adapt(x, y, groups=groups).predict(x, groups=groups))
        model.score(x, y, groups=groups)
        # Of several targets, classes or without errors on held-out tasks there is no summary, or no interval.
        with contextlib.suppress(ut.InputError):
            found += model.predict(x, groups, interval=0.9)
        with contextlib.suppress(ut.InputError):
            str(model.summary() if hasattr(model, "summary") else "")
        save(model, path)
        np.testing.assert_array_equal(load(path).predict(x), found[0])
        if all(np.isfinite(one).all() for one in found if one.dtype.kind == "f"):
            return "fitted"
        return f"seed {seed}: not finite"
    except ut.InputError:
        return "refused"
    except Exception as error:
        if type(error) is ValueError and any(one in str(error) for one in SCIKIT_LEARN):
            return "refused"
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename[-40:]}:{place.lineno}, seed {seed}"
        return f"{type(error).__name__}: {str(error)[:90]} at {where}"


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("n", [25, pytest.param(times(300), marks=pytest.mark.long)])
def test_odd_tables_give_finite_numbers_or_a_reason(n, tmp_path, counted):
    found = Counter()
    for seed in seeds(n):
        with warnings.catch_warnings():
            # Ours say what was done; of NumPy, SciPy and scikit-learn none may be seen.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            begun = time.monotonic()
            what = outcome(seed, tmp_path / "m")
            found[what if time.monotonic() - begun < 60 else f"seed {seed}: {what} after more than 60 s"] += 1
    assert not found.keys() - {"fitted", "refused"}, "\n".join(found)
    assert found["fitted"] > 0.4 * n
    counted("fits to odd tables", **found)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_curves_are_tried_where_weights_lie_far_apart(tmp_path):
    assert outcome(21000540, tmp_path / "m") == "fitted"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_numbers_stay_finite_where_weights_or_units_lie_far_apart(tmp_path):
    """Two rows of which one has all the weight, in float32; and columns of 1e-116 and 1e122."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert outcome(33002203, tmp_path / "m") == "refused"
        assert outcome(33002556, tmp_path / "m") == "fitted"


def test_sparse_rows_are_refused_wherever_they_are_given():
    rng = np.random.default_rng(0)
    x, groups = rng.standard_normal((40, 2)), np.repeat(np.arange(8), 5)
    model = ut.MAMLRegressor(n_support=2).fit(x, x[:, 0], groups=groups)
    rows = sparse.csr_matrix(x)
    for call in (
        lambda: ut.MAMLRegressor().fit(rows, x[:, 0], groups=groups),
        lambda: model.predict(rows),
        lambda: model.adapt(rows[:3], x[:3, 0]),
    ):
        with pytest.raises((ut.InputError, TypeError), match=r"[Ss]parse"):
            call()
