"""The figures of ``direction``: the answer in one picture, and all outer loops."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from undertow import theory
from undertow.experiments.direction_config import Config
from undertow.plots import style
from undertow.problem import MixedLinearRegression
from undertow.trials import paired

PARTS = {"over": "linear, N < p", "under": "linear, N > p", "network": "network"}
LOOKS = {
    "exact": {"color": style.ORANGE, "linestyle": "-", "label": "exact"},
    "descent": {"color": style.BLUE, "linestyle": "", "marker": "o", "markersize": 3.2, "label": "gradient descent"},
    "adam": {"color": style.PURPLE, "linestyle": "", "marker": "x", "markersize": 4.5, "label": "Adam"},
    "descent_early": {"color": style.BLUE, "linestyle": ":", "label": "gradient descent, stopped early"},
    "adam_early": {"color": style.PURPLE, "linestyle": ":", "label": "Adam, stopped early"},
}
CHANGES = {
    "support": (style.INK, "support loss, training tasks"),
    "query": (style.SKY, "query loss, training tasks"),
    "new_query": (style.GREY, "query loss, new tasks"),
}


def draw(table: pa.Table, config: Config) -> Figure:
    """The exact solution of the three problems: test loss against what the inner step does to the support loss."""
    with style.context():
        made, axes = style.figure(3, width=3.3, height=3.3)
        for one, (part, words) in zip(axes[0], PARTS.items(), strict=True):
            rates, values = paired.by_run(table, "test_loss", part=part, arm="exact_zero")
            difference, se = (100 * x / values[:, rates == 0.0].mean() for x in paired.differences(rates, values))
            change, before = (
                paired.by_run(table, f"support_{name}", part=part, arm="exact_zero")[1] for name in ("change", "before")
            )
            push = 100 * change.mean(axis=0) / before.mean(axis=0)
            one.errorbar(push, difference, se, color=style.ORANGE, marker="o", markersize=3.2, elinewidth=0.8)
            k = int(difference.argmin())
            one.plot(push[k], difference[k], "o", color=style.INK, markersize=6, zorder=4)
            one.annotate(f"best: rate {style.signed(rates[k])}", (push[k], difference[k] - se[k]), xytext=(0, -5),
                         textcoords="offset points", ha="center", va="top")  # fmt: skip
            low, high = one.get_ylim()
            one.set_ylim(low - 0.15 * (high - low), high + 0.1 * (high - low))
            one.set_title(f"{'abc'[list(PARTS).index(part)]}  {words}")
            if part != "network":  # nobody knows the least possible loss of the quadratic problem
                below = 100 * (_least(config, part) / values[:, rates == 0.0].mean() - 1)
                style.least_below(one, f"{below:.0f} %".replace("-", "\u2212"), room=0.0)
            _downhill_and_up(one)
        axes[0, 0].set_ylabel("test loss, % from rate 0")
        made.suptitle("Exact outer solution: the best inner step goes uphill on the support rows", x=0.01, ha="left",
                      fontsize=10)  # fmt: skip
        return made


def _least(config: Config, part: str) -> float:
    sizes = getattr(config, part)
    problem = MixedLinearRegression(sizes.n_features, config.noise_std, config.task_std)
    return theory.least_loss(problem, sizes.design(config.n_adapt))


def _downhill_and_up(axes: Any) -> None:
    style.zero_lines(axes)
    axes.set_xscale("symlog", linthresh=100.0)
    axes.set_xlim(-130, 4e4)
    axes.set_xticks([-100, 0, 100, 1000, 10000], ["\u2212100", "0", "+100", "+1,000", "+10,000"])
    axes.minorticks_off()
    across = axes.get_xaxis_transform()
    axes.text(8, 0.97, "uphill \u2192", transform=across, va="top")
    axes.text(-8, 0.97, "\u2190 down", transform=across, va="top", ha="right")
    axes.set_xlabel("change of the support loss in the step, %")


def draw_details(table: pa.Table, config: Config) -> Figure:
    """Above: the test loss of each outer loop from a zero start. Below: what the exact solution's step does."""
    with style.context():
        made, axes = style.figure(3, 2, width=3.9, height=3.0)
        for j, (part, words) in enumerate(PARTS.items()):
            top, bottom = axes[0, j], axes[1, j]
            for arm, look in LOOKS.items():
                rates, values = paired.by_run(table, "test_loss", part=part, arm=f"{arm}_zero")
                difference, se = (100 * x / values[:, rates == 0.0].mean() for x in paired.differences(rates, values))
                top.errorbar(rates, difference, se if arm == "descent" else None, elinewidth=0.7, **look)
            top.set(ylabel="test loss, % from rate 0", title=f"{'abc'[j]}  {words}: test loss")
            for name, (colour, label) in CHANGES.items():
                rates, change = paired.by_run(table, f"{name}_change", part=part, arm="exact_zero")
                before = paired.by_run(table, f"{name}_before", part=part, arm="exact_zero")[1].mean(axis=0)
                bottom.plot(rates, 100 * change.mean(axis=0) / before, color=colour, label=f"below: {label}")
            bottom.set_yscale("symlog", linthresh=100.0)
            bottom.set(ylabel="change in the inner step, %", title=f"{'def'[j]}  exact solution: what the step does")
            for one in (top, bottom):
                style.zero_lines(one)
                one.set_xlabel("train rate, spectral units" if part == "network" else "train rate")
                if part != "network":
                    one.locator_params(axis="x", nbins=5)
                else:
                    one.set_xscale("symlog", linthresh=1.0)
                    one.set_xticks([tick for tick in (-32, -8, -2, 0, 1) if config.network.train_rates[0] <= tick])
                    one.xaxis.set_major_formatter(lambda value, _: style.signed(value))
                    one.minorticks_off()
        style.shared_legend(made, axes, columns=4)
        return made
