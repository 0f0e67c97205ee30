"""A rival of mixedlm-rs: a linear mixed model with random slopes by REML, many times as fast as statsmodels' own."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np

from undertow.comparison.mixedlm import independent_columns, read_fit
from undertow.comparison.rivals import Fitted, NoFit, Training, linear
from undertow.linear.proximal_step import ridge_adapt


def fit(training: Training) -> Fitted:
    """Mixed model whose tasks differ in all weights, with a full covariance; a new task is predicted by its BLUP."""
    from mixedlm_rs import MixedLM  # pyright: ignore[reportMissingImports]

    data = training.data
    kept = independent_columns(data.x)
    x, tasks = data.x[:, kept], np.repeat(np.arange(data.n_tasks), data.counts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they mean is in the notes
            found = read_fit(MixedLM(data.y, x, tasks, exog_re=x).fit(), data.n_features, kept, slopes=True)
    except Exception as error:  # whatever a foreign optimiser may raise is a failed fit, not a crash
        raise NoFit(f"mixedlm-rs found no fit ({error or type(error).__name__})") from error
    if not (np.isfinite(found.omega).all() and np.isfinite(found.covariance).all() and found.noise > 0):
        raise NoFit("mixedlm-rs found no fit (not finite)")
    adapt = partial(ridge_adapt, found.omega, ratio=found.noise, task_covariance=found.covariance)
    return linear(training, adapt, *found.notes)
