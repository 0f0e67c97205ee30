"""The estimators with scikit-learn's conventions. This module imports scikit-learn; ``undertow`` alone does not."""

from undertow.estimators.classifier import MAMLClassifier, MAMLClassifierCV
from undertow.estimators.inputs import MissingGroupsWarning
from undertow.estimators.regressor import MAMLRegressor, MAMLRegressorCV

__all__ = ["MAMLClassifier", "MAMLClassifierCV", "MAMLRegressor", "MAMLRegressorCV", "MissingGroupsWarning"]
