"""The axes that a display draws on: given ones, or those of a new figure, with a legend that covers little."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from undertow.plots import style

# In points: size of the legend's text within given axes, height of one of its lines, and of what is around them.
_FONT, _LINE, _PADDING = 7, 10.5, 8.0
# The legend of low axes may cover some of what is drawn: that must keep half of the height.
_MOST = 0.5
# Characters in a line of a label.
_LONGEST = 32


@dataclass
class Display:
    """What displays share: they hold data, draw late, and keep the axes of the last drawing."""

    ax_: Any = field(default=None, init=False, repr=False)
    """axes of the last drawing"""

    @property
    def figure_(self) -> Any:
        """Figure of the last drawing; None before there is one."""
        return None if self.ax_ is None else self.ax_.figure


def panel(ax: Any, *, width: float = 5.5, height: float = 3.4) -> tuple[Any, bool]:
    """Return ``ax`` or, where it is None, axes of a new figure, and whether they are new. Sizes are in inches."""
    return (style.figure(width=width, height=height)[1][0, 0], True) if ax is None else (ax, False)


def add_legend(ax: Any, own: bool, *, columns: int = 1, at: str = "top") -> float:
    """Label what is drawn: below the axes where the figure is ours, else within them, in a strip made free for it.

    at: "top" or "bottom" of given axes, whose y limits must be set: they are moved to make room. Returns the share of
    the axes' height that the strip takes.
    """
    handles, labels = ax.get_legend_handles_labels()
    if own:
        ax.figure.legend(handles, labels, loc="outside lower left", ncols=columns)
        return 0.0
    lines = sum(1 + label.count("\n") for label in labels)
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    strip = min((_LINE * lines + _PADDING) / height, _MOST)
    low, high = ax.get_ylim()
    room = (high - low) * strip / (1 - strip)
    ax.set_ylim(low - room if at == "bottom" else low, high if at == "bottom" else high + room)
    ax.legend(
        handles, labels, loc="lower left" if at == "bottom" else "upper left", fontsize=_FONT, frameon=True,
        framealpha=0.85, edgecolor="none", borderaxespad=0.2,
    )  # fmt: skip
    return strip


def wrapped(name: str) -> str:
    """A label of an axis in lines that are short enough for its length, broken after commas first."""
    parts = name.split(", ")
    parts = [f"{part}," for part in parts[:-1]] + parts[-1:]
    return "\n".join(line for part in parts for line in wrap(part, _LONGEST) or [""])
