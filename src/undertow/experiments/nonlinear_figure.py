"""The figure of ``nonlinear``: two curves of the loss against the train rate, and the map of the best rate's sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from undertow.experiments.nonlinear_config import Config
from undertow.experiments.nonlinear_map import BORDER, network_places, random_places
from undertow.plots import style
from undertow.trials import paired

SIGNS = {-1: (style.BLUE, "negative"), 1: (style.ORANGE, "positive"), 0: (style.GREY, "undetermined")}


def draw(table: pa.Table, config: Config) -> Figure:
    """a, b: test loss of the trained network (points) and of the kernel (line), in % from rate 0. c: the map."""
    with style.context():
        made, axes = style.figure(3, width=3.9, height=3.6)
        for one, name, title in zip(
            axes[0], "ab", ("few rows: a negative rate wins", "unequal heights: a positive rate wins"), strict=False
        ):
            _curve(one, table, name)
            one.set_title(f"{name}  {title}")
        _map(axes[0, 2], table, config)
        style.shared_legend(made, axes, columns=4)
        return made


def _curve(axes: Any, table: pa.Table, name: str) -> None:
    rates, values = paired.by_run(table, "analytic", part=f"{name}-kernel")
    exact, spread = (100 * x / values[:, rates == 0.0].mean() for x in paired.differences(rates, values))
    axes.fill_between(rates, exact - 2 * spread, exact + 2 * spread, color=style.ORANGE, alpha=0.2, linewidth=0)
    axes.plot(rates, exact, color=style.ORANGE, label="exact, infinite width (\u00b1 2 standard errors)")
    at, values = paired.by_run(table, "network", part=name)
    difference, se = (100 * x / values[:, at == 0.0].mean() for x in paired.differences(at, values))
    style.measured(axes, at, difference, se, label="trained network, mean \u00b1 standard error")
    style.zero_lines(axes)
    if rates[0] < -2:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xticks([tick for tick in (-32, -8, -2, -1, 0, 1) if rates[0] <= tick <= rates[-1]])
        axes.xaxis.set_major_formatter(lambda value, _: style.signed(value))
        axes.minorticks_off()
    axes.set(xlabel="train rate, spectral units", ylabel="test loss, % from rate 0")


def _map(axes: Any, table: pa.Table, config: Config) -> None:
    for places, look in (
        (random_places(table, config), {"marker": "o", "s": 16, "alpha": 0.85, "linewidths": 0}),
        (list(network_places(table, config).values()), {"marker": "s", "s": 46, "edgecolors": style.INK, "zorder": 4}),
    ):
        for sign, (colour, words) in SIGNS.items():
            here = [one for one in places if one.sign == sign]
            label = f"c: best rate {words}" if look["marker"] == "o" else None
            axes.scatter([one.rows for one in here], [one.heights for one in here], color=colour, label=label, **look)
    axes.set(xscale="log", yscale="log")
    x = np.array(axes.get_xlim())
    y = axes.get_ylim()
    axes.plot(x, BORDER / x, color=style.INK, linewidth=1.0, label=f"c: the rule, product = {BORDER:g}")
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    for name, one in network_places(table, config).items():
        if name in "ab":
            axes.annotate(name, (one.rows, one.heights), xytext=(6, 4), textcoords="offset points", weight="bold")
    axes.set(xlabel="query rows N / \u221ap", ylabel="variance between tasks / within a task")
    axes.set_title("c  rows and heights decide the sign")
