"""MAMLRegressor and MAMLRegressorCV: linear regression that is trained to be adapted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from undertow.estimators.adding import is_one_task, merged, published, recipe_of, with_rows
from undertow.estimators.base import MetaEstimator
from undertow.estimators.faces import Given, Searched
from undertow.estimators.inputs import task_codes, warn_no_groups
from undertow.estimators.known_rows import KnownRows
from undertow.estimators.sums import partial
from undertow.estimators.targets import REGRESSION
from undertow.tasks.rows import TaskRows


class MAMLRegressor(RegressorMixin, Given):  # type: ignore[override]
    """Linear regression meta-trained at a signed rate, to be adapted to new tasks from a few rows.

    Features are centred and divided by their standard deviation; rates act in that space. ``coef_`` and ``intercept_``
    are in the units of X and y. With ``clip`` a row with a larger value is predicted as if it had that limit.

    Parameters
    ----------
    train_rate
        rate of the inner step while meta-training, of either sign; 0 means no inner loop, infinity is allowed.
    adapt_rate
        rate of the step on a new task.
    n_support
        rows for an inner step; a task's other rows are query rows.
    ridge
        relative to tr(B^T B) / p of the outer problem.
    steps
        inner steps, in training and adaptation.
    rate_unit
        "spectral" (multiples of 1 / lambda_max of the mean support second moment) or "raw", for both rates.
    rule
        how weights are adapted, where not by gradient steps at ``adapt_rate`` (None): a ``ProximalRule`` (ridge
        regression towards omega), a ``MixedRule`` (a mixed model, with a ``family`` of two values or of counts), or a
        ``GradientRule`` with a raw rate of its own. A parameter that would do nothing beside it is refused.
    n_draws
        random draws of support and query rows of each task; None for 5, fewer on large tables.
    standardize, clip, fit_intercept
        see above; ``clip`` is the largest standardised value; None for no limit.
    on_small
        tasks with no more than n_support rows are left out ("drop", with a warning), or "raise".
    weighting
        what counts once in training and in held-out errors: each of the "tasks", as a new task is what is
        predicted, or each of their query "rows", where new rows come from tasks in proportion to their size.
    support
        which rows of a task are support rows: "random" ones, drawn anew ``n_draws`` times, or the "first", for rows
        that stand in their order in time: what comes later then never helps to predict what came before.
    row_weights
        what ``sample_weight`` says. "frequency": a row of weight 2 stands for two rows alike, apart from random
        draws of support rows. "precision": its error has half the variance, as of a mean of two measurements; only
        ratios count, and a row of their geometric mean has the model's noise. These are the weights of lme4.
    floor
        what no prediction, and no end of an interval, is below, such as 0 for counts; None for no limit. Fit, choice
        and held-out errors are those without it; with it an error can only be smaller, since no target is below.
    n_jobs
        workers (threads) that share the work of ``fit``; None for 1, -1 for every core. No digit depends on it.
    random_state
        seed of the draws: a whole number, a NumPy generator, or None for fresh numbers.

    Notes
    -----
    With one task, or without groups, all rows are both support and query rows.

    After ``fit``: model_ (the ``FittedModel``), coef_ (p,) or (q, p), intercept_, n_features_in_, train_rate_ and
    adapt_rate_ (raw; None where the rule has none), train_rate_spectral_, adapt_rate_spectral_, scale_ (the spectral
    unit), n_tasks_, task_ids_, n_clipped_.

    References
    ----------
    docs/tutorials/rates.md; Bernacchia, "Meta-learning with negative learning rates", ICLR 2021.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> x = np.random.default_rng(0).standard_normal((60, 2))
    >>> group = np.repeat(np.arange(10), 6)
    >>> model = ut.MAMLRegressor(train_rate=-0.1, adapt_rate=0.3, n_support=3).fit(x, x[:, 0] + group, groups=group)
    >>> model.adapt(x[:3], x[:3, 0]).predict(x[3:6]).shape
    (3,)
    """

    kind = REGRESSION
    # The mixin's knows no tasks.
    score = MetaEstimator.score  # type: ignore[assignment]


class MAMLRegressorCV(RegressorMixin, Searched):  # type: ignore[override]
    """Linear regression for many small tasks; rule, rates, penalties and ridge chosen by task-wise cross-validation.

    The search tries the gradient rule at rates all around the circle, ridge regression towards omega and mixed models.
    The estimator uses a blend of them, each task's adapted weights being a convex combination of those of several
    strategies, or the one with the least loss on held-out tasks. ``choice_`` says what was found, with intervals.

    Parameters
    ----------
    n_support
        rows that a new task is expected to bring.
    cv
        number of folds of tasks, a scikit-learn splitter, or pairs of row numbers; a task must not be cut, and
        three folds are the least: the choice for a fold is made on the others, by fits that have not seen it.
    rules
        which of "gradient", "proximal", "mixed" may be used.
    blend
        whether strategies of these rules may be combined; False, or the gradient rule alone, gives a single one.
    ridges
        relative ridges to try; None for 20 from 1e-6 to 10.
    steps
        numbers of inner steps to try.
    n_rates
        rates around the circle, odd; None for 101, fewer with more than 128 features.
    n_draws
        random draws of support rows of each task; None for 10, fewer on large tables.
    level
        of the intervals. Other parameters are those of MAMLRegressor.
    effort
        whether the common relation may bend. "fast": straight lines only. "default": a quick look says whether splines
        or trees promise a lower error, and only then a second search is made with them beside the straight model.
        "thorough": a search with each. A curve is used where held-out tasks say so.
    random_slopes
        columns, by name or number, whose weights differ between tasks by the mixed models; None for all. The intercept
        does too.
    standardize, clip, fit_intercept, on_small, weighting, support, row_weights, floor, n_jobs, random_state
        as in MAMLRegressor.

    Notes
    -----
    With one task, or without groups, there is nothing to choose by: the weights are a ridge regression.

    After ``fit``, besides the attributes of MAMLRegressor: choice_ (``undertow.choice.Choice``), strategy_ (the
    strategy used, such as "blend", "signed", "mixed_full"), rate_path_ (a RatePath at the ridge of the gradient rule; a
    list of them with several targets), cv_surface_ (LossSurface: the gradient rule's cross-validated loss over both
    rates and the ridge), held_out_ (TaskLosses: each task's mean squared error under each strategy, held out), ridge_,
    steps_, n_draws_, recipe_ and sums_ (what ``partial_fit`` and ``merge`` add to), curve_ ("straight", "splines" or
    "trees": with a curve ``coef_`` is the straight part alone), curve_errors_ (held-out error with each that was
    searched, and of the "chosen" one, chosen without the tested fold), by_time_ (with ``task_order``: "mse",
    "standard_error" and "mse_at_zero" of the last third of the tasks, each block by a fit to the tasks before it alone;
    "mse_on_random_folds" of the same tasks, and the "difference" with its interval). The rates are always numbers:
    where the strategy used has none, they are those of the gradient rule's best signed train rate, and ``strategy_``
    says what is used in their place.

    Examples
    --------
    >>> import undertow as ut
    >>> frame = ut.datasets.load_gapminder().table.to_pandas()
    >>> x, y = frame[["year", "log_pop", "log_gdp"]], frame["lifeExp"]
    >>> model = ut.MAMLRegressorCV(n_support=2, rules="proximal", n_draws=1)
    >>> model.fit(x, y, groups=frame["country"]).choice_.n_tasks
    142
    """

    kind = REGRESSION
    score = MetaEstimator.score  # type: ignore[assignment]

    def partial_fit(self, X: Any, y: Any, *, groups: Any = None) -> MAMLRegressorCV:
        """Add further tasks to a fitted estimator, the rows of the others not being read again; at first it is ``fit``.

        Parameters
        ----------
        X, y, groups
            (R, p), (R,), (R,): rows of tasks that are new; a task must come with all of its rows at once, and one
            that the estimator has seen is refused. Weights are solved from the sums over all tasks, old and new.
            What was chosen stays: units of the features, rates, ratios, ridges, variances, shares, and ``choice_``.
            Each task's own weights, for ``predict`` with groups, are adapted anew from what is kept of its rows.
            Where all rows so far are one task (as without ``groups``), further rows of it are added: the weights are
            the ridge regression on all of them, in the units of the first ones.

        Returns
        -------
        self
            the estimator, fitted to all tasks so far.

        Raises
        ------
        InputError
            also where the estimator has chosen nothing, or has more columns than rows.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y, groups=groups)
        if is_one_task(self.model_):
            rows = self._further("partial_fit", X, y, groups)
            if np.array_equal(rows.ids, self.task_ids_):
                return with_rows(self, rows)
        return self.merge(type(self)().fit_like(self, X, y, groups=groups))

    def fit_like(self, fitted: MAMLRegressorCV, X: Any, y: Any, *, groups: Any = None) -> MAMLRegressorCV:
        """Fit to other tasks with the parameters, units and choice of a fitted estimator: only sums are made.

        Such a fit can be merged with ``fitted`` and with others like it. X, y, groups as in ``fit``, of tasks whose
        weights are solved from their own sums.

        Returns
        -------
        self
            the estimator, fitted to these tasks.

        Raises
        ------
        InputError
            as ``partial_fit`` does.
        """
        check_is_fitted(fitted)
        rows = fitted._further("fit_like", X, y, groups)
        sums = partial(rows, recipe_of(fitted))
        vars(self).update(vars(fitted))
        self.n_clipped_ = sums.n_clipped
        return published(self, sums, rows.ids, KnownRows.of(rows))

    def _further(self, name: str, X: Any, y: Any, groups: Any) -> TaskRows:
        """Further rows of tasks in this estimator's units. name: of the method that is given them."""
        x, targets, _ = self._read_rows(X, y)
        if groups is None:
            warn_no_groups(f"{type(self).__name__}.{name}", "all rows are taken for one task.")
        tasks = None if groups is None else task_codes(groups, len(x))
        rows = self.model_.rows(x.astype(self.model_.omega.dtype, copy=False), targets, None, tasks)
        return replace(rows, in_order=self.support == "first")

    def merge(self, other: MAMLRegressorCV) -> MAMLRegressorCV:
        """Add the tasks of another estimator to this one, in place, and return it: sums are added, no row is read.

        Parameters
        ----------
        other
            an estimator of other tasks with the same units and choice: made by ``fit_like``, or by
            ``undertow.scale.fit(..., like=)``.

        Raises
        ------
        InputError
            for another one, and for a task that is in both.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        return merged(self, other)
