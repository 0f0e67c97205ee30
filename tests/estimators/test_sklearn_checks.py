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


# partial_fit takes further tasks, and what it adds to is made of tasks: without groups there is one, which is known.
TASKS_ARE_WHOLE = {"check_fit_score_takes_y": "partial_fit adds tasks, not rows of a known one"}


@parametrize_with_checks(
    [ut.MAMLRegressor(), ut.MAMLRegressorCV(), ut.MAMLClassifier(), ut.MAMLClassifierCV()],
    expected_failed_checks=lambda estimator: TASKS_ARE_WHOLE if hasattr(estimator, "partial_fit") else {},
)
def test_scikit_learn_finds_nothing(estimator, check):
    check(estimator)
