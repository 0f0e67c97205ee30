"""One look for all figures, applied within a context so that nobody else's settings change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with every common form of colour blindness.
INK = "#222222"
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
AMBER = "#E69F00"
GREY = "#8A8A8A"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER)

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.facecolor": "white",
    # Without these two the same figure gives another SVG file each time.
    "svg.hashsalt": "undertow",
    "svg.fonttype": "none",
}


@contextmanager
def context() -> Iterator[None]:
    """Draw and save within this: matplotlib's own settings are restored afterwards."""
    with matplotlib.rc_context(RC):
        yield


def figure(columns: int = 1, rows: int = 1, *, width: float = 4.2, height: float = 3.4) -> tuple[Figure, np.ndarray]:
    """A Figure that needs no display, and its (rows, columns) axes. ``width`` and ``height`` are inches of one axes."""
    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def measured(axes: Any, x: Any, mean: Any, error: Any, **look: Any) -> None:
    """Draw what was measured: points with the errors of their means."""
    usual = {"fmt": "o", "markersize": 3.2, "capsize": 1.5, "elinewidth": 0.9, "color": BLUE, "zorder": 3}
    axes.errorbar(x, mean, error, **(usual | {"label": "measured, mean \u00b1 standard error"} | look))


def zero_lines(axes: Any) -> None:
    """Mark train rate 0 and no difference from it."""
    axes.axhline(0.0, color=GREY, linewidth=0.7, zorder=0)
    axes.axvline(0.0, color=GREY, linewidth=0.7, zorder=0)


def circle_axis(axes: Any, scale: float, *, label: str = "train rate") -> None:
    """Label an x axis whose values are angles phi, with rate = scale tan(phi), by the rates themselves.

    Plus and minus infinity are the two ends and the same point. ``scale`` is the rate at phi = 45 degrees.
    """
    rates = np.array([-np.inf, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, np.inf]) * scale
    axes.set_xlim(-np.pi / 2, np.pi / 2)
    axes.set_xticks(np.arctan(rates / scale), [signed(rate) for rate in rates])
    axes.axvline(0.0, color=GREY, linewidth=0.7, zorder=0)
    axes.set_xlabel(label)


def shared_legend(made: Figure, axes: Any, *, columns: int = 4) -> None:
    """Put one legend below all axes, each label once: it never covers data."""
    entries: dict[str, Any] = {}
    for one in np.ravel(axes):
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    made.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def label_end(axes: Any, words: str, x: float, y: float) -> None:
    """Name a curve at its end, to the right of it and, where there is no room, outside of the axes."""
    axes.annotate(
        words, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False
    )


def least_below(axes: Any, loss: str, *, right: bool = False, room: float = 0.12) -> None:
    """Say the least possible loss, which lies below what is drawn, in the lower left or right corner.

    room: height of an empty strip that is added for it, as a share of the axis.
    """
    x, side = (0.99, "right") if right else (0.02, "left")
    words = f"least possible loss: {loss} \u2193"
    axes.text(x, 0.02, words, transform=axes.transAxes, ha=side, color=GREEN, fontsize=8)
    if room:
        low, high = axes.get_ylim()
        axes.set_ylim(low - room * (high - low), high)


def signed(rate: float) -> str:
    """A rate as text, with a true minus sign."""
    if np.isinf(rate):
        return "\u2212\u221e" if rate < 0 else "+\u221e"
    return f"{rate:.2g}".replace("-", "\u2212")
