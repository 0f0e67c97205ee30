"""The estimators with scikit-learn's conventions. This module imports scikit-learn; ``undertow`` alone does not."""

from undertow.linear.classifier import MAMLClassifier, MAMLClassifierCV
from undertow.linear.estimator_input import MissingGroupsWarning
from undertow.linear.regressor import MAMLRegressor, MAMLRegressorCV

__all__ = ["MAMLClassifier", "MAMLClassifierCV", "MAMLRegressor", "MAMLRegressorCV", "MissingGroupsWarning"]
