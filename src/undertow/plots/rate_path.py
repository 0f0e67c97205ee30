"""Figures of a choice of rates: the loss around the circle of train rates, and over both rates.

A display holds data and draws late, on axes of its own or on given ones, as scikit-learn's displays do: ``plot``
returns the display, with its axes as ``ax_`` and their figure as ``figure_``. ``from_estimator`` draws at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from undertow._check import InputError
from undertow._circle import angles_of
from undertow.choice.rate_comparison import RateComparison
from undertow.choice.rate_picks import STRATEGIES
from undertow.choice.record import RateInterval
from undertow.linear.surface import LossSurface
from undertow.plots import style
from undertow.plots.fitted import gradient_ridge, kept, loss_name
from undertow.plots.panel import add_legend, panel, wrapped

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
    interval: RateInterval | None = None
    """where the best train rate lies, in spectral units"""
    loss_name: str = "mean squared error"
    """what twice a loss measures: the label of the axis"""

    ax_: Any = field(default=None, init=False, repr=False)
    """axes of the last drawing"""
    figure_: Any = field(default=None, init=False, repr=False)
    """and their figure"""

    @classmethod
    def from_path(cls, surface: LossSurface) -> RatePathDisplay:
        """Display of a path on new tasks: ``path.evaluate(new_tasks)``; with several ridges, the best at each rate."""
        loss = surface.best_loss
        return cls(surface.train_rates, loss if loss.ndim == 1 else loss.min(axis=1), surface.scale)

    @classmethod
    def from_comparison(cls, comparison: RateComparison, interval: RateInterval | None = None) -> RatePathDisplay:
        """Display of a choice by cross-validation, with the strategies' picks marked.

        interval: of the best train rate, from an estimator's ``choice_``; a comparison has none of its own.
        """
        marks = {name: (one.train_rate, one.loss) for name, one in comparison.picks.items() if name != "joint"}
        rates = comparison.surface.train_rates
        return cls(rates, comparison.curve, comparison.scale, comparison.curve_errors, marks, interval)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> RatePathDisplay:
        """Draw the search of a fitted MAMLRegressorCV or MAMLClassifierCV: the gradient rule at all its train rates.

        The curve is the cross-validated loss at the ridge of the best signed rate (``cv_surface_``), also where another
        rule than the gradient step is used. Marked are train rate 0, the best signed rate, and the interval of
        ``choice_``. With several targets the loss is the mean over the standardised targets.
        ax: axes to draw on; None for a new figure. Raises InputError where the estimator holds nothing to draw.
        """
        surface, choice = kept(estimator, "cv_surface_"), kept(estimator, "choice_")
        rates = surface.train_rates
        loss = surface.best_loss[:, _column(surface, gradient_ridge(estimator))]
        best = int(np.abs(angles_of(rates / surface.scale, 1.0) - np.arctan(choice.train_rate)).argmin())
        marks = {"step": (0.0, float(loss[rates == 0][0])), "signed": (float(rates[best]), float(loss[best]))}
        made = cls(rates, loss, surface.scale, None, marks, choice.interval, loss_name(estimator))
        return made.plot(ax)

    def plot(self, ax: Any = None, *, unit: float = 1.0, legend: bool = True) -> RatePathDisplay:
        """Draw on ``ax`` or on a new figure, and return the display. ``unit``: what a loss of 1 is multiplied by."""
        with style.context():
            ax, own = panel(ax, height=3.4 if self.interval is None else 4.0)
            angles, loss = angles_of(self.train_rates, self.scale), 2 * unit * self.loss
            if self.errors is not None:
                width = 4 * unit * self.errors
                ax.fill_between(
                    angles, loss - width, loss + width, color=style.BLUE, alpha=0.15, linewidth=0,
                    label="\u00b1 2 standard errors of the difference from rate 0",
                )  # fmt: skip
            ax.plot(angles, loss, color=style.BLUE, label="best adapt rate at each train rate")
            for name, (rate, value) in self.marks.items():
                mark, colour = _MARKS[name]
                place = float(angles_of(np.array(rate), self.scale))
                ax.plot(
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
            # Below the curve there is room for the interval.
            room = 0.25 if self.interval is None else 0.4
            ax.set_ylim(low - room * spread - 1e-12, low + 1.6 * spread)
            style.circle_axis(ax, 1.0, label="train rate, in units of 1 / largest eigenvalue")
            ax.set_ylabel(wrapped(self.loss_name))
            if self.interval is not None:
                draw_interval(ax, self.interval)
            if legend:
                add_legend(ax, own)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def draw_interval(ax: Any, interval: RateInterval) -> None:
    """Draw an interval of rates as a bar near the bottom of axes whose x values are angles.

    An interval that runs through infinity leaves at one end and comes in at the other, with an arrow at both.
    """
    ends = (-np.pi / 2, np.pi / 2)
    if interval.whole_circle:
        parts = [ends]
    else:
        low, high = np.arctan([interval.low, interval.high])
        parts = [(low, high)] if low <= high else [(ends[0], high), (low, ends[1])]
    height, across = 0.04, ax.get_xaxis_transform()
    where = "any rate may be the best" if interval.whole_circle else str(interval)
    words = (
        f"{100 * interval.level:g} % interval of the best train rate:\n{where};\n"
        f"{100 * interval.sign_probability:.0f} % of bootstrap curves have it negative"
    ).replace("-", "\u2212")
    for i, part in enumerate(parts):
        ax.plot(
            part, (height, height), color=style.PURPLE, linewidth=5, solid_capstyle="butt", transform=across, zorder=3,
            label=words if i == 0 else None,
        )  # fmt: skip
        if not interval.whole_circle:
            ax.axvspan(*part, color=style.PURPLE, alpha=0.07, linewidth=0, zorder=0.4)
        for end, mark in zip(ends, "<>", strict=True):
            if end in part:
                ax.plot(end, height, mark, color=style.PURPLE, markersize=9, transform=across, clip_on=False, zorder=3)


def _column(surface: LossSurface, ridge: float) -> int:
    """Position of a ridge among those of a surface; InputError where it is none of them."""
    found = np.flatnonzero(surface.ridges == ridge)
    if not len(found):
        known = ", ".join(f"{one:g}" for one in surface.ridges)
        raise InputError(f"ridge={ridge!r} is no ridge of this surface: choose one of {known}.")
    return int(found[0])


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
    loss_name: str = "mean squared error"
    """what twice a loss measures: the label of the colours"""

    ax_: Any = field(default=None, init=False, repr=False)
    """axes of the last drawing"""
    figure_: Any = field(default=None, init=False, repr=False)
    """and their figure"""

    @classmethod
    def from_surface(cls, surface: LossSurface, ridge: float | None = None, n_rates: int = 121) -> LossSurfaceDisplay:
        """Display of a surface at one ridge (None: that of the least loss).

        Raises InputError for a ridge that the surface was not made for.
        """
        losses, adapts = surface.best_loss, surface.best_adapt_rate
        column = _column(surface, surface.best().ridge if ridge is None else ridge)
        if losses.ndim == 2:
            losses, adapts = losses[:, column], adapts[:, column]
        k = int(np.where(np.isfinite(losses), losses, np.inf).argmin())
        best = float(adapts[k] / surface.scale)
        # The best rate lies within, with room beyond it, whatever its sign.
        reach = max(float(np.clip(2.5 * abs(best), 0.1, 3.0)), 1.25 * abs(best))
        adapt = np.linspace(-0.25 * reach, reach, n_rates) * (-1 if best < 0 else 1)
        adapt.sort()
        loss = surface.loss(adapt * surface.scale)
        if loss.ndim == 3:
            loss = loss[:, column]
        angles = angles_of(surface.train_rates, surface.scale)
        return cls(angles, adapt, loss, (float(angles[k]), best))

    @classmethod
    def from_path(cls, surface: LossSurface, ridge: float | None = None, n_rates: int = 121) -> LossSurfaceDisplay:
        """Display of a path on new tasks, ``path.evaluate(new_tasks)``: another name of ``from_surface``."""
        return cls.from_surface(surface, ridge, n_rates)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> LossSurfaceDisplay:
        """Draw the cross-validated loss of a fitted estimator with CV over both rates of the gradient rule.

        It is taken at the ridge of the best signed rate, also where another rule than the gradient step is used; the
        star is the best pair. With several targets the loss is the mean over the standardised targets.
        ax: axes to draw on; None for a new figure. Raises InputError where the estimator holds nothing to draw.
        """
        made = cls.from_surface(kept(estimator, "cv_surface_"), gradient_ridge(estimator))
        made.loss_name = loss_name(estimator)
        return made.plot(ax)

    def plot(self, ax: Any = None, *, unit: float = 1.0) -> LossSurfaceDisplay:
        """Draw on ``ax`` or on a new figure, and return the display. ``unit``: what a loss of 1 is multiplied by."""
        with style.context():
            ax, _ = panel(ax)
            loss = 2 * unit * self.loss.T
            # Levels are close where the loss is low: there the choice is made.
            rise = np.quantile(loss, 0.6) - loss.min()
            levels = loss.min() + rise * np.linspace(0, 1, 13) ** 2
            levels[0] -= 1e-9 * max(rise, 1e-9)
            drawn = ax.contourf(
                self.angles, self.adapt_rates, loss, levels=np.unique(levels), cmap="viridis_r", extend="max"
            )
            ax.plot(*self.best, "*", color=style.ORANGE, markersize=11, markeredgecolor="white", markeredgewidth=0.6)
            ax.axhline(0, color="white", linewidth=0.7)
            style.circle_axis(ax, 1.0, label="train rate, in units of 1 / largest eigenvalue")
            ax.set_ylabel("adapt rate, same unit")
            ax.grid(False)
            ax.figure.colorbar(drawn, ax=ax, format="%.4g", label=wrapped(self.loss_name))
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass
class StrategyDisplay:
    """Held-out loss of each strategy, drawn as its gain over no inner loop, paired by task."""

    names: list[str]
    differences: np.ndarray
    """(s,) mean squared error minus that of "step" """
    errors: np.ndarray
    """(s,) its standard error over tasks"""
    base: float
    """mean squared error of "step" """

    ax_: Any = field(default=None, init=False, repr=False)
    """axes of the last drawing"""
    figure_: Any = field(default=None, init=False, repr=False)
    """and their figure"""

    @classmethod
    def from_comparison(cls, comparison: RateComparison) -> StrategyDisplay:
        """Display of the strategies of a comparison."""
        pairs = np.array([comparison.difference(name, "step") for name in STRATEGIES])
        return cls(list(STRATEGIES), 2 * pairs[:, 0], 2 * pairs[:, 1], 2 * comparison.mean_loss("step")[0])

    def plot(self, ax: Any = None) -> StrategyDisplay:
        """Draw on ``ax`` or on a new figure, and return the display."""
        with style.context():
            ax, _ = panel(ax, height=2.4)
            for i, name in enumerate(self.names):
                mark, colour = _MARKS[name]
                gap, error = (100 * value / self.base for value in (-self.differences[i], self.errors[i]))
                size = 11 if mark == "*" else 6
                ax.errorbar(gap, i, xerr=2 * error, fmt=mark, color=colour, markersize=size, capsize=3, linewidth=1.2)
            ax.axvline(0, color=style.GREY, linewidth=0.7, zorder=0)
            labels = ["\n".join(wrap(STRATEGIES[name], 22)) for name in self.names]
            ax.set_yticks(range(len(self.names)), labels)
            ax.set_ylim(len(self.names) - 0.5, -0.5)
            ax.grid(axis="y", visible=False)
            ax.set_xlabel("gain over no inner loop, % of its loss (\u00b1 2 s.e.)")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def comparison_figure(comparison: RateComparison, title: str, interval: RateInterval | None = None) -> Figure:
    """Three panels: the loss around the circle, the loss over both rates, and the strategies on held-out tasks.

    interval: of the best train rate, from an estimator's ``choice_``, drawn on the circle.
    """
    with style.context():
        made, axes = style.figure(columns=3, width=4.6, height=3.9)
        RatePathDisplay.from_comparison(comparison, interval).plot(axes[0, 0], legend=False)
        axes[0, 0].set_title("cross-validated loss, each at its best adapt rate")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower left", ncols=3)
        LossSurfaceDisplay.from_surface(comparison.surface, comparison.picks["signed"].ridge).plot(axes[0, 1])
        axes[0, 1].set_title("cross-validated loss over both rates")
        StrategyDisplay.from_comparison(comparison).plot(axes[0, 2])
        axes[0, 2].set_title("on tasks that the choice has not seen")
        made.suptitle("\n".join(wrap(title, 150)), x=0.01, ha="left", fontsize=10.5)
    return made
