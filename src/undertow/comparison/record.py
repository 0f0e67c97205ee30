"""The record of a comparison: losses on held-out tasks, differences with intervals, times, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow._plain import plain
from undertow.choice.words import compared, large_task, share
from undertow.comparison.interval import Difference, corrected
from undertow.tasks.losses import NEGLIGIBLE, effective_number, mean_over_tasks, weights_of


class Standing(StrEnum):
    """How a rival stands to another on held-out tasks.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> plan = ut.comparison.Plan(n_folds=3, n_draws=1)
    >>> found = ut.comparison.compare(table, plan, rivals=["pooled", "alone"], time_limit=None)
    >>> found.standing("alone", "pooled").value
    'better'
    """

    BETTER = "better"
    WORSE = "worse"
    LEVEL = "no significant difference"
    EQUAL = "negligible difference"
    """the interval of the difference lies within what is negligible"""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rivals on tasks that they have not seen. Losses are mean squared errors over the variance of the target.

    A rival that was left out has NaN for losses and seconds, and a note that says why.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> plan = ut.comparison.Plan(n_folds=3, n_draws=1)
    >>> found = ut.comparison.compare(table, plan, rivals=["pooled", "alone"], time_limit=None)
    >>> found.best, found.measured, found.task_losses.shape
    ('alone', ('pooled', 'alone'), (142, 2))
    >>> found.difference("alone", "pooled").significant
    True
    """

    names: tuple[str, ...]
    """(c,) rivals, see ``RIVALS``"""
    labels: tuple[str, ...]
    """(c,) what they are called in tables and figures"""
    task_ids: np.ndarray
    """(m,) tasks"""
    task_rows: np.ndarray
    """(m,) query rows of each task in a draw"""
    task_losses: np.ndarray
    """(m, c) loss of each task when it was held out, mean over draws and repeats"""
    fold_losses: np.ndarray
    """(n_repeats * n_folds, c) mean loss of each fold's tasks, repeat after repeat"""
    fit_seconds: np.ndarray
    """(c,) seconds of one fit with its tuning, mean over fits"""
    adapt_seconds: np.ndarray
    """(c,) seconds to adapt to a fold's tasks and predict their query rows, all draws, mean over fits"""
    notes: dict[str, str]
    """rival -> what its fits said, or why it was left out; empty where there is nothing to say"""
    settings: dict[str, Any]
    """n_support, n_folds, n_draws, n_repeats, clip, seed, weighting, level, target_variance"""
    later_losses: np.ndarray | None = None
    """(m, c) loss of each task of the last third by fits to the tasks before its block alone, NaN for the others; None
    where tasks have no order"""

    @property
    def level(self) -> float:
        """Nominal coverage of the intervals."""
        return float(self.settings["level"])

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the rivals that were not left out."""
        return tuple(name for i, name in enumerate(self.names) if not np.isnan(self.task_losses[:, i]).any())

    @property
    def base(self) -> str:
        """The rival that others are held against: "default" where it was measured, else the best."""
        return "default" if "default" in self.measured else self.best

    def label(self, name: str) -> str:
        """Return what a rival is called in tables and figures."""
        return self.labels[self.names.index(_check.one_of(name, "name", self.names))]

    def losses(self, name: str) -> np.ndarray:
        """Return the losses (m,) of the tasks under one rival. Raises InputError for one that was not measured."""
        return self.task_losses[:, self.names.index(_check.one_of(name, "name", self.measured))]

    @property
    def weights(self) -> np.ndarray:
        """(m,) how much each task counts: 1, or with weighting "rows" its query rows."""
        return weights_of(self.task_rows, self.settings["weighting"])

    def mean_loss(self, name: str) -> tuple[float, float]:
        """Return the mean loss over tasks, and its standard error."""
        return mean_over_tasks(self.losses(name), self.weights)

    def difference(self, a: str, b: str, level: float | None = None) -> Difference:
        """Return the mean loss of ``a`` minus that of ``b``, paired by task, with an interval at ``level``.

        Standard error and interval allow for training tasks that folds share; see ``undertow.comparison.interval``.

        Parameters
        ----------
        level
            None for that of ``compare``.

        Raises
        ------
        InputError
            for names that were not measured.
        """
        gaps = self.losses(a) - self.losses(b)
        return corrected(gaps, self.weights, int(self.settings["n_folds"]), self.level if level is None else level)

    def ranking(self) -> list[str]:
        """Return the names of the measured rivals, from the least mean loss up."""
        return sorted(self.measured, key=lambda name: self.mean_loss(name)[0])

    @property
    def best(self) -> str:
        """The rival with the least mean loss."""
        return self.ranking()[0]

    @property
    def verdict(self) -> str:
        """Return the rival with the least error, the base's difference from it, and how the others stand to it."""
        return " ".join(filter(None, (self._on_random_folds, self.by_time)))

    @property
    def by_time(self) -> str:
        """Say which rival has the least error on later tasks by fits to earlier ones; empty where there is no order."""
        if self.later_losses is None:
            return ""
        means = {name: self.later_loss(name)[0] for name in self.measured}
        least, base = min(means, key=means.__getitem__), self.base
        tested = ~np.isnan(self.later_losses[:, self.names.index(least)])
        before = float(np.average(self.losses(base)[tested], weights=self.weights[tested]))
        own = "" if least == base else f"{share(means[least])}); {self.label(base)} ("
        return (
            f"By time, {tested.sum()} later tasks by fits to earlier ones: least error {self.label(least)} (MSE {own}"
            f"{share(means[base])}, on random folds {share(before)})."
        )

    def later_loss(self, name: str) -> tuple[float, float]:
        """Return the mean loss over later tasks by fits to earlier ones, and its standard error.

        Raises InputError without an order."""
        if self.later_losses is None:
            raise InputError(None, rule="tasks have no order in time.", way_out="Read the table with task_order.")
        losses = self.later_losses[:, self.names.index(_check.one_of(name, "name", self.measured))]
        tested = ~np.isnan(losses)
        return mean_over_tasks(losses[tested], self.weights[tested])

    @property
    def _on_random_folds(self) -> str:
        best, *others = self.ranking()
        loss = f"MSE {share(self.mean_loss(best)[0])} of the target's variance"
        if not others:
            return f"{self.label(best)} is the only rival that was measured ({loss})."
        standing = {name: self.standing(name, best) for name in others}
        parts = [f"Least held-out error: {self.label(best)} ({loss})."]
        if best != self.base:
            parts.append(f"{self.compared(self.base, best)}.")
            del standing[self.base]
        for what, words in (
            (Standing.LEVEL, "Not significantly different from the best"),
            (Standing.EQUAL, "Negligibly different"),
            (Standing.WORSE, "Worse"),
        ):
            named = [name for name in standing if standing[name] is what]
            if named:
                parts.append(f"{words}: {self._listed(named)}.")
        return " ".join(parts)

    def weight_note(self, task: str = "") -> str:
        """Return a sentence where one task has far more rows than others; an empty text where none has.

        Parameters
        ----------
        task
            what an id is called after, such as the name of the task column.
        """
        rows, weighting = self.task_rows + self.settings["n_support"], self.settings["weighting"]
        most = int(rows.argmax())
        held, effective = float(rows[most] / rows.sum()), effective_number(self.weights)
        return large_task(str(self.task_ids[most]), held, len(rows), effective, weighting, task)

    def compared(self, name: str, other: str) -> str:
        """Return how a rival compares with another: conclusion, difference, interval."""
        gap, standing = self.difference(name, other), self.standing(name, other)
        how = "differs negligibly from" if standing is Standing.EQUAL else compared(-gap.high, -gap.low)
        return (
            f"{self.label(name)} {how} {self.label(other)} (difference {gap.estimate:+.4f}, {100 * self.level:g} % CI "
            f"{gap.low:+.4f} to {gap.high:+.4f})"
        )

    def standing(self, name: str, other: str) -> Standing:
        """Return how a rival stands to another, by the interval of their difference."""
        gap = self.difference(name, other)
        if not gap.significant:
            return Standing.LEVEL
        # Rounding makes a difference of losses of 0.
        little = max(NEGLIGIBLE / 100 * min(self.mean_loss(name)[0], self.mean_loss(other)[0]), 1e-12)
        if max(abs(gap.low), abs(gap.high)) < little:
            return Standing.EQUAL
        return Standing.BETTER if gap.estimate < 0 else Standing.WORSE

    def _listed(self, names: list[str]) -> str:
        return "; ".join(self.label(name) for name in names)

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each rival, best first, those left out last.

        Keys: name, label, loss, standard_error, difference (from ``base``), difference_error, low, high, fit_seconds,
        adapt_seconds, note; where tasks have an order also loss_later, standard_error_later. Values are None where
        there is none.
        """
        rows = []
        for name in [*self.ranking(), *(n for n in self.names if n not in self.measured)]:
            i = self.names.index(name)
            row: dict[str, Any] = {"name": name, "label": self.labels[i]}
            seen = name in self.measured
            loss, error = self.mean_loss(name) if seen else (None, None)
            gap = self.difference(name, self.base) if seen and name != self.base else (None,) * 4
            row |= {"loss": loss, "standard_error": error}
            row |= dict(zip(("difference", "difference_error", "low", "high"), gap, strict=True))
            row["fit_seconds"] = float(self.fit_seconds[i]) if seen else None
            row["adapt_seconds"] = float(self.adapt_seconds[i]) if seen else None
            if self.later_losses is not None:
                later = self.later_loss(name) if seen else (None, None)
                row |= {"loss_later": later[0], "standard_error_later": later[1]}
            rows.append(row | {"note": self.notes[name]})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return settings, verdict, table and the losses of folds as values that JSON can hold."""
        return plain(
            {
                "settings": self.settings,
                "verdict": self.verdict,
                "best": self.best,
                "base": self.base,
                "n_tasks": len(self.task_ids),
                "rivals": self.table(),
                "fold_losses": {n: self.fold_losses[:, self.names.index(n)].tolist() for n in self.measured},
            }
        )
