"""Curves of a saved estimator, as arrays: of trees their nodes, so that a file holds no code."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow.estimators.saved_checks import check_shape, check_values
from undertow.estimators.saved_file import Arrays
from undertow.tasks.curve import DEGREE, Curve, Splines, Trees

_FIELDS = {
    "splines": ("features", "knots", "coef"),
    "trees": ("roots", "targets", "feature", "threshold", "left", "right", "value", "base"),
}


def pack_curve(curve: Curve, arrays: Arrays) -> dict[str, Any]:
    """Pack a curve."""
    for field in _FIELDS[curve.kind]:
        arrays[f"curve.{field}"] = getattr(curve, field)
    return {"kind": curve.kind}


def unpack_curve(stored: Any, arrays: Arrays, p: int, q: int) -> Curve:
    """Return the curve of p features and q targets; ValueError for what could not be one."""
    check_values(stored, {"kind": str}, "curve")
    if stored["kind"] not in _FIELDS:
        raise ValueError(f"an unknown curve {stored['kind']!r}")
    fields = [arrays[f"curve.{field}"] for field in _FIELDS[stored["kind"]]]
    return _splines(Splines(*fields), p, q) if stored["kind"] == "splines" else _trees(Trees(*fields), p, q)


def _splines(curve: Splines, p: int, q: int) -> Splines:
    s, k = curve.knots.shape
    check_shape(curve.features, (s,), "curve.features")
    check_shape(curve.coef, (s, k - DEGREE - 1, q), "curve.coef")
    if not _within(curve.features, 0, p) or (np.diff(curve.features) <= 0).any():
        raise ValueError("splines of columns that are not there")
    ends = curve.knots[:, : DEGREE + 1], curve.knots[:, -DEGREE - 1 :]
    if (np.diff(curve.knots, axis=1) < 0).any() or any(np.ptp(end, axis=1).any() for end in ends):
        raise ValueError("knots of splines that do not rise")
    if (ends[0][:, 0] >= ends[1][:, 0]).any():
        raise ValueError("splines over no range")
    return curve


def _trees(curve: Trees, p: int, q: int) -> Trees:
    t, nodes = len(curve.roots), len(curve.value)
    check_shape(curve.base, (q,), "curve.base")
    check_shape(curve.targets, (t,), "curve.targets")
    for field in ("feature", "threshold", "left", "right"):
        check_shape(getattr(curve, field), (nodes,), f"curve.{field}")
    if not _within(curve.targets, 0, q) or not _within(curve.feature, -1, p):
        raise ValueError("trees of targets or columns that are not there")
    if not t or curve.roots[0] != 0 or (np.diff(curve.roots) <= 0).any() or curve.roots[-1] >= nodes:
        raise ValueError("trees that do not follow each other")
    # A way down that never goes up, nor into another tree, has an end.
    own = np.flatnonzero(curve.feature >= 0)
    ends = np.repeat(np.append(curve.roots[1:], nodes), np.diff(np.append(curve.roots, nodes)))[own]
    if any((child[own] <= own).any() or (child[own] >= ends).any() for child in (curve.left, curve.right)):
        raise ValueError("nodes of trees that do not lead down")
    return curve


def _within(numbers: np.ndarray, low: int, end: int) -> bool:
    return bool(((numbers >= low) & (numbers < end)).all())
