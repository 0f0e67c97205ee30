"""MAMLClassifier and MAMLClassifierCV: one-hot least squares on targets -1 and 1, as RidgeClassifier."""

from __future__ import annotations

from sklearn.base import ClassifierMixin

from undertow.estimators.base import MetaEstimator
from undertow.estimators.faces import Given, Searched
from undertow.estimators.targets import CLASSIFICATION


class MAMLClassifier(ClassifierMixin, Given):  # type: ignore[override]
    """Least-squares classifier meta-trained at a signed rate, to be adapted to new tasks from a few labelled rows.

    Classes are targets of -1 and 1, as in RidgeClassifier, and the largest prediction wins. All tasks must name their
    classes alike. Parameters and attributes are those of MAMLRegressor, and ``classes_``; coef_ is (1, p) for two
    classes, else (classes, p). With ``MixedRule(family="binomial")`` it is a logistic mixed model of two classes.

    Parameters
    ----------
    train_rate, adapt_rate, n_support, ridge, steps, rate_unit, rule, n_draws
        as in MAMLRegressor.
    standardize, clip, fit_intercept, on_small, weighting, support, row_weights, floor, n_jobs, random_state
        as in MAMLRegressor.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> group, x = np.repeat(np.arange(20), 10), rng.standard_normal((200, 2))
    >>> y = np.where(x[:, 0] + rng.standard_normal(20)[group] > 0, "ill", "well")
    >>> model = ut.MAMLClassifier(adapt_rate=0.3).fit(x, y, groups=group)
    >>> model.classes_.tolist(), model.adapt(x[:5], y[:5]).predict(x[5:8]).shape
    (['ill', 'well'], (3,))
    """

    kind = CLASSIFICATION
    # The mixin's knows no tasks.
    score = MetaEstimator.score  # type: ignore[assignment]


class MAMLClassifierCV(ClassifierMixin, Searched):  # type: ignore[override]
    """MAMLClassifier with rule, rates, penalties and ridge chosen by task-wise cross-validation of the squared error.

    Parameters and attributes are those of MAMLRegressorCV, and ``classes_``. Errors in ``choice_`` are squared errors
    of targets -1 and 1, mean over classes.

    Parameters
    ----------
    n_support, cv, rules, blend, ridges, steps, n_rates, n_draws, level, effort, random_slopes
        as in MAMLRegressorCV.
    standardize, clip, fit_intercept, on_small, weighting, support, row_weights, floor, n_jobs, random_state
        as in MAMLRegressor.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> group, x = np.repeat(np.arange(20), 10), rng.standard_normal((200, 2))
    >>> y = np.where(x[:, 0] + rng.standard_normal(20)[group] > 0, "ill", "well")
    >>> model = ut.MAMLClassifierCV(rules="proximal", n_draws=1, effort="fast").fit(x, y, groups=group)
    >>> model.adapt(x[:5], y[:5]).predict_proba(x[5:8]).shape
    (3, 2)
    """

    kind = CLASSIFICATION
    score = MetaEstimator.score  # type: ignore[assignment]
