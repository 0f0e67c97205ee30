"""Curves of the test loss: measured points, theory, and both optima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.ticker import LogFormatter

from undertow.plots import style

THEORY_LOOK = {
    "exact": {"label": "theory, exact", "color": style.ORANGE, "linestyle": "-"},
    "equivalent": {"label": "theory, deterministic equivalent", "color": style.GREEN, "linestyle": "-"},
    "leading": {"label": "theory, leading order", "color": style.PURPLE, "linestyle": "--"},
    "next_order": {"label": "theory, next order", "color": style.AMBER, "linestyle": ":"},
}
_MEASURED_LOOK = {
    "raw": {"height": 0.1, "color": style.BLUE, "label": "lowest, raw: 95 % interval"},
    "conditional": {"height": 0.04, "color": style.INK, "label": "lowest, given the inputs: 95 % interval"},
}


@dataclass(frozen=True)
class LossCurve:
    """Test loss against one signed rate; drawn by ``plot``.

    rates, mean, se: (k,) swept rate, measured mean loss and its standard error; None where nothing was
        measured. sharp: (k,) a second, sharper estimate.
    theories: method name to (k,) values; values that are not finite are left out.
    theory_rate: where theory is lowest. measured: for "raw" and "conditional", (rate, low, high) of the
        measured optimum and its interval.
    """

    rates: np.ndarray
    mean: np.ndarray | None = None
    se: np.ndarray | None = None
    sharp: np.ndarray | None = None
    theories: dict[str, np.ndarray] = field(default_factory=dict)
    theory_rate: float | None = None
    measured: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def plot(self, axes: Any, *, xlabel: str, title: str = "") -> Any:
        """Draw on matplotlib axes and return them."""
        axes.axvline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
        for name, values in self.theories.items():
            axes.plot(self.rates, np.where(np.isfinite(values), values, np.nan), zorder=2, **THEORY_LOOK[name])
        if self.sharp is not None:
            axes.plot(
                self.rates,
                self.sharp,
                linestyle="",
                marker="x",
                markersize=3.5,
                markeredgewidth=0.9,
                color=style.INK,
                zorder=4,
                label="given the inputs, mean",
            )
        if self.mean is not None:
            axes.errorbar(
                self.rates,
                self.mean,
                yerr=self.se,
                linestyle="",
                marker="o",
                markersize=3.2,
                capsize=1.5,
                elinewidth=0.9,
                color=style.BLUE,
                zorder=3,
                label="raw, mean \u00b1 standard error",
            )
        self._frame(axes)
        self._optima(axes)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("test loss after adaptation")
        axes.set_title(title)
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
        axes.set_ylim(low - 0.32 * room, high + 0.08 * room)

    def _optima(self, axes: Any) -> None:
        """Marks in the empty strip under the data: they cannot hide a point."""
        across = axes.get_xaxis_transform()
        if self.theory_rate is not None and np.isfinite(self.theory_rate):
            axes.plot(
                [self.theory_rate],
                [0.16],
                transform=across,
                linestyle="",
                marker="v",
                markersize=6,
                color=style.ORANGE,
                zorder=5,
                label="lowest, theory",
            )
        for name, (rate, low, high) in self.measured.items():
            look = _MEASURED_LOOK[name]
            axes.errorbar(
                [rate],
                [look["height"]],
                xerr=[[max(rate - low, 0.0)], [max(high - rate, 0.0)]],
                transform=across,
                linestyle="",
                marker="|",
                markersize=7,
                capsize=0,
                elinewidth=2.5,
                color=look["color"],
                zorder=5,
                label=look["label"],
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
        axes.errorbar(
            self.n_rows[outside],
            self.mean[outside],
            yerr=self.se[outside],
            linestyle="",
            marker="o",
            markersize=3.4,
            capsize=1.5,
            elinewidth=0.9,
            color=color,
            zorder=3,
            label=label,
        )
        axes.plot(
            self.n_rows,
            self.median,
            linestyle="",
            marker="D",
            markersize=6,
            markerfacecolor="none",
            markeredgewidth=0.8,
            color=color,
            zorder=4,
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        return axes
