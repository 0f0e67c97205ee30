"""Curves of the test loss: measured points, theory, and both optima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.ticker import LogFormatter

from undertow.plots import style

# Theory that passes through the points has one colour, by whichever method; an approximation another.
THEORY_LOOK = {
    "exact": {"label": "theory, exact", "color": style.ORANGE, "linestyle": "-"},
    "equivalent": {"label": "theory, deterministic equivalent", "color": style.ORANGE, "linestyle": "-"},
    "leading": {"label": "theory, leading order", "color": style.PURPLE, "linestyle": "--"},
    "next_order": {"label": "theory, next order", "color": style.PURPLE, "linestyle": ":"},
}


@dataclass(frozen=True)
class LossCurve:
    """Test loss against one signed rate; drawn by ``plot``.

    rates, mean, se: (k,) swept rate, measured mean loss and its standard error; None where nothing was
        measured. sharp: (k,) a second, sharper estimate.
    theories: method name to (k,) values; values that are not finite are left out.
    theory_rate: where theory is lowest. best: (rate, low, high) of the measured optimum and its interval.
    tangent: theory's slope at rate 0, drawn through theory's value there. least: the least possible loss.
    """

    rates: np.ndarray
    mean: np.ndarray | None = None
    se: np.ndarray | None = None
    sharp: np.ndarray | None = None
    theories: dict[str, np.ndarray] = field(default_factory=dict)
    theory_rate: float | None = None
    best: tuple[float, float, float] | None = None
    tangent: float | None = None
    least: float | None = None

    def plot(self, axes: Any, *, xlabel: str, title: str = "") -> Any:
        """Draw on matplotlib axes and return them."""
        axes.axvline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
        for name, values in self.theories.items():
            axes.plot(self.rates, np.where(np.isfinite(values), values, np.nan), zorder=2, **THEORY_LOOK[name])
        if self.mean is not None:
            style.measured(axes, self.rates, self.mean, self.se)
        if self.sharp is not None:
            axes.plot(
                self.rates, self.sharp, ".", color=style.INK, markersize=4, zorder=4, label="measured, given the inputs"
            )
        self._frame(axes)
        self._tangent(axes)
        self._optimum(axes)
        axes.set(xlabel=xlabel, ylabel="test loss after adaptation", title=title)
        return axes

    def _frame(self, axes: Any) -> None:
        """Fit the y axis to what was measured: an approximation may leave the picture, the data may not."""
        if self.mean is not None:
            se = 0.0 if self.se is None else self.se
            shown = np.concatenate([self.mean - se, self.mean + se, self.mean if self.sharp is None else self.sharp])
        else:
            shown = np.concatenate(list(self.theories.values()))
        shown = shown[np.isfinite(shown)]
        if not shown.size:
            return
        low, high = float(shown.min()), float(shown.max())
        room = high - low or abs(high) or 1.0
        bottom = low - 0.32 * room
        if self.least is not None and self.least > low - room:
            look: Any = {"color": style.GREEN, "linewidth": 1.2, "linestyle": (0, (6, 2))}
            axes.axhline(self.least, label="least possible loss", **look)
            bottom = min(bottom, self.least - 0.12 * room)
        elif self.least is not None:
            # The mark of the optimum lies below an approximation that runs close to the data, too.
            near = [one for values in self.theories.values() for one in values if low - 0.5 * room < one < low]
            floor = min([low, *near])
            bottom = floor - 0.32 * (high - floor or room)
            # Far below the curve: a line there would flatten what is to be seen.
            style.least_below(axes, f"{self.least:.2f}", right=True, room=0.0)
        axes.set_ylim(bottom, high + 0.08 * room)

    def _tangent(self, axes: Any) -> None:
        if self.tangent is None or 0.0 not in self.rates:
            return
        zero = int(np.flatnonzero(self.rates == 0.0)[0])
        known = [values[zero] for values in self.theories.values() if np.isfinite(values[zero])]
        if not known:
            return
        reach = 0.09 * (self.rates[-1] - self.rates[0]) * np.array([-1.0, 1.0])
        line = known[0] + self.tangent * reach
        axes.plot(reach, line, color=style.INK, linewidth=1.1, zorder=4, label="slope at 0, leading order")

    def _optimum(self, axes: Any) -> None:
        """A mark in the empty strip under the data: it cannot hide a point."""
        across = axes.get_xaxis_transform()
        if self.theory_rate is not None and np.isfinite(self.theory_rate) and self.best is None:
            mark: Any = {"markersize": 6, "color": style.ORANGE, "zorder": 5, "label": "lowest, theory"}
            axes.plot([self.theory_rate], [0.16], "v", transform=across, **mark)
        if self.best is None:
            return
        rate, low, high = self.best
        look: Any = {"fmt": "^", "markersize": 6, "elinewidth": 2.0, "color": style.INK, "zorder": 5}
        ends = [[max(rate - low, 0.0)], [max(high - rate, 0.0)]]
        axes.errorbar([rate], [0.16], xerr=ends, transform=across, **look)
        words = f"best {rate:+.3g}".replace("-", "\u2212")
        axes.annotate(
            words, (rate, 0.16), xycoords=across, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
        )


@dataclass(frozen=True)
class RegimeCurve:
    """Test loss against N, the number of query rows in all tasks, for one rate: the double descent; ``plot`` draws it.

    n_rows: (k,) N, ascending. mean, se, median: (k,) measured. theory: (k,), infinite or NaN where there is none.
    threshold: p, where N = p. The mean is infinite for p - 1 <= N <= p + 1: only the median is drawn there.
    """

    n_rows: np.ndarray
    mean: np.ndarray
    se: np.ndarray
    median: np.ndarray
    theory: np.ndarray
    threshold: int

    def plot(self, axes: Any, *, color: str, label: str) -> Any:
        """Draw one rate's curve on matplotlib axes, with a logarithmic loss axis, and return them."""
        inside = abs(self.n_rows - self.threshold) <= 1
        for side in (self.n_rows < self.threshold - 1, self.n_rows > self.threshold + 1):
            axes.plot(self.n_rows[side], self.theory[side], color=color, zorder=2)
        outside = ~inside
        mean, se = self.mean[outside], self.se[outside]
        style.measured(axes, self.n_rows[outside], mean, se, color=color, label=label)
        look: Any = {"markersize": 6, "markerfacecolor": "none", "markeredgewidth": 0.8, "color": color, "zorder": 4}
        axes.plot(self.n_rows, self.median, "D", **look)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        return axes
