"""Figures of a choice of rates: the error around the circle of train rates, and over both rates.

A display holds data and draws late, on axes of its own or on given ones, as scikit-learn's displays do: ``plot``
returns the display, with its axes as ``ax_`` and their figure as ``figure_``. ``from_estimator`` draws at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._circle import angles_of
from undertow.choice import words
from undertow.choice.record import Choice, RateInterval
from undertow.linear.surface import LossSurface
from undertow.plots import style
from undertow.plots.fitted import gradient_ridge, kept, loss_name
from undertow.plots.panel import Display, add_legend, panel, wrapped

_MARKS = {"no inner loop": ("o", style.INK), "best train rate": ("*", style.ORANGE)}


@dataclass
class RatePathDisplay(Display):
    """Mean squared error at the best adapt rate against the train rate, drawn around the circle of rates.

    Examples
    --------
    >>> import undertow as ut
    >>> problem, design = ut.MixedLinearRegression(n_features=8), ut.Design(n_tasks=20, n_support=12, n_query=5)
    >>> surface = ut.rate_path(problem.sample(design, seed=0)).evaluate(problem.sample(design, seed=1))
    >>> display = ut.plots.RatePathDisplay.from_path(surface)
    >>> len(display.mse)
    101
    """

    train_rates: np.ndarray
    """(k,) raw rates, in order around the circle"""
    mse: np.ndarray
    """(k,) mean squared error, each at its best adapt rate"""
    scale: float
    """spectral unit of a rate"""
    errors: np.ndarray | None = None
    """(k,) standard error of the difference from train rate 0"""
    marks: dict[str, float] = field(default_factory=dict)
    """what is marked -> its train rate: "no inner loop", "best train rate" """
    interval: RateInterval | None = None
    """where the best train rate lies"""
    loss_name: str = "mean squared error"
    """the label of the axis"""

    @classmethod
    def from_path(cls, surface: LossSurface) -> RatePathDisplay:
        """Return the display of ``path.evaluate(new_tasks)``; of several ridges the best one at each rate is shown."""
        loss = surface.best_loss
        return cls(surface.train_rates, 2 * (loss if loss.ndim == 1 else loss.min(axis=1)), surface.scale)

    @classmethod
    def from_choice(cls, choice: Choice, loss_name: str = "mean squared error / variance") -> RatePathDisplay:
        """Return the display of a choice: the gradient rule's cross-validated error, and the interval of its rate."""
        curve = choice.curve
        # Infinity is there once: both ends of the axis are that point.
        closed = [np.append(column, column[0]) for column in (curve.train_rates, curve.mse, curve.standard_errors)]
        rates = np.append(closed[0][:-1], np.inf) if np.isinf(closed[0][0]) else closed[0]
        marks = {"no inner loop": 0.0, "best train rate": choice.signed["train_rate"]}
        return cls(rates, closed[1], choice.scale, closed[2], marks, choice.interval, loss_name)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> RatePathDisplay:
        """Draw the search of a fitted estimator with CV, the gradient rule at all its train rates; return the display.

        All is read from ``choice_``: the cross-validated error at the ridge of the best signed rate, also where another
        rule than the gradient step is used; its band, the best rate and its interval. The curve is what the best rate
        was chosen on, so that its least value is below the held-out error of ``choice_.candidates["signed"]``. With
        several targets the error is the mean over the standardised targets.

        Parameters
        ----------
        ax
            axes to draw on; None for a new figure.

        Raises
        ------
        InputError
            where the estimator holds nothing to draw.
        """
        return cls.from_choice(kept(estimator, "choice_"), loss_name(estimator)).plot(ax)

    def plot(self, ax: Any = None, *, unit: float = 1.0, legend: bool = True) -> RatePathDisplay:
        """Draw on ``ax`` or on a new figure, and return the display. ``unit``: what an error of 1 is multiplied by."""
        with style.context():
            ax, own = panel(ax, height=3.4 if self.interval is None else 4.0)
            angles, loss = angles_of(self.train_rates, self.scale), unit * self.mse
            if self.errors is not None:
                width = 2 * unit * self.errors
                ax.fill_between(
                    angles, loss - width, loss + width, color=style.BLUE, alpha=0.15, linewidth=0,
                    label="\u00b1 2 standard errors of the difference from rate 0",
                )  # fmt: skip
            ax.plot(angles, loss, color=style.BLUE, label="best adapt rate at each train rate")
            for name, rate in self.marks.items():
                mark, colour = _MARKS[name]
                place = float(angles_of(np.array(rate), self.scale))
                ax.plot(
                    place, np.interp(place, angles, loss), mark, color=colour, markersize=11 if mark == "*" else 6,
                    markeredgecolor="white", markeredgewidth=0.6, label=f"{name} ({words.rate(rate / self.scale)})"
                    .replace("-", "\u2212"), zorder=4,
                )  # fmt: skip
            # Losses far off, at large rates, must not flatten what matters.
            low, near = loss.min(), np.quantile(loss, 0.75)
            spread = (
                max(near - low, 0.02 * abs(low))
                if self.errors is None
                else max(near - low, 2 * unit * self.errors.max())
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
        self.ax_ = ax
        return self


def draw_interval(ax: Any, interval: RateInterval) -> None:
    """Draw an interval of rates as a bar near the bottom of axes whose x values are angles.

    An interval that runs through infinity leaves at one end and comes in at the other, with an arrow at both.
    """
    ends = (-np.pi / 2, np.pi / 2)
    if interval.whole_circle:
        parts = [ends]
    else:
        low, high = np.arctan([interval.low_spectral, interval.high_spectral])
        parts = [(low, high)] if low <= high else [(ends[0], high), (low, ends[1])]
    height, across = 0.04, ax.get_xaxis_transform()
    text = (
        f"{100 * interval.level:g} % interval of the best train rate:\n{words.rates_between(interval)};\n"
        f"{100 * interval.sign_probability:.0f} % of bootstrap curves have it negative"
    ).replace("-", "\u2212")
    for i, part in enumerate(parts):
        ax.plot(
            part, (height, height), color=style.PURPLE, linewidth=5, solid_capstyle="butt", transform=across, zorder=3,
            label=text if i == 0 else None,
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
        raise InputError("ridge", ridge, "it is no ridge of this surface.", f"Choose one of {known}.")
    return int(found[0])


@dataclass
class LossSurfaceDisplay(Display):
    """Mean squared error over both rates: the adapt rate in spectral units, the train rate around the circle.

    Examples
    --------
    >>> import undertow as ut
    >>> problem, design = ut.MixedLinearRegression(n_features=8), ut.Design(n_tasks=20, n_support=12, n_query=5)
    >>> surface = ut.rate_path(problem.sample(design, seed=0)).evaluate(problem.sample(design, seed=1))
    >>> display = ut.plots.LossSurfaceDisplay.from_surface(surface)
    >>> display.mse.shape, len(display.angles), len(display.adapt_rates)
    ((101, 121), 101, 121)
    """

    angles: np.ndarray
    """(k,) angles of the train rates"""
    adapt_rates: np.ndarray
    """(q,) adapt rates in spectral units"""
    mse: np.ndarray
    """(k, q) mean squared error"""
    best: tuple[float, float]
    """angle and adapt rate (spectral) of the least error"""
    loss_name: str = "mean squared error"
    """the label of the colours"""

    @classmethod
    def from_surface(cls, surface: LossSurface, ridge: float | None = None, n_rates: int = 121) -> LossSurfaceDisplay:
        """Return the display of a surface at one ridge (None: that of the least loss).

        Raises
        ------
        InputError
            for a ridge that the surface was not made for.
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
        return cls(angles, adapt, 2 * loss, (float(angles[k]), best))

    @classmethod
    def from_path(cls, surface: LossSurface, ridge: float | None = None, n_rates: int = 121) -> LossSurfaceDisplay:
        """Return the display of a path on new tasks, ``path.evaluate(new_tasks)``: another name of ``from_surface``."""
        return cls.from_surface(surface, ridge, n_rates)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> LossSurfaceDisplay:
        """Draw an estimator's cross-validated loss over both rates of the gradient rule, and return the display.

        It is taken at the ridge of the best signed rate, also where another rule than the gradient step is used; the
        star is the best pair. With several targets the loss is the mean over the standardised targets.

        Parameters
        ----------
        ax
            axes to draw on; None for a new figure.

        Raises
        ------
        InputError
            where the estimator holds nothing to draw.
        """
        made = cls.from_surface(kept(estimator, "cv_surface_"), gradient_ridge(estimator))
        made.loss_name = loss_name(estimator)
        return made.plot(ax)

    def plot(self, ax: Any = None, *, unit: float = 1.0) -> LossSurfaceDisplay:
        """Draw on ``ax`` or on a new figure, and return the display. ``unit``: what an error of 1 is multiplied by."""
        with style.context():
            ax, _ = panel(ax)
            loss = unit * self.mse.T
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
        self.ax_ = ax
        return self
