"""Strategies on held-out tasks: the error of each, and what it gains over common weights that are not adapted."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from undertow.choice import words
from undertow.choice.record import Choice, Gain
from undertow.plots import style
from undertow.plots.fitted import kept
from undertow.plots.panel import Display, panel
from undertow.plots.rate_path import LossSurfaceDisplay, RatePathDisplay


@dataclass
class StrategyDisplay(Display):
    """Held-out error of each strategy: its gain over prediction without rows, paired by task, with an interval.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.estimators.fit_table(ut.MAMLRegressorCV(rules="proximal", n_draws=1, effort="fast"), table)
    >>> display = ut.plots.StrategyDisplay.from_choice(model.choice_)
    >>> display.used, len(display.names)
    ('blend', 7)
    """

    names: list[str]
    """(s,) strategies, the least error first"""
    mse: np.ndarray
    """(s,) held-out mean squared error"""
    gains: list[Gain]
    """(s,) over the prediction of tasks without rows"""
    used: str
    """the strategy that the estimator uses"""
    level: float = 0.95
    """nominal coverage of the intervals"""

    @classmethod
    def from_choice(cls, choice: Choice) -> StrategyDisplay:
        """Return the display of all strategies of a choice."""
        names = [row.name for row in words.rows(choice)]
        every = [choice.candidates[name] for name in names]
        mse = np.array([one.mse for one in every])
        return cls(names, mse, [one.gain for one in every], choice.strategy, choice.interval.level)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> StrategyDisplay:
        """Draw the strategies that a fitted estimator with CV has tried, and return the display.

        Parameters
        ----------
        ax
            axes to draw on; None for a new figure.

        Raises
        ------
        InputError
            where the estimator holds nothing to draw.
        """
        return cls.from_choice(kept(estimator, "choice_")).plot(ax)

    def plot(self, ax: Any = None) -> StrategyDisplay:
        """Draw on ``ax`` or on a new figure, and return the display."""
        with style.context():
            ax, _ = panel(ax, height=0.8 + 0.3 * len(self.names))
            for i, (name, gain) in enumerate(zip(self.names, self.gains, strict=True)):
                colour = style.ORANGE if name == self.used else style.INK
                ax.plot((gain.low, gain.high), (i, i), color=colour, linewidth=1.4, solid_capstyle="butt")
                ax.plot(gain.percent, i, "D" if name == self.used else "o", color=colour, markersize=5, zorder=4)
            ax.axvline(0, color=style.GREY, linewidth=0.7, zorder=0)
            ax.set_yticks(range(len(self.names)), [words.short(name) for name in self.names], fontsize=7.5)
            ax.set_ylim(len(self.names) - 0.5, -0.5)
            ax.grid(axis="y", visible=False)
            ax.set_xlabel(f"gain over prediction without rows, % ({100 * self.level:g} % interval)")
            # The errors themselves, on an axis of their own at the right.
            side = ax.secondary_yaxis("right")
            side.set_yticks(range(len(self.names)), [f"{words.share(value)}\u2002" for value in self.mse], fontsize=7.5)
            side.tick_params(length=0)
            side.spines["right"].set_visible(False)
            ax.annotate(
                "MSE", (1, 1), xytext=(4, 2), xycoords="axes fraction", textcoords="offset points", fontsize=7.5
            )
        self.ax_ = ax
        return self


def choice_figure(estimator: Any, title: str) -> Figure:
    """Return three panels of an estimator with CV: its error around the circle, over both rates, and its strategies.

    Parameters
    ----------
    estimator
        a fitted estimator with CV.
    title
        text above the figure.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressorCV(n_draws=1, rules="gradient").fit(table.x, table.y, groups=table.groups)
    >>> ut.plots.choice_figure(model, "Life expectancy").get_suptitle()
    'Life expectancy'
    """
    with style.context():
        made, axes = style.figure(columns=3, width=5.0, height=4.1)
        RatePathDisplay.from_choice(kept(estimator, "choice_")).plot(axes[0, 0], legend=False)
        axes[0, 0].set_title("gradient step: error that its rate is chosen on")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower left", ncols=5)
        LossSurfaceDisplay.from_estimator(estimator, ax=axes[0, 1])
        axes[0, 1].set_title("gradient step: the same over both rates")
        StrategyDisplay.from_estimator(estimator, ax=axes[0, 2])
        axes[0, 2].set_title("all strategies, on held-out tasks")
        made.suptitle("\n".join(wrap(title.replace(" %", "\u00a0%"), 170)), x=0.01, ha="left", fontsize=10.5)
    return made
