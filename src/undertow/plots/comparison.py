"""Rivals on held-out tasks: differences from one of them with intervals, and what a fit costs."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from undertow.plots import style
from undertow.plots.panel import Display

# Rivals beyond a gap of this factor would press all others together: they are drawn at the edge, with their number.
_GAP = 5.0
_SHOWN = 3


@dataclass
class ComparisonDisplay(Display):
    """Mean squared error of each rival minus that of the base, with its interval, and seconds of a fit.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> plan = ut.comparison.Plan(n_folds=3, n_draws=1)
    >>> found = ut.comparison.compare(table, plan, rivals=["pooled", "alone"], time_limit=None)
    >>> display = ut.plots.ComparisonDisplay.from_comparison(found)
    >>> display.labels, display.differences.shape
    (['ridge, each task alone', 'pooled least squares'], (2,))
    """

    labels: list[str]
    """(c,) rivals, the best first"""
    differences: np.ndarray
    """(c,) over the target's variance; 0 for the base"""
    intervals: np.ndarray
    """(c, 2) their intervals; NaN for the base"""
    seconds: np.ndarray
    """(c,) of one fit"""
    base: int
    """position of the rival that others are held against"""
    base_loss: float
    """its mean squared error over the target's variance"""
    level: float
    """nominal coverage of the intervals"""

    @classmethod
    def from_comparison(cls, comparison: Any, base: str | None = None) -> ComparisonDisplay:
        """Return the display of an ``undertow.comparison.Comparison``; rivals that were left out are not shown.

        Parameters
        ----------
        base
            name of the rival that others are held against; None for ``comparison.base``.
        """
        base = comparison.base if base is None else base
        names = comparison.ranking()
        gaps = [comparison.difference(name, base) for name in names]
        rivals = list(comparison.names)
        return cls(
            [comparison.label(name) for name in names],
            np.array([gap.estimate for gap in gaps]),
            np.array([(np.nan,) * 2 if n == base else gap[2:] for n, gap in zip(names, gaps, strict=True)]),
            np.array([comparison.fit_seconds[rivals.index(name)] for name in names]),
            names.index(base),
            comparison.mean_loss(base)[0],
            comparison.level,
        )

    def plot(self, ax: Any = None, *, seconds_ax: Any = None) -> ComparisonDisplay:
        """Draw on ``ax``, or on a new figure with the seconds at the side, and return the display.

        Parameters
        ----------
        seconds_ax
            axes for the seconds beside given ones; None leaves them out there.
        """
        c = len(self.labels)
        with style.context():
            if ax is None:
                made = Figure(figsize=(7.6, 1.3 + 0.34 * c), layout="constrained")
                ax, seconds_ax = made.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 1]})
            self._draw_differences(ax)
            ax.set_yticks(range(c), ["\n".join(wrap(label, 30)) for label in self.labels])
            ax.set_ylim(c - 0.5, -0.5)
            ax.grid(axis="y", visible=False)
            if seconds_ax is not None:
                self._draw_seconds(seconds_ax)
        self.ax_ = ax
        return self

    def _draw_differences(self, ax: Any) -> None:
        limit = self._limit()
        ends = [0.0]
        for i, (gap, (low, high)) in enumerate(zip(self.differences, self.intervals, strict=True)):
            if i == self.base:
                ax.plot(0, i, "D", color=style.BLUE, markersize=6, zorder=4)
                continue
            colour = style.ORANGE if low > 0 else style.GREEN if high < 0 else style.INK
            if abs(gap) > limit:
                edge = np.sign(gap) * limit
                ax.plot(edge, i, ">" if gap > 0 else "<", color=colour, markersize=6, clip_on=False, zorder=4)
                text = f"{gap:+.2g} ({low:+.2g} to {high:+.2g})  ".replace("-", "\u2212")
                ax.annotate(
                    text, (edge, i), ha="right" if gap > 0 else "left", va="center", fontsize=7.5, color=colour,
                    xytext=(-4 if gap > 0 else 4, 0), textcoords="offset points",
                )  # fmt: skip
                ends.append(edge)
                continue
            ax.plot(np.clip([low, high], -limit, limit), (i, i), color=colour, linewidth=1.4, solid_capstyle="butt")
            ax.plot(gap, i, "o", color=colour, markersize=5, zorder=4)
            ends += [float(gap), *np.clip([low, high], -limit, limit)]
        ax.axvline(0, color=style.BLUE, linewidth=0.8, zorder=0)
        low, high = min(ends), max(ends)
        room = 0.06 * max(high - low, 1e-12)
        ax.set_xlim(low - room, high + room)
        ax.set_xlabel(
            f"difference in MSE / variance from {self.labels[self.base]}\n"
            f"(there {self.base_loss:.3g}), {100 * self.level:g} % interval; lower is better"
        )

    def _limit(self) -> float:
        """Largest difference that is drawn in place."""
        reach = np.sort(np.nanmax(np.abs(np.column_stack([self.differences, self.intervals])), axis=1))
        reach = reach[reach > 0]
        for i in range(_SHOWN, len(reach)):
            if reach[i] > _GAP * reach[i - 1]:
                return float(1.15 * reach[i - 1])
        return np.inf

    def _draw_seconds(self, ax: Any) -> None:
        place = np.arange(len(self.labels))
        seconds = np.maximum(self.seconds, 1e-5)
        low = 10 ** np.floor(np.log10(seconds.min()) - 0.01)
        ax.barh(place, seconds - low, left=low, height=0.55, color=style.SKY, linewidth=0)
        for i, value in enumerate(self.seconds):
            ax.annotate(
                _seconds(value), (seconds[i], i), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
            )
        ax.set_xscale("log")
        # Room for the numbers.
        ax.set_xlim(low, seconds.max() * (seconds.max() / low) ** 0.55)
        ax.set_ylim(len(self.labels) - 0.5, -0.5)
        ax.tick_params(axis="y", left=False)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("seconds of a fit")


def _seconds(value: float) -> str:
    return f"{1000 * value:.2g} ms" if value < 0.0995 else f"{value:.2g} s" if value < 99.5 else f"{value:.0f} s"
