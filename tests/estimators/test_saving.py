"""Saving and loading: exact, without code, and with a reason for every file that is refused."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from forged import forge
from made import cv, table

import undertow as ut
from undertow._check import InputError
from undertow.estimators import load, read_notes, save
from undertow.estimators.saved_labels import pack_labels

pytest.importorskip("safetensors")

X, Y, G = table()
TEXT = np.array([f"school {g}" for g in G])
MODELS = {
    "regressor": (ut.MAMLRegressor(-np.inf, 0.2, clip=None), Y, G),
    "gradient": (ut.MAMLRegressor(-0.4, rule=ut.GradientRule(0.3, 2)), Y, G),
    "several targets": (ut.MAMLRegressor(rule=ut.MixedRule("full", mean_scale=np.inf)), np.c_[Y, -(Y**2)], TEXT),
    "proximal": (
        ut.MAMLRegressor(rule=ut.ProximalRule(2.0, np.array([1.0, 0.5, 0.0, 2.0]), train_ratio=3.0)),
        Y.astype(np.float32),
        np.datetime64("2020-01-01") + G,
    ),
    "no adaptation": (ut.MAMLRegressor(rule=ut.ProximalRule(np.inf)), Y, G),
    "search": (cv(steps=(1, 2)), Y, TEXT),
    "search of float32": (cv(n_rates=11), Y, G),
    "classifier": (ut.MAMLClassifier(random_state=None), np.where(Y < 30, "low", "high"), G),
    "classifier search": (
        ut.MAMLClassifierCV(n_draws=1, n_rates=11, ridges=[1e-3]),
        np.digitize(Y, [25, 35]).astype(object).astype(str).astype(object),
        G,
    ),
}


def assert_same_search(again, model):
    paths = [one if isinstance(one, list) else [one] for one in (again.rate_path_, model.rate_path_)]
    for ours, theirs in zip(*paths, strict=True):
        for field in (
            "train_rates",
            "weights",
            "meta_loss",
            "condition",
            "rank",
            "ridges",
            "outcome",
            "scale",
            "steps",
        ):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
        assert repr(ours) == repr(theirs)
        assert ours.explain(3) == theirs.explain(3)
        np.testing.assert_array_equal(ours.at([0.0, -0.3]).weights, theirs.at([0.0, -0.3]).weights)
    ours, theirs = again.cv_surface_, model.cv_surface_
    np.testing.assert_array_equal(ours.loss(0.1), theirs.loss(0.1))
    assert ours.best() == theirs.best()
    ours, theirs = again.held_out_, model.held_out_
    assert ours.names == theirs.names
    for field in ("task_ids", "mse", "weights"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def assert_same_parameter(ours, theirs):
    """Rules are compared field by field: that of an array is no truth value."""
    assert type(ours) is type(theirs)
    if is_dataclass(theirs):
        for field in fields(theirs):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_estimator_is_the_saved_one(name, tmp_path):
    model, y, groups = MODELS[name]
    x = X.astype(np.float32) if name in ("proximal", "search of float32") else X
    model.fit(x, y, groups=groups)
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert type(again) is type(model)
    assert repr(again) == repr(model)
    assert again.get_params().keys() == model.get_params().keys()
    for key, value in model.get_params().items():
        assert_same_parameter(again.get_params()[key], value)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    np.testing.assert_array_equal(again.intercept_, model.intercept_)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    np.testing.assert_array_equal(again.predict(x, groups=groups), model.predict(x, groups=groups))
    np.testing.assert_array_equal(again.adapt(x[:5], y[:5]).predict(x), model.adapt(x[:5], y[:5]).predict(x))
    assert again.score(x, y, groups=groups) == model.score(x, y, groups=groups)
    assert again.task_ids_.dtype == model.task_ids_.dtype
    if name.startswith("classifier"):
        assert again.classes_.dtype == model.classes_.dtype
    if "search" in name:
        assert again.choice_ == model.choice_
        assert_same_search(again, model)
    for key in ("train_rate_", "adapt_rate_", "scale_", "n_tasks_", "n_features_in_"):
        assert getattr(again, key) == getattr(model, key)


def test_feature_names_and_adapted_estimators_are_kept(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = ut.MAMLRegressor().fit(frame, Y, groups=G).adapt(frame[:6], Y[:6])
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(frame[["c", "b", "a"]])


@pytest.fixture(scope="module")
def blend():
    model = cv().fit(X, Y, groups=G)
    assert model.strategy_ == "blend"
    return model


@pytest.fixture
def saved(blend, tmp_path):
    path = tmp_path / "m.safetensors"
    save(blend, path)
    return path


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h: h.update({"class": "os.system"}), "the class 'os.system', which is none of"),
        (lambda h: h.update(format="other"), "holds no estimator"),
        (lambda h: h.update(format_version=99), "format version 99"),
        (lambda h: h.update(format_version=1), "format version 1,"),
        (lambda h: h["params"].pop("cv"), "parameters that do not fit MAMLRegressorCV: cv"),
        (lambda h: h["params"].update(steps={"rule": {"kind": "eval"}}), "an unknown rule 'eval'"),
        (lambda h: h["params"].update(steps={"mixed_rule": {"code": "x"}}), "TypeError"),
        (lambda h: h["params"].update(evil=1), "parameters that do not fit MAMLRegressorCV: evil"),
        (lambda h: h["values"].update(predict=1), "'values' with or without predict"),
        (lambda h: h.pop("rules"), "KeyError: 'rules'"),
        (lambda h: h.update(rules=[]), "0 rules for 1 targets"),
        (lambda h: h["rules"][0].update(kind="eval"), "an unknown rule 'eval'"),
        (lambda h: h["values"].update(n_features_in_=5), "'standard.centre' of shape"),
        (lambda h: h["standard"].update(intercept=False), "'omega' of shape"),
        (lambda h: h["choice"].pop("candidates"), "KeyError: 'candidates'"),
        (lambda h: h["choice"].update(verdict="x"), "not a valid Verdict"),
        (lambda h: h.update(feature_names=["a"]), "'feature_names' of shape"),
        (lambda h: h["search"].pop("surface"), "KeyError: 'surface'"),
        (lambda h: h["search"]["paths"][0].update(steps=2), "'path.0.gram' of shape"),
        (lambda h: h["search"]["held_out"]["names"].pop(), "'held_out.mse' of shape"),
        (lambda h: h["rules"][0]["parts"].pop(), "'rule.0.starts' of shape"),
        (lambda h: h["rules"][0]["parts"].append({"kind": "blend"}), "a blend of blends"),
    ],
)
def test_a_changed_header_is_refused_with_a_reason(saved, change, match):
    forge(saved, change)
    with pytest.raises(ut.InputError, match=match):
        load(saved)


def test_files_of_other_kinds_are_refused(saved, tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(ut.InputError, match="there is no such file"):
        load(tmp_path / "none.safetensors")
    whole = saved.read_bytes()
    for cut in (0, 5, 100, len(whole) - 10):
        saved.write_bytes(whole[:cut])
        with pytest.raises(ut.InputError, match="no complete safetensors file"):
            load(saved)
    saved.write_bytes(b"PK\x03\x04 a pickle or a zip")
    with pytest.raises(ut.InputError, match="no complete safetensors file"):
        load(saved)
    save_file({"a": np.ones(3)}, saved)
    with pytest.raises(ut.InputError, match="its header is missing"):
        load(saved)
    save_file({"a": np.ones(3)}, saved, metadata={"undertow": "{"})
    with pytest.raises(ut.InputError, match="what is no JSON"):
        load(saved)


def test_weights_that_are_not_finite_are_refused(saved):
    forge(saved, change_arrays=lambda arrays: arrays.update(omega=arrays["omega"] * np.nan))
    with pytest.raises(ut.InputError, match="values in 'omega' that are not finite"):
        load(saved)


def test_a_generator_is_kept_as_the_seed_that_fit_took_from_it(tmp_path):
    for generator in (np.random.RandomState(3), np.random.mtrand._rand):
        model = ut.MAMLRegressor(random_state=generator).fit(X, Y, groups=G)
        save(model, tmp_path / "m.safetensors")
        again = load(tmp_path / "m.safetensors")
        assert again.random_state == model.seed_
        np.testing.assert_array_equal(again.fit(X, Y, groups=G).coef_, model.coef_)


def test_what_cannot_be_saved(tmp_path):
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    with pytest.raises(ut.InputError, match="a Ridge cannot be saved"):
        save(Ridge(), tmp_path / "m")
    with pytest.raises(ut.InputError, match="is not fitted"):
        save(ut.MAMLRegressor(), tmp_path / "m")
    model = cv(cv=GroupKFold(3)).fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match=r"set_params\(cv=\.\.\.\)"):
        save(model, tmp_path / "m")
    save(model.set_params(cv=3), tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    with pytest.raises(ut.InputError, match="task_ids hold a tuple"):
        pack_labels(np.array([(1, 2), None], dtype=object)[:1], {}, "task_ids")


def test_notes_are_kept_and_the_file_is_the_same_each_time(tmp_path):
    model = ut.MAMLRegressor().fit(X, Y, groups=G)
    notes = {"table": {"task": "school", "levels": {"kind": ["a", "inf", "nan"]}}, "limit": float("inf")}
    save(model, tmp_path / "a.safetensors", notes=notes)
    save(model, tmp_path / "b.safetensors", notes=notes)
    assert read_notes(tmp_path / "a.safetensors") == notes
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    np.testing.assert_array_equal(load(tmp_path / "a.safetensors").predict(X), model.predict(X))
    save(model, tmp_path / "b.safetensors")
    assert read_notes(tmp_path / "b.safetensors") == {}
    with pytest.raises(InputError, match="notes hold what is no plain value"):
        save(model, tmp_path / "b.safetensors", notes={"a": object()})
    with pytest.raises(InputError, match="there is no directory"):
        save(model, tmp_path / "nowhere" / "b.safetensors")
