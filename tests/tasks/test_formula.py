"""Formulas: columns against formulaic's, roles against what is written, models against statsmodels."""

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest

import undertow as ut
from undertow.tasks import Formula, read_table
from undertow.tasks.expressions import check, value_of
from undertow.tasks.made import Made

formulaic = pytest.importorskip("formulaic")
N = 240
FUNCTIONS = {name: getattr(np, name) for name in ("sqrt", "abs", "log1p", "log2", "expm1", "sin", "cos", "tanh")}


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 12)
    columns = {"g": g, "x": rng.normal(3, 1, N), "z": rng.uniform(1, 5, N), "my col": rng.normal(size=N)}
    labels = {"sex": rng.choice(list("abc"), N), "b": rng.choice(["u", "v"], N), "k": rng.integers(1, 4, N)}
    y = columns["x"] * (1 + 0.6 * rng.normal(size=20)[g]) + rng.normal(size=20)[g] + 0.5 * rng.normal(size=N)
    return pd.DataFrame(columns | labels | {"log.z": np.log(columns["z"]), "y": y})


def read(source, formula, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ut.tasks.TableNote)
        return read_table(source, formula=formula, **options)


def in_order(table):
    return table.x[np.argsort(table.rows)]


@pytest.mark.parametrize(
    "fixed",
    [
        "x + log(z)", "x * sex", "x:sex", "x / sex", "sex:b + sex", "sex * b", "C(k) + log.z", "(x + z + sex)**2 - x:z",
        "I(x**2) + `my col` + exp(-z / 2)", "poly(x, 4) + center(z)", "scale(x):sex + scale(x)", "poly(z, degree=2):b",
        "sqrt(abs(`my col`)) + log10(z) * log1p(z)", "x + 1 + x", "sex:x:z",
        "log2(z) * expm1(-z) + sin(x) + cos(x) + tanh(x)",
    ],
)  # fmt: skip
def test_columns_are_those_of_formulaic(frame, fixed):
    theirs = formulaic.model_matrix(fixed, frame, context=FUNCTIONS)
    ours = in_order(read(frame, f"y ~ {fixed} + (1 | g)"))
    assert np.allclose(ours, theirs.drop(columns="Intercept").to_numpy(float), rtol=1e-10, atol=1e-12)


def test_a_new_table_gets_the_units_and_levels_of_training(frame):
    table = read(frame, "y ~ poly(x, 2) * sex + scale(z) + C(k) + (1 | g)")
    some = frame[(frame["sex"] == "b") & (frame["k"] == 2)].head(4)
    new = table.encoding.apply(some)
    assert np.allclose(new.x, in_order(table)[some.index])
    # By way of a file: JSON holds all of it.
    kept = Made.from_dict(json.loads(json.dumps(table.encoding.made.to_dict())))
    assert kept == table.encoding.made
    strange = some.assign(sex="q")
    with pytest.raises(ut.InputError, match="'q'"):
        table.encoding.apply(strange)
    assert not table.encoding.apply(strange, on_unseen="skip").complete.any()


def test_rows_without_a_value_are_refused_or_left_without_prediction(frame):
    table = read(frame, "y ~ log(z) + (1 | g)")
    bad = frame.head(3).assign(z=[1.0, 0.0, -1.0])
    with pytest.raises(ut.InputError, match=r"log\(z\)"):
        table.encoding.apply(bad)
    assert table.encoding.apply(bad, on_missing="drop").complete.tolist() == [True, False, False]
    with pytest.raises(ut.InputError, match="no value"):
        read(frame, "y ~ log(x - 3) + (1 | g)")


def test_a_file_can_hold_no_more_than_arithmetic():
    good = ["/", ["log", "x"], 2]
    check(good, ["x"])
    assert value_of(good, {"x": np.array([math.e])}) == pytest.approx(0.5)
    deep = "x"
    for _ in range(100):
        deep = ["log", deep]
    strange = [
        ["eval", "x"],
        ["log", "x", "x"],
        ["+", "x"],
        ["log", "os"],
        [],
        [["log"], "x"],
        True,
        None,
        math.inf,
        deep,
    ]
    for one in strange:
        with pytest.raises((ValueError, TypeError)):
            Made.from_dict({"features": ["x"], "columns": [["a", one]]})


@pytest.mark.parametrize(
    ("random", "task", "second", "structure"),
    [
        ("(1 | g)", ("g",), None, "intercept"),
        ("(1 + x + z | g)", ("g",), None, "full"),
        ("(z + x || g)", ("g",), None, "diagonal"),
        ("(1 | b/k)", ("b", "k"), "outer", "intercept"),
        ("(1 | b) + (x + z | b:k)", ("b", "k"), "outer", "full"),
        ("(1 | b:k)", ("b", "k"), None, "intercept"),
        ("(1 | g) + (1 | `my col`)", ("g",), "my col", "intercept"),
        ("(1 | b) + (x + z | g)", ("g",), "b", "full"),
        ("(1 | b:k) + (1 | g)", ("b", "k"), "g", "intercept"),
    ],
)
def test_random_parts(random, task, second, structure):
    found = Formula.parse(f"y ~ x + z + {random}")
    assert (found.task, found.random_intercept, found.structure) == (task, second, structure)
    assert found.columns == ["x", "z"]


@pytest.mark.parametrize(
    ("random", "varying", "columns"),
    [
        ("(1 + x | g)", (("x",),), ("x",)),
        ("(1 + sex || g)", (("sex",),), ("sex=b", "sex=c")),
        ("(1 + x + sex | g)", None, None),
        ("(1 | g)", None, None),
    ],
)
def test_slopes_of_some_terms_only(frame, random, varying, columns):
    found = read(frame, f"y ~ x + sex + {random}").formula
    assert (found.varying, found.random_slopes) == (varying, columns)


@pytest.mark.parametrize(
    ("formula", "named"),
    [
        ("y ~ x + (1 + z | g)", "slopes of z"),
        ("y ~ x + (0 + x | g)", "no random intercept"),
        ("y ~ x + (1 | a/b/c)", "3 groupings"),
        ("y ~ x + (1 + x | a/b)", r"\(1 \| a\) \+ \(1 \+ x \| a:b\)"),
        ("y ~ x + (x | a) + (x | b)", "two groupings"),
        ("y ~ x + (1 | g) + (1 | a:b)", r"\(1 \| a:b\) \+ \(1 \| g\)"),
        ("y ~ x - 1 + (1 | g)", "intercept"),
        ("y ~ (1 | g)", "no column"),
        ("log(y) ~ x + (1 | g)", r"log\(y\)"),
        ("y ~ bs(x, 3) + (1 | g)", r"bs\(\)"),
        ("y ~ x.mean() + (1 | g)", "x.mean"),
        ("y ~ x[0] + (1 | g)", r"x\[0\]"),
        ("y ~ C(sex, Treatment('b')) + (1 | g)", "Treatment"),
        ("y ~ sex:b + (1 | g)", r"sex\*b"),
        ("y ~ . + (1 | g)", "Name the columns"),
        ("y ~ poly(x, 9) + (1 | g)", "degree from 1 to"),
        ("y ~ log(sex) + (1 | g)", "text"),
        ("y ~ nothing + (1 | g)", "nothing"),
        ("y ~ x", "task"),
        ("x + (1 | g)", "~"),
        ("y ~ x + (1 | g", "bar"),
        ("y ~ ((x + (1 | g)", "bar|read"),
        ("y ~ 'a' + (1 | g)", "read"),
        ("y ~ 3:x + (1 | g)", "number 3"),
        ("y ~ (().__class__) + (1 | g)", "."),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(frame, formula, named):
    with pytest.raises(ut.InputError, match=named) as found:
        read(frame, formula)
    assert found.value.way_out or found.value.rule


def test_what_is_said_twice_is_refused(frame):
    for given in ({"task": "g"}, {"target": "y"}, {"features": ["x"]}, {"random_intercept": "b"}):
        with pytest.raises(ut.InputError, match=next(iter(given))):
            read(frame, "y ~ x + (1 | g)", **given)
    assert read(frame, "y ~ x", task="g").formula.structure == ""


def test_options_of_a_formula_give_the_same_columns(frame):
    table = read(frame, "y ~ x + sex + (1 | g) + (1 | b)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ut.tasks.TableNote)
        same = read_table(frame, **table.formula.options, categories="onehot")
    assert same.feature_names == table.feature_names
    assert np.array_equal(same.x, table.x)
    assert np.array_equal(same.levels, table.levels)


@pytest.mark.parametrize(
    ("fixed", "random", "re_formula"),
    [
        ("x + I(z**2)", "(1 | g)", None),
        ("center(x)", "(center(x) | g)", "~center(x)"),
        ("center(x) + z", "(1 + center(x) | g)", "~center(x)"),
    ],
)
def test_models_are_those_of_statsmodels(frame, fixed, random, re_formula):
    smf = pytest.importorskip("statsmodels.formula.api")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smf.mixedlm(f"y ~ {fixed}", frame, groups="g", re_formula=re_formula)
        theirs = model.fit()
    table = read(frame, f"y ~ {fixed} + {random}")
    assert np.allclose(in_order(table), model.exog[:, 1:])
    names = table.formula.random_slopes
    numbers = None if names is None else [table.feature_names.index(name) for name in names]
    fit = ut.mixed.fit_mixed(table.with_intercept(), table.formula.structure, mean_scale=math.inf, slopes=numbers)
    assert fit.log_likelihood == pytest.approx(theirs.llf, abs=1e-4)
    rule = ut.MixedRule(table.formula.structure, mean_scale=math.inf, slopes=names)
    own = ut.estimators.fit_table(ut.MAMLRegressor(rule=rule), table)
    effects = np.array([theirs.random_effects[g].to_numpy() for g in table.ids])
    fixed = theirs.fe_params.to_numpy()
    blup = fixed + np.pad(effects, ((0, 0), (0, len(fixed) - effects.shape[1])))
    found = np.column_stack([own.task_intercept_, own.task_coef_])
    predicted = [np.column_stack([np.ones(12), table.x[table.groups == g]]) for g in table.ids]
    gap = [np.abs(x @ (a - b)).max() for x, a, b in zip(predicted, found, blup, strict=True)]
    assert max(gap) < 3e-4 * table.y.std()
