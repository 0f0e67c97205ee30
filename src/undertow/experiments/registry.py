"""The experiments by name. To add one, write its file and add its record here."""

from __future__ import annotations

from undertow import _check
from undertow.experiments import (
    anisotropic,
    attention,
    direction,
    diversity,
    early_stopping,
    nonlinear,
    omniglot,
    overparameterized,
    repel,
    sharpness,
    sinusoid,
    threshold,
    underparameterized,
)
from undertow.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    record.name: record
    for record in (
        overparameterized.EXPERIMENT,
        underparameterized.EXPERIMENT,
        threshold.EXPERIMENT,
        anisotropic.EXPERIMENT,
        nonlinear.EXPERIMENT,
        direction.EXPERIMENT,
        sinusoid.EXPERIMENT,
        omniglot.EXPERIMENT,
        attention.EXPERIMENT,
        repel.EXPERIMENT,
        diversity.EXPERIMENT,
        early_stopping.EXPERIMENT,
        sharpness.EXPERIMENT,
    )
}


def names() -> list[str]:
    """Return the names of all experiments, in the order in which they are run.

    Examples
    --------
    >>> from undertow import experiments
    >>> experiments.names()[:2]
    ['overparameterized', 'underparameterized']
    """
    return list(EXPERIMENTS)


def get(name: str) -> Experiment:
    """Return the experiment called ``name``; raises InputError for a name that is none.

    Examples
    --------
    >>> from undertow import experiments
    >>> experiments.get("overparameterized").quick_time
    '9 s'
    """
    return EXPERIMENTS[_check.one_of(name, "experiment", EXPERIMENTS)]
