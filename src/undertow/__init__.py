"""undertow: meta-learning (MAML) with a signed learning rate in the inner loop.

Public names are loaded on first use, so that importing the package (and ``undertow --help``) stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from undertow._version import __version__

if TYPE_CHECKING:
    from undertow import (
        choice,
        comparison,
        datasets,
        estimators,
        experiments,
        gradient,
        kernel,
        linear,
        mixed,
        plots,
        report,
        scale,
        tasks,
        theory,
    )
    from undertow._batch import TaskBatch
    from undertow._check import InputError
    from undertow.estimators import MAMLClassifier, MAMLClassifierCV, MAMLRegressor, MAMLRegressorCV
    from undertow.linear import LossSurface, Moments, RatePath, rate_path
    from undertow.linear.rules import GradientRule, ProximalRule
    from undertow.mixed import MixedRule
    from undertow.problem import Design, MixedLinearRegression, QuadraticRegression, Sinusoid

_HOME = {
    "TaskBatch": "_batch",
    "InputError": "_check",
    "Design": "problem",
    "MixedLinearRegression": "problem",
    "QuadraticRegression": "problem",
    "Sinusoid": "problem",
    "Moments": "linear",
    "RatePath": "linear",
    "LossSurface": "linear",
    "rate_path": "linear",
    "GradientRule": "linear.rules",
    "ProximalRule": "linear.rules",
    "MixedRule": "mixed",
    "MAMLClassifier": "estimators",
    "MAMLClassifierCV": "estimators",
    "MAMLRegressor": "estimators",
    "MAMLRegressorCV": "estimators",
}

__all__ = [
    "Design",
    "GradientRule",
    "InputError",
    "LossSurface",
    "MAMLClassifier",
    "MAMLClassifierCV",
    "MAMLRegressor",
    "MAMLRegressorCV",
    "MixedLinearRegression",
    "MixedRule",
    "Moments",
    "ProximalRule",
    "QuadraticRegression",
    "RatePath",
    "Sinusoid",
    "TaskBatch",
    "__version__",
    "choice",
    "comparison",
    "datasets",
    "estimators",
    "experiments",
    "gradient",
    "kernel",
    "linear",
    "mixed",
    "plots",
    "rate_path",
    "report",
    "scale",
    "tasks",
    "theory",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    if name not in _HOME:  # a room
        return import_module(f"undertow.{name}")
    value = getattr(import_module(f"undertow.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
