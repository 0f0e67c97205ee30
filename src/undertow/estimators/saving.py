"""A fitted estimator as one safetensors file: arrays as they are, and a JSON header with class, parameters and version.

Nothing in the file is code and reading it runs none: the class must be one of four names, parameters plain values. The
array format is that of safetensors, so that other tools can read the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._plain import plain, unplain
from undertow._version import __version__
from undertow._write import write_bytes
from undertow.choice.record import Choice
from undertow.estimators import saved_parts as parts
from undertow.estimators.base import MetaEstimator
from undertow.estimators.classifier import MAMLClassifier, MAMLClassifierCV
from undertow.estimators.fitted import FittedModel
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.regressor import MAMLRegressor, MAMLRegressorCV
from undertow.estimators.saved_values import pack_labels, pack_notes, pack_parameter, unpack_labels, unpack_parameter
from undertow.estimators.sums import Recipe, Sums
from undertow.estimators.targets import Labels, Numbers
from undertow.tasks.standard import Standard

FORMAT = "undertow-estimator"
FORMAT_VERSION = 2

_CLASSES = {cls.__name__: cls for cls in (MAMLClassifier, MAMLClassifierCV, MAMLRegressor, MAMLRegressorCV)}
_VALUES = (
    "n_features_in_",
    "n_clipped_",
    "n_tasks_",
    "train_rate_",
    "adapt_rate_",
    "train_rate_spectral_",
    "adapt_rate_spectral_",
    "scale_",
    "strategy_",
    "ridge_",
    "steps_",
    "n_draws_",
)
_STANDARD = ("centre", "spread", "target_centre", "target_spread")
_TASK_ROWS = ("factor", "offsets", "totals")


def save(estimator: Any, path: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None) -> None:
    """Write a fitted estimator to ``path`` (a ``.safetensors`` file, replaced at once or not at all).

    Weights, standardisation, adaptation rules, parameters and what the search has left (``choice_``, ``rate_path_``,
    ``cv_surface_``, ``held_out_``) are kept exactly. notes: further plain values to keep in the file; see
    ``read_notes``.
    Raises InputError for what is no fitted estimator of undertow, and for a parameter that is no plain value (such
    as a splitter for ``cv`` or a generator for ``random_state``).
    """
    name = type(estimator).__name__
    if _CLASSES.get(name) is not type(estimator):
        raise InputError(None, rule=f"a {name} cannot be saved: it must be one of {', '.join(_CLASSES)}.")
    if not hasattr(estimator, "coef_"):
        raise InputError(None, rule=f"this {name} is not fitted: there is nothing to save.", way_out="Call fit first.")
    model: FittedModel = estimator.model_
    standard = model.standard
    arrays = {f"standard.{field}": getattr(standard, field) for field in _STANDARD}
    arrays["omega"] = model.omega
    if model.task_omega is not None:
        arrays["task_omega"] = model.task_omega
    if model.task_rows is not None:
        arrays |= {f"task_rows.{field}": getattr(model.task_rows, field) for field in _TASK_ROWS}
    rules = [parts.pack_rule(rule, arrays, f"rule.{j}") for j, rule in enumerate(model.rules)]
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "undertow": __version__,
        "class": name,
        "params": {key: pack_parameter(key, value, arrays) for key, value in estimator.get_params(deep=False).items()},
        "seed": estimator.seed_,
        "flat": estimator.targets_.flat,
        "values": {key: plain(getattr(estimator, key)) for key in _VALUES if hasattr(estimator, key)},
        "standard": {"clip": plain(standard.clip), "intercept": standard.intercept},
        "rules": plain(rules),
        "task_ids": pack_labels(model.task_ids, arrays, "task_ids"),
    }
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
        header["further"] = plain(
            {
                "recipe": estimator.recipe_.pack(arrays, "recipe."),
                "sums": estimator.sums_.pack(arrays, "sums."),
            }
        )
    if notes is not None:
        header["notes"] = pack_notes(notes)
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    data = _library()[0](contiguous, metadata={"undertow": json.dumps(header, allow_nan=False)})
    if not Path(path).parent.is_dir():
        raise InputError("path", str(path), f"there is no directory {str(Path(path).parent)!r}.", "Make it first.")
    write_bytes(path, data)


def load(path: str | os.PathLike[str]) -> MetaEstimator:
    """Return the fitted estimator that ``save`` wrote to ``path``.

    Raises InputError, saying why, for a file that is missing, damaged, of another kind, or of a newer format.
    """
    header, arrays = _read(Path(path))
    where = repr(str(path))
    try:
        return _build(header, arrays, where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(where, f"{type(error).__name__}: {error}") from error


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the ``notes`` that were saved with an estimator; raises InputError as ``load`` does."""
    where = repr(str(path))
    text = _read(Path(path))[0].get("notes", "{}")
    try:
        notes = json.loads(text)
    except (TypeError, ValueError) as error:
        raise _damaged(where, f"notes that are no JSON ({error})") from error
    if not isinstance(notes, dict):
        raise _damaged(where, f"notes that are a {type(notes).__name__}")
    return notes


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    where = repr(str(path))
    if not path.is_file():
        raise InputError(
            None, rule=f"{where}: there is no such file.", way_out=f"The working directory is {str(Path.cwd())!r}."
        )
    _, safe_open, failure = _library()
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (failure, ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            None,
            rule=f"{where} is no complete safetensors file ({error}).",
            way_out="Give a file that undertow saved, and check that it was copied in full.",
        ) from error
    if "undertow" not in metadata:
        raise InputError(
            None, rule=f"{where} is a safetensors file, but holds no estimator of undertow: its header is missing."
        )
    try:
        header = json.loads(metadata["undertow"])
    except ValueError as error:
        raise _damaged(where, f"its header is no JSON ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(None, rule=f"{where} is a safetensors file, but holds no estimator of undertow.")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            None,
            rule=f"{where} has format version {version!r}, written by undertow {header.get('undertow')!r}: this is "
            f"undertow {__version__}, which reads version {FORMAT_VERSION}.",
            way_out="Use a matching version of undertow.",
        )
    return header, arrays


def _build(header: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> MetaEstimator:
    name = header["class"]
    if name not in _CLASSES:
        raise InputError(None, rule=f"{where} names the class {name!r}: it must be one of {', '.join(_CLASSES)}.")
    strange = set(header["params"]) ^ set(_CLASSES[name]().get_params(deep=False))
    if strange:
        raise _damaged(where, f"parameters that do not fit {name}: {', '.join(sorted(strange))}")
    for key, value in arrays.items():
        sound = np.isfinite(value) if key.rsplit(".", 1)[-1] not in parts.INFINITE else ~np.isnan(value)
        if value.dtype.kind == "f" and not sound.all():
            raise _damaged(where, f"values in {key!r} that are not finite")
    model = _model(header, arrays, where)
    d, params = model.omega.shape[1], header["params"]
    estimator: Any = _CLASSES[name](**{key: unpack_parameter(key, value, arrays, d) for key, value in params.items()})
    for key, value in header["values"].items():
        if key not in _VALUES:
            raise _damaged(where, f"an unknown value {key!r}")
        setattr(estimator, key, unplain(value))
    if "feature_names" in header:
        names = np.array(header["feature_names"], dtype=object)
        if names.shape != (estimator.n_features_in_,):
            raise _damaged(where, f"{len(names)} feature names for {estimator.n_features_in_} features")
        estimator.feature_names_in_ = names
    estimator.targets_, estimator.seed_ = Numbers(bool(header["flat"])), int(header["seed"])
    if "Classifier" in name:
        classes = unpack_labels(header["classes"], arrays, "classes")
        if model.n_targets != (1 if len(classes) == 2 else len(classes)):
            raise _damaged(where, f"{len(classes)} classes for {model.n_targets} columns of weights")
        estimator.classes_, estimator.targets_ = classes, Labels(classes)
    if name.endswith("CV"):
        _set_search(estimator, header, arrays, model)
    estimator.publish(model)
    return estimator


def _model(header: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> FittedModel:
    q, p = len(arrays["omega"]), int(header["values"]["n_features_in_"])
    standard = Standard(
        clip=float(header["standard"]["clip"]),
        intercept=bool(header["standard"]["intercept"]),
        centre=arrays["standard.centre"],
        spread=arrays["standard.spread"],
        target_centre=arrays["standard.target_centre"],
        target_spread=arrays["standard.target_spread"],
    )
    d = p + standard.intercept
    task_ids, rules = unpack_labels(header["task_ids"], arrays, "task_ids"), header["rules"]
    expected = dict(zip((f"standard.{field}" for field in _STANDARD), ((p,), (p,), (q,), (q,)), strict=True))
    expected |= {"omega": (q, d)} | ({"task_omega": (q, len(task_ids), d)} if "task_omega" in arrays else {})
    for array, shape in expected.items():
        if arrays[array].shape != shape:
            raise _damaged(where, f"{array!r} of shape {arrays[array].shape} where {shape} is needed")
    if len(rules) != q:
        raise _damaged(where, f"{len(rules)} rules for {q} targets")
    read = tuple(parts.unpack_rule(unplain(rule), arrays, f"rule.{j}", d) for j, rule in enumerate(rules))
    rows = None
    if "task_rows.factor" in arrays:
        rows = KnownRows(*(arrays[f"task_rows.{field}"] for field in _TASK_ROWS))
        m, offsets = len(task_ids), rows.offsets
        whole = (
            offsets.dtype.kind in "iu"
            and offsets.shape == (m + 1,)
            and offsets[0] == 0
            and (np.diff(offsets) > 0).all()
        )
        if not whole or rows.factor.shape != (offsets[-1], d + q) or rows.totals.shape != (m,):
            raise _damaged(where, "rows of tasks that do not fit together")
    uncertainty = None
    if "uncertainty" in header:
        uncertainty = parts.unpack_uncertainty(header["uncertainty"], arrays, q, d)
    return FittedModel(standard, arrays["omega"], read, task_ids, arrays.get("task_omega"), rows, uncertainty)


def _set_search(estimator: Any, header: dict[str, Any], arrays: dict[str, np.ndarray], model: FittedModel) -> None:
    estimator.choice_ = Choice.from_dict(header["choice"]) if "choice" in header else None
    estimator.rate_path_, estimator.cv_surface_, estimator.held_out_ = None, None, None
    estimator.recipe_, estimator.sums_ = None, None
    if "further" in header:
        further = header["further"]
        estimator.recipe_ = Recipe.unpack(further["recipe"], arrays, model.standard, "recipe.")
        estimator.sums_ = Sums.unpack(further["sums"], arrays, "sums.")
    if "search" not in header:
        return
    found, d = unplain(header["search"]), model.omega.shape[1]
    paths = [parts.unpack_path(one, arrays, f"path.{j}", d) for j, one in enumerate(found["paths"])]
    estimator.rate_path_ = paths[0] if found["one_path"] else paths
    estimator.cv_surface_ = parts.unpack_surface(found["surface"], arrays, "surface")
    estimator.held_out_ = parts.unpack_losses(found["held_out"], arrays, "held_out", model.task_ids)


def _damaged(where: str, what: str) -> InputError:
    rule = f"{where} holds {what}: the file is damaged or was changed."
    return InputError(None, rule=rule, way_out="Save the estimator again.")


def _library() -> tuple[Callable[..., bytes], Callable[..., Any], type[Exception]]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import save as to_bytes
    except ImportError as error:
        raise ImportError("saving and loading need safetensors: pip install safetensors.") from error
    return to_bytes, safe_open, SafetensorError
