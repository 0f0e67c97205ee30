"""The estimators with scikit-learn's conventions, the model that they fit, and files of them."""

from undertow.estimators.base import MetaEstimator
from undertow.estimators.classifier import MAMLClassifier, MAMLClassifierCV
from undertow.estimators.fitted import FittedModel
from undertow.estimators.inputs import MissingGroupsWarning
from undertow.estimators.regressor import MAMLRegressor, MAMLRegressorCV
from undertow.estimators.saving import load, read_notes, save
from undertow.estimators.summary import Bend, Coefficient, Summary, TaskDistance
from undertow.estimators.tables import fit_table

__all__ = [
    "Bend",
    "Coefficient",
    "FittedModel",
    "MAMLClassifier",
    "MAMLClassifierCV",
    "MAMLRegressor",
    "MAMLRegressorCV",
    "MetaEstimator",
    "MissingGroupsWarning",
    "Summary",
    "TaskDistance",
    "fit_table",
    "load",
    "read_notes",
    "save",
]
