"""The rivals: ways to predict new tasks, each fitted and tuned on training tasks only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import numpy as np

from undertow._batch import TaskBatch
from undertow.tasks import GroupedTable, Standard


@dataclass(frozen=True, eq=False)
class Training:
    """What a rival may learn from: the training tasks of one outer fold."""

    raw: GroupedTable
    """training tasks in their own units"""
    standard: Standard
    """their own numbers, that rows are standardised by"""
    n_support: int
    """rows that a held-out task will bring"""
    seed: int
    deadline: float | None = None
    """``time.monotonic()`` at which a fit that can stop early must stop; None for no limit"""
    weighting: str = "tasks"
    """what counts once where a rival is tuned, see ``Plan`` """
    random_slopes: tuple[int, ...] | None = None
    """as ``Plan`` has it"""

    @cached_property
    def data(self) -> GroupedTable:
        """The same standardised by their own numbers, with a last feature 1; made for rivals that ask for it."""
        raw, standard = self.raw, replace(self.standard, intercept=True)
        y = standard.targets(raw.y[:, None])[:, 0]
        return replace(raw, x=standard.features(raw.x), y=y, feature_names=(*raw.feature_names, "intercept"))


@runtime_checkable
class Model(Protocol):
    """A fitted rival."""

    def predict(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (m, n_v) from support rows (m, n_t, p), (m, n_t) and query rows (m, n_v, p), in raw units.

        The targets of query rows are not handed over, so that no rival can read them. weights: (m, n_t) of support
        rows, where a rival takes any.
        """
        ...


@dataclass(frozen=True, eq=False)
class StandardisedModel:
    """A way to predict in standardised space, (support_x, support_y, query_x) -> (m, n_v), in raw units."""

    standard: Standard
    adapted: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def predict(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (m, n_v) in raw units; of weighted rows there are none."""
        x, query = self.standard.features(support_x), self.standard.features(query_x)
        found = self.adapted(x, self.standard.targets(support_y[..., None])[..., 0], query)
        return self.standard.restore_targets(found[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model, and what is worth saying about its fit."""

    model: Model
    notes: tuple[str, ...] = ()


class TooSlow(Exception):
    """A fit has come to its deadline with nothing to show."""


class NoFit(Exception):
    """A fit has failed for a reason that the message names."""


@dataclass(frozen=True, eq=False)
class Rival:
    """One way to predict new tasks."""

    name: str
    label: str
    fit: Callable[[Training], Fitted]
    imports: str = ""
    """module whose import is not part of the time of a fit; empty for none"""
    to_install: str = ""
    """what brings the package of that module, where ours does not need it"""
    most_slopes: int | None = None
    """features beyond which it is not tried: a covariance of random slopes has p (p + 1) / 2 numbers"""
    weighted: bool = False
    """whether it takes weights of rows"""
    by_name: bool = False
    """whether, where its package is missing, it is spoken of only when it was asked for by name"""
    target: str = ""
    """kind of the targets that it is for, see ``GroupedTable.target_kind``; empty for all"""

    def prepare(self) -> None:
        """Import what is not part of the time of a fit."""
        if self.imports:
            import_module(self.imports)

    def unfit(self, n_features: int) -> str:
        """Why it cannot be tried on a table of so many features; empty where it can."""
        if self.most_slopes is not None and n_features > self.most_slopes:
            return f"left out: {n_features} features, random slopes are tried up to {self.most_slopes}"
        package = self.imports.partition(".")[0]
        if self.to_install and not find_spec(package):
            return f"left out: {package} is missing; pip install {self.to_install}"
        return ""

    def unfit_target(self, y: np.ndarray) -> str:
        """Why it cannot be tried on targets (R,); empty where it can."""
        if self.target == "two-valued" and not np.isin(y, (0.0, 1.0)).all():
            return "left out: it is for targets of two values, 0 and 1"
        if self.target == "count" and not ((y >= 0) & (y == np.round(y))).all():
            return "left out: it is for counts"
        return ""


def with_one(x: np.ndarray) -> np.ndarray:
    """Return rows (m, n, p) with a constant column after the others."""
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def linear(training: Training, adapt: Callable[[TaskBatch], np.ndarray], *notes: str) -> Fitted:
    """Return the fitted rival that predicts with weights theta (m, p + 1) of each task, the last one the intercept's.

    adapt: gives them from the support rows of a batch, in the training tasks' standardised space.
    """

    def adapted(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
        x, query = with_one(x), with_one(query)
        # A batch needs query rows; their targets are not known here.
        theta = adapt(TaskBatch(x, y, x[:, :1], np.zeros((len(x), 1))))
        return np.einsum("mnd,md->mn", query, theta)

    return Fitted(StandardisedModel(training.standard, adapted), tuple(note for note in notes if note))
