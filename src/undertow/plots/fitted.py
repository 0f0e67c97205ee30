"""What displays read from a fitted estimator, and the messages where it holds nothing to draw."""

from __future__ import annotations

from typing import Any

from undertow._check import InputError

_WITH_SEARCH = "a fitted MAMLRegressorCV or MAMLClassifierCV"


def kept(estimator: Any, attribute: str) -> Any:
    """Return what a search left in ``attribute`` of an estimator, or raise InputError saying why it is not there."""
    name = type(estimator).__name__
    give = f"Give {_WITH_SEARCH}."
    if not hasattr(estimator, "fit") or isinstance(estimator, type):
        raise InputError("estimator", estimator, "there is nothing to draw in it.", give)
    if not hasattr(estimator, "coef_"):
        raise InputError(None, rule=f"This {name} is not fitted: there is nothing to draw.", way_out="Call fit first.")
    if not hasattr(estimator, attribute):
        raise InputError(None, rule=f"A {name} has no {attribute}: it has made no search.", way_out=give)
    value = getattr(estimator, attribute)
    if value is None:
        raise InputError(
            None,
            rule=f"{attribute} of this {name} is None: it was fitted to fewer than three tasks with query "
            "rows, where there is nothing to choose by.",
            way_out="Fit it to a table of several tasks.",
        )
    return value


def gradient_ridge(estimator: Any) -> float:
    """Ridge of the gradient rule's best signed rate; with several targets all share it."""
    path = kept(estimator, "rate_path_")
    return float((path[0] if isinstance(path, list) else path).ridges[0])


def loss_name(estimator: Any) -> str:
    """What an error of the estimator's search measures."""
    columns = len(estimator.coef_) if estimator.coef_.ndim == 2 else 1
    if hasattr(estimator, "classes_"):
        over = f", mean over {columns} classes" if columns > 1 else ""
        return f"mean squared error of \u22121 / 1{over}"
    unit = " / variance" if estimator.standardize else ""
    return f"mean squared error{unit}" + (f", mean over {columns} targets" if columns > 1 else "")
