"""Figures of a choice of rates: the loss around the circle of train rates, and over both rates.

A display holds data and draws late, on axes of its own or on given ones, as scikit-learn's displays do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from undertow.linear.circle import angles_of
from undertow.linear.held_out import RateComparison
from undertow.linear.select import STRATEGIES
from undertow.linear.surface import LossSurface
from undertow.plots import style

_MARKS = {
    "joint": ("s", style.GREY),
    "step": ("o", style.INK),
    "tied": ("D", style.GREEN),
    "signed": ("*", style.ORANGE),
}


@dataclass
class RatePathDisplay:
    """Loss at the best adapt rate against the train rate, drawn around the circle of rates."""

    train_rates: np.ndarray
    """(k,) raw rates"""
    loss: np.ndarray
    """(k,) half mean squared error, each at its best adapt rate"""
    scale: float
    """spectral unit of a rate"""
    errors: np.ndarray | None = None
    """(k,) standard error of the difference from train rate 0"""
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    """strategy -> its train rate and loss"""

    @classmethod
    def from_path(cls, surface: LossSurface) -> RatePathDisplay:
        """Display of a path on new tasks: ``path.evaluate(new_tasks)``; with several ridges, the best at each rate."""
        loss = surface.best_loss
        return cls(surface.train_rates, loss if loss.ndim == 1 else loss.min(axis=1), surface.scale)

    @classmethod
    def from_comparison(cls, comparison: RateComparison) -> RatePathDisplay:
        """Display of a choice by cross-validation, with the strategies' picks marked."""
        marks = {name: (one.train_rate, one.loss) for name, one in comparison.picks.items() if name != "joint"}
        rates = comparison.surface.train_rates
        return cls(rates, comparison.curve, comparison.scale, comparison.curve_errors, marks)

    def plot(self, axes: Any = None, *, unit: float = 1.0) -> Any:
        """Draw on ``axes`` (or on a new figure) and return the axes. ``unit``: what a loss of 1 is multiplied by."""
        with style.context():
            if axes is None:
                axes = style.figure(width=5.5)[1][0, 0]
            angles, loss = angles_of(self.train_rates, self.scale), 2 * unit * self.loss
            if self.errors is not None:
                width = 4 * unit * self.errors
                axes.fill_between(
                    angles, loss - width, loss + width, color=style.BLUE, alpha=0.15, linewidth=0,
                    label="\u00b1 2 standard errors of the difference from rate 0",
                )  # fmt: skip
            axes.plot(angles, loss, color=style.BLUE, label="best adapt rate at each train rate")
            for name, (rate, value) in self.marks.items():
                mark, colour = _MARKS[name]
                place = float(angles_of(np.array(rate), self.scale))
                axes.plot(
                    place, 2 * unit * value, mark, color=colour, markersize=11 if mark == "*" else 6,
                    markeredgecolor="white", markeredgewidth=0.6, label=STRATEGIES[name], zorder=4,
                )  # fmt: skip
            # Losses far off, at large rates, must not flatten what matters.
            low, near = loss.min(), np.quantile(loss, 0.75)
            spread = (
                max(near - low, 0.02 * abs(low))
                if self.errors is None
                else max(near - low, 4 * unit * self.errors.max())
            )
            axes.set_ylim(low - 0.25 * spread - 1e-12, low + 1.6 * spread)
            style.circle_axis(axes, 1.0, label="train rate, in units of 1 / largest eigenvalue")
            axes.set_ylabel("mean squared error")
        return axes


@dataclass
class LossSurfaceDisplay:
    """Loss over both rates, with the adapt rate in spectral units and the train rate around the circle."""

    angles: np.ndarray
    """(k,) angles of the train rates"""
    adapt_rates: np.ndarray
    """(q,) adapt rates in spectral units"""
    loss: np.ndarray
    """(k, q) half mean squared error"""
    best: tuple[float, float]
    """angle and adapt rate (spectral) of the least loss"""

    @classmethod
    def from_surface(cls, surface: LossSurface, ridge: float | None = None, n_rates: int = 121) -> LossSurfaceDisplay:
        """Display of a surface at one ridge (None: that of the least loss)."""
        best = surface.best()
        ridge = best.ridge if ridge is None else ridge
        top = float(np.clip(2.5 * best.adapt_rate / surface.scale, 0.1, 3.0))
        adapt = np.linspace(-0.25 * top, top, n_rates)
        loss = surface.loss(adapt * surface.scale)
        if loss.ndim == 3:
            loss = loss[:, int(np.flatnonzero(surface.ridges == ridge)[0])]
        place = float(angles_of(np.array(best.train_rate), surface.scale))
        return cls(angles_of(surface.train_rates, surface.scale), adapt, loss, (place, best.adapt_rate / surface.scale))

    def plot(self, axes: Any = None, *, unit: float = 1.0) -> Any:
        """Draw on ``axes`` (or on a new figure) and return the axes. ``unit``: what a loss of 1 is multiplied by."""
        with style.context():
            made = None
            if axes is None:
                made, all_axes = style.figure(width=5.5)
                axes = all_axes[0, 0]
            loss = 2 * unit * self.loss.T
            # Levels are close where the loss is low: there the choice is made.
            rise = np.quantile(loss, 0.6) - loss.min()
            levels = loss.min() + rise * np.linspace(0, 1, 13) ** 2
            levels[0] -= 1e-9 * max(rise, 1e-9)
            drawn = axes.contourf(
                self.angles, self.adapt_rates, loss, levels=np.unique(levels), cmap="viridis_r", extend="max"
            )
            axes.plot(*self.best, "*", color=style.ORANGE, markersize=11, markeredgecolor="white", markeredgewidth=0.6)
            axes.axhline(0, color="white", linewidth=0.7)
            style.circle_axis(axes, 1.0, label="train rate, in units of 1 / largest eigenvalue")
            axes.set_ylabel("adapt rate, same unit")
            axes.grid(False)
            (made or axes.figure).colorbar(drawn, ax=axes, format="%.4g", label="mean squared error")
        return axes


@dataclass
class StrategyDisplay:
    """Held-out loss of each strategy, as the difference from no inner loop, paired by task."""

    names: list[str]
    differences: np.ndarray
    """(s,) mean squared error minus that of "step" """
    errors: np.ndarray
    """(s,) its standard error over tasks"""
    base: float
    """mean squared error of "step" """

    @classmethod
    def from_comparison(cls, comparison: RateComparison) -> StrategyDisplay:
        """Display of the strategies of a comparison."""
        pairs = np.array([comparison.difference(name, "step") for name in STRATEGIES])
        return cls(list(STRATEGIES), 2 * pairs[:, 0], 2 * pairs[:, 1], 2 * comparison.mean_loss("step")[0])

    def plot(self, axes: Any = None) -> Any:
        """Draw on ``axes`` (or on a new figure) and return the axes."""
        with style.context():
            if axes is None:
                axes = style.figure(width=5.5, height=2.4)[1][0, 0]
            for i, name in enumerate(self.names):
                mark, colour = _MARKS[name]
                gap, error = (100 * values[i] / self.base for values in (self.differences, self.errors))
                size = 11 if mark == "*" else 6
                axes.errorbar(gap, i, xerr=2 * error, fmt=mark, color=colour, markersize=size, capsize=3, linewidth=1.2)
            axes.axvline(0, color=style.GREY, linewidth=0.7, zorder=0)
            labels = ["\n".join(wrap(STRATEGIES[name], 22)) for name in self.names]
            axes.set_yticks(range(len(self.names)), labels)
            axes.set_ylim(len(self.names) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.set_xlabel("change of held-out loss, % (\u00b1 2 s.e.)")
        return axes


def comparison_figure(comparison: RateComparison, title: str) -> Figure:
    """Three panels: the loss around the circle, the loss over both rates, and the strategies on held-out tasks."""
    with style.context():
        made, axes = style.figure(columns=3, width=4.6, height=3.9)
        RatePathDisplay.from_comparison(comparison).plot(axes[0, 0])
        axes[0, 0].set_title("cross-validated loss, each at its best adapt rate")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower left", ncols=3)
        LossSurfaceDisplay.from_surface(comparison.surface, comparison.picks["signed"].ridge).plot(axes[0, 1])
        axes[0, 1].set_title("cross-validated loss over both rates")
        StrategyDisplay.from_comparison(comparison).plot(axes[0, 2])
        axes[0, 2].set_title("on tasks that the choice has not seen")
        made.suptitle("\n".join(wrap(title, 150)), x=0.01, ha="left", fontsize=10.5)
    return made
