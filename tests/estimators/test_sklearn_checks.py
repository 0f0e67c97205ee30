"""scikit-learn's own checks, all of them, for the four estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import undertow as ut

# The checks fit without groups, which warns by design.
pytestmark = [
    pytest.mark.filterwarnings("ignore::undertow.estimators.MissingGroupsWarning"),
    # Some hand parameters of a wrong type to the constructors, which only store them.
    pytest.mark.wrong_type,
]


@parametrize_with_checks([ut.MAMLRegressor(), ut.MAMLRegressorCV(), ut.MAMLClassifier(), ut.MAMLClassifierCV()])
def test_scikit_learn_finds_nothing(estimator, check):
    check(estimator)
