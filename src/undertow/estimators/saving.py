"""A fitted estimator as one safetensors file: arrays as they are, and a JSON header with class, parameters and version.

Nothing in the file is code and reading it runs none: the class must be one of four names, parameters plain values. The
array format is that of safetensors, so that other tools can read the weights. A checksum finds damage; besides, what is
read must be what saving it again would write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._plain import plain, unplain
from undertow._version import __version__
from undertow._write import write_bytes
from undertow.estimators import saved_file
from undertow.estimators import saved_parts as parts
from undertow.estimators.anonymous import without_ids
from undertow.estimators.base import MetaEstimator
from undertow.estimators.classifier import MAMLClassifier, MAMLClassifierCV
from undertow.estimators.fitted import FittedModel
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.regressor import MAMLRegressor, MAMLRegressorCV
from undertow.estimators.saved_checks import VALUES, check_arrays, check_shape, check_values, conform, whole
from undertow.estimators.saved_curve import pack_curve, unpack_curve
from undertow.estimators.saved_file import Arrays
from undertow.estimators.saved_labels import pack_labels, unpack_labels
from undertow.estimators.saved_values import pack_notes, pack_parameter, unpack_notes, unpack_parameter
from undertow.estimators.sums import Recipe, Sums
from undertow.estimators.targets import Labels, Numbers

FORMAT = "undertow-estimator"
FORMAT_VERSION = 5

_CLASSES = {cls.__name__: cls for cls in (MAMLClassifier, MAMLClassifierCV, MAMLRegressor, MAMLRegressorCV)}
_TASK_ROWS = ("factor", "offsets", "totals")
# What building an estimator from values that are not what they should be may raise.
_STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

_OURS = "Give a file that undertow.estimators.save or undertow fit --save wrote."


def save(
    estimator: Any, path: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None, anonymous: bool = False
) -> None:
    """Write a fitted estimator to ``path`` (a ``.safetensors`` file, replaced at once or not at all).

    Weights, standardisation, adaptation rules, parameters and what the search has left (``choice_``, ``rate_path_``,
    ``cv_surface_``, ``held_out_``) are kept exactly; of a generator given as ``random_state``, the seed that ``fit``
    took from it.

    Parameters
    ----------
    estimator
        a fitted one of the four estimators.
    path
        file to write.
    notes
        further plain values to keep in the file; see ``read_notes``.
    anonymous
        leave out the ids of the tasks and what is of single tasks, their weights and rows. To the model that is
        loaded every task is new, also one that it was fitted to, and no further tasks can be added to it.

    Raises
    ------
    InputError
        for what is no fitted estimator of undertow, and for a parameter that is no plain value (such as a splitter
        for ``cv``).

    Examples
    --------
    >>> import tempfile, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor().fit(table.x, table.y, groups=table.groups)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ut.estimators.save(model, f"{folder}/life.safetensors", notes={"unit": "years"})
    ...     again = ut.estimators.load(f"{folder}/life.safetensors")
    ...     ut.estimators.read_notes(f"{folder}/life.safetensors")
    {'unit': 'years'}
    >>> bool((again.predict(table.x) == model.predict(table.x)).all())
    True
    """
    name = type(estimator).__name__
    if _CLASSES.get(name) is not type(estimator):
        raise InputError(None, rule=f"a {name} cannot be saved: it must be one of {', '.join(_CLASSES)}.")
    if not hasattr(estimator, "coef_"):
        raise InputError(None, rule=f"this {name} is not fitted: there is nothing to save.", way_out="Call fit first.")
    header, arrays = _packed(without_ids(estimator) if anonymous else estimator)
    if notes is not None:
        header["notes"] = pack_notes(notes)
    try:
        _checked(json.loads(json.dumps(header, allow_nan=False)), arrays)
    except _STRANGE as error:
        raise InputError(
            None, rule=f"this {name} could not be loaded again ({error}).", way_out="Fit it anew."
        ) from error
    if not Path(path).parent.is_dir():
        raise InputError("path", str(path), f"there is no directory {str(Path(path).parent)!r}.", "Make it first.")
    write_bytes(path, saved_file.to_bytes(header, arrays))


def load(path: str | os.PathLike[str]) -> MetaEstimator:
    """Return the fitted estimator that ``save`` wrote to ``path``.

    Parameters
    ----------
    path
        a file of ``save``.

    Raises
    ------
    InputError
        saying why, for a file that is missing, damaged, of another kind, or of another format.

    Examples
    --------
    >>> import tempfile, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_radon(), on_small="drop", min_rows=6)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = ut.MAMLRegressor().fit(table.x, table.y, groups=table.groups)
    ...     ut.estimators.save(model, f"{folder}/radon.safetensors")
    ...     ut.estimators.load(f"{folder}/radon.safetensors").n_features_in_
    2
    """
    header, arrays = _read(Path(path))
    try:
        return _checked(header, arrays)
    except _STRANGE as error:
        raise _damaged(path, f"what is no estimator ({type(error).__name__}: {error})") from error


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the ``notes`` that were saved with an estimator; raises InputError as ``load`` does.

    Parameters
    ----------
    path
        a file of ``save``.

    Examples
    --------
    >>> import tempfile, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = ut.MAMLRegressor().fit(table.x, table.y, groups=table.groups)
    ...     ut.estimators.save(model, f"{folder}/life.safetensors", notes={"unit": "years"})
    ...     ut.estimators.read_notes(f"{folder}/life.safetensors")
    {'unit': 'years'}
    """
    text = _read(Path(path))[0].get("notes", "{}")
    try:
        return unpack_notes(text, Path(path).stat().st_size)
    except ValueError as error:
        raise _damaged(path, f"notes that are none ({error})") from error


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file of this format, as they were written."""
    where = repr(str(path))
    metadata, arrays = saved_file.read_file(path)
    if "undertow" not in metadata:
        rule = f"{where} is a safetensors file, but holds no estimator of undertow: its header is missing."
        raise InputError(None, rule=rule, way_out=_OURS)
    text = metadata["undertow"]
    try:
        header = saved_file.read_header(text, path.stat().st_size)
    except saved_file.Unusable as error:
        raise _damaged(path, str(error)) from error
    if header.get("format") != FORMAT:
        rule = f"{where} is a safetensors file, but holds no estimator of undertow."
        raise InputError(None, rule=rule, way_out=_OURS)
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            None,
            rule=f"{where} has format version {version!r}, written by undertow {header.get('undertow')!r}: this is "
            f"undertow {__version__}, which reads version {FORMAT_VERSION}.",
            way_out="Use a matching version of undertow, or fit and save the estimator again.",
        )
    try:
        saved_file.check(text, header, arrays)
    except saved_file.Unusable as error:
        raise _damaged(path, str(error)) from error
    return header, arrays


def _damaged(path: str | os.PathLike[str], what: str) -> InputError:
    rule = f"{str(path)!r} holds {what}: the file is damaged or was changed."
    return InputError(None, rule=rule, way_out="Copy it again from where it was saved, or save the estimator again.")


def _packed(estimator: Any) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a fitted estimator."""
    model: FittedModel = estimator.model_
    standard = model.standard
    arrays: Arrays = {}
    limits = parts.pack_standard(standard, arrays)
    known = {name: getattr(model, name) for name in ("omega", "unadapted", "task_omega")}
    arrays |= {name: one for name, one in known.items() if one is not None}
    for name, kept in (("task_rows", model.task_rows), ("one_task", model.one_task)):
        arrays |= {f"{name}.{field}": getattr(kept, field) for field in _TASK_ROWS if kept is not None}
    rules = [parts.pack_rule(rule, arrays, f"rule.{j}") for j, rule in enumerate(model.rules)]
    params = estimator.get_params(deep=False)
    if not isinstance(params["random_state"], int | np.integer | None):
        params["random_state"] = estimator.seed_
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "undertow": __version__,
        "class": type(estimator).__name__,
        "params": {key: pack_parameter(key, value, arrays) for key, value in params.items()},
        "seed": estimator.seed_,
        "flat": estimator.targets_.flat,
        "values": {key: plain(getattr(estimator, key)) for key in VALUES if hasattr(estimator, key)},
        "standard": limits,
        "rules": plain(rules),
        "task_ids": pack_labels(model.task_ids, arrays, "task_ids"),
    }
    if model.levels is not None:
        header["levels"] = parts.pack_levels(model.levels, arrays)
    if model.link is not None:
        header["link"] = plain(parts.pack_link(model.link, arrays))
    if standard.curve is not None:
        header["curve"] = pack_curve(standard.curve, arrays)
    if model.uncertainty is not None:
        header["uncertainty"] = plain(parts.pack_uncertainty(model.uncertainty, arrays))
    if hasattr(estimator, "feature_names_in_"):
        header["feature_names"] = [str(name) for name in estimator.feature_names_in_]
    if hasattr(estimator, "classes_"):
        header["classes"] = pack_labels(estimator.classes_, arrays, "classes")
    choice = getattr(estimator, "choice_", None)
    if choice is not None:
        header["choice"] = choice.to_dict()
        paths = estimator.rate_path_ if isinstance(estimator.rate_path_, list) else [estimator.rate_path_]
        header["search"] = plain(
            {
                "one_path": not isinstance(estimator.rate_path_, list),
                "paths": [parts.pack_path(path, arrays, f"path.{j}") for j, path in enumerate(paths)],
                "surface": parts.pack_surface(estimator.cv_surface_, arrays, "surface"),
                "held_out": parts.pack_losses(estimator.held_out_, arrays, "held_out", estimator.task_ids_),
            }
        )
    if getattr(estimator, "sums_", None) is not None:
        recipe, sums = estimator.recipe_.pack(arrays, "recipe."), estimator.sums_.pack(arrays, "sums.")
        header["further"] = plain({"recipe": recipe, "sums": sums})
    return header, arrays


def _checked(header: dict[str, Any], arrays: Arrays) -> MetaEstimator:
    """The estimator of a header and arrays, both just what it would be saved as; one of _STRANGE where they are not."""
    estimator = _build(header, arrays)
    again, packed = _packed(estimator)
    again |= {key: header[key] for key in ("undertow", "notes") if key in header}
    for key in again.keys() | header.keys():
        # As text, where 1 is neither true nor 1.0.
        if json.dumps(again.get(key), sort_keys=True) != json.dumps(header.get(key), sort_keys=True):
            raise ValueError(f"{key!r} with values that are not used as they stand")
    for name in packed.keys() | arrays.keys():
        if name not in packed or name not in arrays or packed[name].dtype != arrays[name].dtype:
            raise ValueError(f"an array {name!r} that is not used as it stands")
    return estimator


def _build(header: dict[str, Any], arrays: Arrays) -> MetaEstimator:
    name = header["class"]
    if name not in _CLASSES:
        raise ValueError(f"the class {name!r}, which is none of {', '.join(_CLASSES)}")
    strange = set(header["params"]) ^ set(_CLASSES[name]().get_params(deep=False))
    if strange:
        raise ValueError(f"parameters that do not fit {name}: {', '.join(sorted(strange))}")
    check_arrays(arrays)
    model = _model(header, arrays)
    d, params = model.omega.shape[1], header["params"]
    estimator: Any = _CLASSES[name](**{key: unpack_parameter(key, value, arrays, d) for key, value in params.items()})
    values = unplain(header["values"])
    check_values(values, {key: kind for key, kind in VALUES.items() if key in values}, "values")
    for key, value in values.items():
        setattr(estimator, key, value)
    if "feature_names" in header:
        conform(header["feature_names"], list[str], "feature_names")
        names = np.array(header["feature_names"], dtype=object)
        check_shape(names, (estimator.n_features_in_,), "feature_names")
        estimator.feature_names_in_ = names
    conform(header["flat"], bool, "flat")
    conform(header["seed"], int, "seed")
    estimator.targets_, estimator.seed_ = Numbers(header["flat"]), header["seed"]
    if "Classifier" in name:
        classes = unpack_labels(header["classes"], arrays, "classes")
        if model.n_targets != (1 if len(classes) == 2 else len(classes)):
            raise ValueError(f"{len(classes)} classes for {model.n_targets} columns of weights")
        estimator.classes_, estimator.targets_ = classes, Labels(classes)
    if name.endswith("CV"):
        _set_search(estimator, header, arrays, model)
    estimator.publish(model)
    return estimator


def _model(header: dict[str, Any], arrays: Arrays) -> FittedModel:
    q, p = len(arrays["omega"]), whole(header["values"]["n_features_in_"], "n_features_in_", 1)
    standard = parts.unpack_standard(header["standard"], arrays)
    if "curve" in header:
        standard = replace(standard, curve=unpack_curve(header["curve"], arrays, p, q))
        p += q  # a column for each target
    d = p + standard.intercept
    task_ids, rules = unpack_labels(header["task_ids"], arrays, "task_ids"), header["rules"]
    shapes = (p,), (p,), (q,), (q,), (p,), (p,)
    expected = {f"standard.{field}": shape for field, shape in zip(parts.STANDARD, shapes, strict=True)}
    expected |= {"omega": (q, d)} | ({"task_omega": (q, len(task_ids), d)} if "task_omega" in arrays else {})
    expected |= {"unadapted": (q, d)} if "unadapted" in arrays else {}
    for array, shape in expected.items():
        check_shape(arrays[array], shape, array)
    if len(rules) != q:
        raise ValueError(f"{len(rules)} rules for {q} targets")
    read, link = parts.unpack_rules([unplain(rule) for rule in rules], header.get("link"), arrays, d)
    rows = _kept(arrays, "task_rows", len(task_ids), d + q, "link" in header)
    stored = header.get("uncertainty")
    uncertainty = None if stored is None else parts.unpack_uncertainty(unplain(stored), arrays, q, d)
    known = arrays.get("task_omega"), rows, arrays.get("unadapted")
    levels = parts.unpack_levels(header["levels"], arrays, q) if "levels" in header else None
    one = _kept(arrays, "one_task", 1, d + q)
    return FittedModel(standard, arrays["omega"], read, task_ids, *known, uncertainty, levels, link, one)


def _kept(arrays: Arrays, name: str, m: int, width: int, whole: bool = False) -> KnownRows | None:
    """What is kept of the rows of m tasks; None where nothing is."""
    if f"{name}.factor" not in arrays:
        return None
    rows = KnownRows(*(arrays[f"{name}.{field}"] for field in _TASK_ROWS), whole=whole)
    offsets = rows.offsets
    sound = offsets.shape == (m + 1,) and offsets[0] == 0 and (np.diff(offsets) > 0).all()
    if not sound or rows.rows.shape != (offsets[-1], width) or rows.totals.shape != (m,):
        raise ValueError("rows of tasks that do not fit together")
    return rows


def _set_search(estimator: Any, header: dict[str, Any], arrays: Arrays, model: FittedModel) -> None:
    estimator.choice_ = parts.unpack_choice(header["choice"]) if "choice" in header else None
    estimator.rate_path_, estimator.cv_surface_, estimator.held_out_ = None, None, None
    estimator.recipe_, estimator.sums_ = None, None
    if "further" in header:
        further = unplain(header["further"])
        estimator.recipe_ = Recipe.unpack(further["recipe"], arrays, model.standard, "recipe.")
        estimator.sums_ = Sums.unpack(further["sums"], arrays, "sums.")
        if not estimator.sums_.are_of(estimator.recipe_):
            raise ValueError("sums of another recipe")
    if "search" not in header:
        return
    found, d = unplain(header["search"]), model.omega.shape[1]
    paths = [parts.unpack_path(one, arrays, f"path.{j}", d) for j, one in enumerate(found["paths"])]
    estimator.rate_path_ = paths[0] if found["one_path"] else paths
    estimator.cv_surface_ = parts.unpack_surface(found["surface"], arrays, "surface")
    estimator.held_out_ = parts.unpack_losses(found["held_out"], arrays, "held_out", model.task_ids)
