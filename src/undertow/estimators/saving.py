"""A fitted estimator as one safetensors file: arrays as they are, and a JSON header with class, parameters and version.

Nothing in the file is code and reading it runs none: the class must be one of four names, parameters plain values. The
array format is that of safetensors, so that other tools can read the weights.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._plain import plain, unplain
from undertow._version import __version__
from undertow.choice.record import Choice
from undertow.estimators import MAMLClassifier, MAMLClassifierCV, MAMLRegressor, MAMLRegressorCV
from undertow.estimators import saved_parts as parts
from undertow.estimators.base import MAMLBase
from undertow.tasks.standard import Standard

FORMAT = "undertow-estimator"
FORMAT_VERSION = 1

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
    "rule_",
    "ridge_",
    "steps_",
    "n_draws_",
    "_y_ndim",
    "_draw_seed",
)
_BEFORE = {"blend": False}
_STANDARD = ("centre", "spread", "target_centre", "target_spread")


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
        raise InputError(f"a {name} cannot be saved: it must be one of {', '.join(_CLASSES)}.")
    if not hasattr(estimator, "coef_"):
        raise InputError(f"this {name} is not fitted: there is nothing to save. Call fit first.")
    standard: Standard = estimator._standard
    arrays = {f"standard.{field}": getattr(standard, field) for field in _STANDARD}
    arrays["omega"] = estimator._omega
    if estimator._task_omega is not None:
        arrays["task_omega"] = estimator._task_omega
    rules = [parts.pack_rule(rule, arrays, f"rule.{j}") for j, rule in enumerate(estimator._rules)]
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "undertow": __version__,
        "class": name,
        "params": {key: _plain_parameter(key, value) for key, value in estimator.get_params(deep=False).items()},
        "values": {key: plain(getattr(estimator, key)) for key in _VALUES if hasattr(estimator, key)},
        "standard": {"clip": plain(standard.clip), "intercept": standard.intercept},
        "rules": plain(rules),
        "task_ids": _labels(estimator.task_ids_, arrays, "task_ids"),
    }
    if hasattr(estimator, "feature_names_in_"):
        header["feature_names"] = [str(name) for name in estimator.feature_names_in_]
    if hasattr(estimator, "classes_"):
        header["classes"] = _labels(estimator.classes_, arrays, "classes")
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
    if notes is not None:
        header["notes"] = _noted(notes)
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    data = _library()[0](contiguous, metadata={"undertow": json.dumps(header, allow_nan=False)})
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"{str(path)!r}: there is no directory {str(target.parent)!r}. Make it first.")
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> MAMLBase:
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


def _noted(notes: Mapping[str, Any]) -> str:
    """Notes as text of their own: there a word such as "inf" and the number stay apart."""
    try:
        return json.dumps(dict(notes))
    except (TypeError, ValueError) as error:
        raise InputError(f"notes hold what is no plain value ({error}): use text, numbers, lists and dicts.") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    where = repr(str(path))
    if not path.is_file():
        raise InputError(f"{where}: there is no such file. The working directory is {str(Path.cwd())!r}.")
    _, safe_open, failure = _library()
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (failure, ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"{where} is no complete safetensors file ({error}): give a file that undertow saved, and check that it "
            "was copied in full."
        ) from error
    if "undertow" not in metadata:
        raise InputError(f"{where} is a safetensors file, but holds no estimator of undertow: its header is missing.")
    try:
        header = json.loads(metadata["undertow"])
    except ValueError as error:
        raise _damaged(where, f"its header is no JSON ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{where} is a safetensors file, but holds no estimator of undertow.")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{where} has format version {version!r}, written by undertow {header.get('undertow')!r}: this is undertow "
            f"{__version__}, which reads version {FORMAT_VERSION}. Use a matching version of undertow."
        )
    return header, arrays


def _build(header: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> MAMLBase:
    name = header["class"]
    if name not in _CLASSES:
        raise InputError(f"{where} names the class {name!r}: it must be one of {', '.join(_CLASSES)}.")
    known = set(_CLASSES[name]().get_params(deep=False))
    # A file older than a parameter means what was done before there was one.
    stored = {key: value for key, value in _BEFORE.items() if key in known} | header["params"]
    strange = set(stored) ^ known
    if strange:
        raise _damaged(where, f"parameters that do not fit {name}: {', '.join(sorted(strange))}")
    estimator: Any = _CLASSES[name](**{key: _parameter(value) for key, value in stored.items()})
    for key, value in header["values"].items():
        if key not in _VALUES:
            raise _damaged(where, f"an unknown value {key!r}")
        setattr(estimator, key, unplain(value))
    p, omega = int(estimator.n_features_in_), arrays["omega"]
    q = omega.shape[0]
    standard = Standard(
        clip=float(header["standard"]["clip"]),
        intercept=bool(header["standard"]["intercept"]),
        **{field: arrays[f"standard.{field}"] for field in _STANDARD},
    )
    d = p + standard.intercept
    _shape(where, arrays, "omega", (q, d))
    for field, size in zip(_STANDARD, (p, p, q, q), strict=True):
        _shape(where, arrays, f"standard.{field}", (size,))
    for key, value in arrays.items():
        sound = np.isfinite(value) if key.rsplit(".", 1)[-1] not in parts.INFINITE else ~np.isnan(value)
        if value.dtype.kind == "f" and not sound.all():
            raise _damaged(where, f"values in {key!r} that are not finite")
    estimator._standard, estimator._omega = standard, omega
    estimator.task_ids_ = _from_labels(header["task_ids"], arrays, "task_ids")
    estimator._task_omega = arrays.get("task_omega")
    if estimator._task_omega is not None:
        _shape(where, arrays, "task_omega", (q, len(estimator.task_ids_), d))
    rules = header["rules"]
    if len(rules) != q:
        raise _damaged(where, f"{len(rules)} rules for {q} targets")
    estimator._rules = tuple(parts.unpack_rule(unplain(rule), arrays, f"rule.{j}", d) for j, rule in enumerate(rules))
    if "feature_names" in header:
        names = np.array(header["feature_names"], dtype=object)
        if names.shape != (p,):
            raise _damaged(where, f"{len(names)} feature names for {p} features")
        estimator.feature_names_in_ = names
    if "Classifier" in name:
        estimator.classes_ = _from_labels(header["classes"], arrays, "classes")
        if q != (1 if len(estimator.classes_) == 2 else len(estimator.classes_)):
            raise _damaged(where, f"{len(estimator.classes_)} classes for {q} columns of weights")
    if name.endswith("CV"):
        estimator.choice_ = Choice.from_dict(header["choice"]) if "choice" in header else None
        estimator.rate_path_, estimator.cv_surface_, estimator.held_out_ = None, None, None
        if "search" in header:
            found = unplain(header["search"])
            paths = [parts.unpack_path(one, arrays, f"path.{j}", d) for j, one in enumerate(found["paths"])]
            estimator.rate_path_ = paths[0] if found["one_path"] else paths
            estimator.cv_surface_ = parts.unpack_surface(found["surface"], arrays, "surface")
            estimator.held_out_ = parts.unpack_losses(found["held_out"], arrays, "held_out", estimator.task_ids_)
    estimator._publish()
    return estimator


def _shape(where: str, arrays: dict[str, np.ndarray], name: str, expected: tuple[int, ...]) -> None:
    if arrays[name].shape != expected:
        raise _damaged(where, f"{name!r} of shape {arrays[name].shape} where {expected} is needed")


def _damaged(where: str, what: str) -> InputError:
    return InputError(f"{where} holds {what}: the file is damaged or was changed. Save the estimator again.")


def _labels(labels: np.ndarray, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Numbers go to the arrays, text and dates to the header with their type."""
    if labels.dtype.kind in "iufb":
        arrays[name] = labels
        return {"kind": "array"}
    if labels.dtype.kind in "mM":
        return {"kind": "dates", "dtype": labels.dtype.str, "values": labels.astype(np.int64).tolist()}
    values = labels.tolist()
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{name} hold a {type(values[0]).__name__}: numbers, text and dates can be saved.")
    return {"kind": "objects" if labels.dtype == object else "text", "values": values}


def _from_labels(stored: dict[str, Any], arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if stored["kind"] == "array":
        return arrays[name]
    if stored["kind"] == "dates":
        dtype = np.dtype(stored["dtype"])
        if dtype.kind not in "mM":
            raise ValueError(f"{name} has type {dtype}")
        return np.array(stored["values"], dtype=np.int64).astype(dtype)
    return np.array(stored["values"], dtype=object if stored["kind"] == "objects" else np.str_)


def _plain_parameter(name: str, value: Any) -> Any:
    if isinstance(value, tuple | list | np.ndarray):
        return {"list": [_plain_parameter(name, one) for one in value], "tuple": isinstance(value, tuple)}
    if value is None or isinstance(value, bool | int | float | str | np.integer | np.floating | np.bool_):
        return plain(value) if not isinstance(value, float) or math.isfinite(value) else {"float": repr(float(value))}
    raise InputError(
        f"{name}={value!r} is no plain value and cannot be saved without running code on loading: set it to a number "
        f"or text with set_params({name}=...) first; the fitted weights stay."
    )


def _parameter(value: Any) -> Any:
    if isinstance(value, dict) and "list" in value:
        items = [_parameter(one) for one in value["list"]]
        return tuple(items) if value["tuple"] else items
    if isinstance(value, dict):
        return float(value["float"])
    return value


def _library() -> tuple[Callable[..., bytes], Callable[..., Any], type[Exception]]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import save as to_bytes
    except ImportError as error:
        raise ImportError("saving and loading need safetensors: pip install safetensors.") from error
    return to_bytes, safe_open, SafetensorError
