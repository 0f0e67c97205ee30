"""The axes that a display draws on: given ones, or those of a new figure, with a legend that covers little."""

from __future__ import annotations

from typing import Any

from undertow.plots import style


def panel(ax: Any, *, width: float = 5.5, height: float = 3.4) -> tuple[Any, bool]:
    """Return ``ax`` or, where it is None, axes of a new figure, and whether they are new. Sizes are in inches."""
    return (style.figure(width=width, height=height)[1][0, 0], True) if ax is None else (ax, False)


def add_legend(ax: Any, own: bool, *, columns: int = 1) -> None:
    """Label what is drawn: below the axes where the figure is ours, else within them, where it covers least."""
    if own:
        handles, labels = ax.get_legend_handles_labels()
        ax.figure.legend(handles, labels, loc="outside lower left", ncols=columns)
    else:
        ax.legend(fontsize=7)
