"""Bad input to the rate path: each message names the value, the rule and the way out."""

import numpy as np
import pytest

import undertow as ut

SIZES = {"tall": (8, 20, 12, 5), "wide": (30, 4, 40, 3)}


def sample(p, m, n_t, n_v, seed=3):
    return ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p)).sample(
        ut.Design(m, n_t, n_v), seed
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_rates": [0.1, np.nan]}, "train_rates=nan"),
        ({"train_rates": []}, "train_rates is empty"),
        ({"train_rates": [[0.1]]}, "flat sequence"),
        ({"train_rates": "fast"}, "must be a number"),
        ({"ridge": -1.0}, "ridge=-1.0: .* at least 0"),
        ({"init": np.zeros(3)}, r"init has shape \(3,\): with 8 features"),
        ({"init": np.full(8, np.nan)}, r"init\[0\] is nan"),
        ({"steps": 0}, "steps=0: it must be a whole number of at least 1"),
        pytest.param({"steps": 1.5}, "steps=1.5", marks=pytest.mark.wrong_type),
        ({"rate_unit": "hertz"}, "rate_unit='hertz': choose one of 'raw', 'spectral'"),
        ({"weighting": "cows"}, "weighting='cows'"),
        ({"solver": "magic"}, "solver='magic'"),
        ({"steps": 9, "solver": "gram"}, "steps=9: .* up to 8 steps"),
        ({"ridge": []}, r"ridge=\[\]"),
        ({"ridge": np.nan}, "ridge is nan|ridge.*nan"),
        ({"init": "abc"}, "init='abc'"),
        ({"train_rates": [True]}, "must be a number"),
        ({"train_rates": ["0.5"]}, "must be a number"),
        ({"train_rates": 1 << 2000}, "must be a number"),
    ],
)
def test_bad_arguments_are_named(change, words):
    with pytest.raises(ut.InputError, match=words):
        ut.rate_path(sample(*SIZES["tall"]), **{"train_rates": [0.0], **change})


@pytest.mark.parametrize("solver", ["gram", "rows", "dual", "auto"])
@pytest.mark.parametrize("field", ["support_x", "support_y", "query_x", "query_y"])
def test_a_missing_value_is_found(field, solver):
    tasks = sample(*SIZES["wide" if solver == "dual" else "tall"])
    bad = getattr(tasks, field).copy()
    bad[2, 1] = np.nan
    with pytest.raises(ut.InputError, match=rf"{field}\[2, 1(, 0)?\] is nan"):
        ut.rate_path(tasks._replace(**{field: bad}), [0.1], solver=solver)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_overflow_is_explained():
    tasks = sample(*SIZES["tall"])
    with pytest.raises(ut.InputError, match="too large"):
        ut.rate_path(tasks._replace(query_x=tasks.query_x * 1e200), [0.1], solver="gram")


@pytest.mark.wrong_type
def test_shapes_that_do_not_fit():
    tasks = sample(*SIZES["tall"])
    with pytest.raises(ut.InputError, match=r"query_y has shape"):
        ut.rate_path(tasks._replace(query_y=tasks.query_y[:, 1:]))
    with pytest.raises(ut.InputError, match=r"query_x has shape"):
        ut.rate_path(tasks._replace(query_x=tasks.query_x[..., 1:]))
    for nothing in ([], None, 3, [None]):
        with pytest.raises(ut.InputError, match=r"must be a TaskBatch"):
            ut.rate_path(nothing)
    with pytest.raises(ut.InputError, match="at least one feature"):
        ut.rate_path(tasks._replace(support_x=tasks.support_x[..., :0], query_x=tasks.query_x[..., :0]))
    with pytest.raises(ut.InputError, match="dtype <U"):
        ut.rate_path(tasks._replace(query_y=np.full(tasks.query_y.shape, "a")))
    with pytest.raises(ut.InputError, match="index=99"):
        ut.rate_path(tasks, [0.1]).explain(99)
    with pytest.raises(ut.InputError, match=r"features"):
        ut.rate_path([tasks, sample(5, 2, 4, 4)])
    mask = np.ones(tasks.query_y.shape, bool)
    mask[1] = False
    with pytest.raises(ut.InputError, match="task number 1 has none"):
        ut.rate_path(tasks._replace(query_mask=mask))
