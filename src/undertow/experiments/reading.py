"""A panel's table in words: how far it is from theory, and where it is lowest."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from undertow import theory
from undertow.plots.regimes import LossCurve
from undertow.trials.finding import Finding, below, half_width, sentence
from undertow.trials.panel import Panel
from undertow.trials.summary import ESTIMATES, optima_of, rows_of

METHOD_NAMES = {
    "exact": "exact theory",
    "leading": "leading-order theory",
    "next_order": "next-order theory",
    "equivalent": "the deterministic equivalent",
}
ESTIMATE_NAMES = {"raw": "raw", "conditional": "given the inputs"}
RATE_NAMES = {"train_rate": "train rate", "adapt_rate": "adapt rate"}


def agreement(table: pa.Table, panels: list[Panel], label: str) -> list[str]:
    """One line for each theory used in the panels: the largest |z| of both estimates over the points it covers."""
    rows = {name: np.concatenate([rows_of(table, panel.name)[name] for panel in panels]) for name in table.column_names}
    lines = []
    for method in METHOD_NAMES:
        here = (rows["theory_method"] == method) & np.isfinite(rows["conditional_z"])
        if not here.any():
            continue
        head = f"{label}: {here.sum()} point{'' if here.sum() == 1 else 's'} against {METHOD_NAMES[method]}: "
        if method == "exact":
            sizes = (f"{ESTIMATE_NAMES[name]} {abs(rows[f'{name}_z'][here]).max():.2f}" for name in ESTIMATES)
            lines.append(head + "largest |z| " + ", ".join(sizes) + ".")
            continue
        off = abs(rows["conditional_mean"] / rows["theory"] - 1)[here].max()
        sizes = (f"{ESTIMATE_NAMES[name]} {beyond_error(rows, name)[here].max():.2f}" for name in ESTIMATES)
        stated = rows["theory_error"][here]
        lines.append(
            f"{head}largest deviation {100 * off:.2f} % of the loss, stated error {100 * stated.min():.2f} % "
            f"to {100 * stated.max():.2f} %; largest |z| beyond the stated error {', '.join(sizes)}."
        )
    return lines


def beyond_error(rows: dict[str, np.ndarray], estimate: str) -> np.ndarray:
    """(points,) how many standard errors a mean lies outside theory's stated error; 0 within it, NaN without theory."""
    distance = abs(rows[f"{estimate}_mean"] - rows["theory"]) - rows["theory_error"] * rows["theory"]
    return np.maximum(distance, 0.0) / rows[f"{estimate}_se"]


def lowest(table: pa.Table, panel: Panel, label: str) -> list[str]:
    """Two lines: where the panel's curve is lowest, by both estimates and by theory; what that gains over rate 0."""
    optima = optima_of(table, panel.name)
    places = []
    for name in ESTIMATES:
        found = optima[name]
        edge = ", at the edge of the sweep" if found["at_edge"] else ""
        places.append(
            f"{found['rate']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}) {ESTIMATE_NAMES[name]}{edge}"
        )
    theory = optima["theory"]
    lines = [
        f"{label}: lowest at {RATE_NAMES[panel.swept]} (95 % interval) {'; '.join(places)}; "
        f"{METHOD_NAMES[theory['method']]}: {theory['rate']:+.3f}."
    ]
    gain, se = (optima["conditional"][key] for key in ("gain", "gain_se"))
    if gain is not None:
        lines.append(
            f"{label}: there the loss is {100 * gain:.3f} % \u00b1 {100 * se:.3f} % below "
            f"the loss at rate 0, in the same runs."
        )
    return lines


def by_panel(table: pa.Table, panels: list[Panel]) -> list[str]:
    """Distance from theory and the optimum of each panel."""
    return [line for one in panels for line in (*agreement(table, [one], one.name), *lowest(table, one, one.name))]


def best_rate(table: pa.Table, panel: Panel) -> str:
    """Where the panel's curve is lowest, given the inputs, with its interval and with theory, for one line."""
    found = optima_of(table, panel.name)
    measured, theory = found["conditional"], found["theory"]
    edge = ", at the edge of the sweep" if measured["at_edge"] else ""
    ends = (measured[key] for key in ("rate", "low", "high"))
    return f"{sentence(*ends)}{edge}; {METHOD_NAMES[theory['method']].removeprefix('the ')} {theory['rate']:+.3f}"


def loss_just_below_zero(found: dict[str, float] | None, *more: str) -> Finding:
    """The Finding of a claim that the loss just below train rate 0 is lower than at 0; ``more`` are lines on it."""
    found = found or {"rate": math.nan, "difference": math.nan, "low": math.nan, "high": math.nan}
    ends = [100 * found[key] for key in ("difference", "low", "high")]
    return Finding(
        "loss against rate 0",
        *ends,
        unit="%",
        result=below(ends[1], ends[2]),
        lines=(f"loss at train rate {found['rate']:+g} against the loss at 0: {sentence(*ends, unit='%')}", *more),
    )


def from_exact_theory(table: pa.Table, panels: list[Panel]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of simultaneous 95 % intervals of mean / exact theory - 1, given the inputs, at the points that have one."""
    rows = {
        name: np.concatenate([rows_of(table, panel.name)[name] for panel in panels])
        for name in ("conditional_mean", "conditional_se", "theory", "theory_method", "runs")
    }
    here = (rows["theory_method"] == "exact") & np.isfinite(rows["theory"])
    mean, se, theory, runs = (rows[name][here] for name in ("conditional_mean", "conditional_se", "theory", "runs"))
    off, half = mean / theory - 1, half_width(runs, number=max(here.sum(), 1)) * se / theory
    return off - half, off + half


def curve(table: pa.Table, panel: Panel, theories: tuple[str, ...], tangent: float | None = None) -> LossCurve:
    """The panel as a LossCurve: raw points and those given the inputs, theories, optimum, least possible loss."""
    rows, found = rows_of(table, panel.name), optima_of(table, panel.name)["conditional"]
    shown = {name: rows[f"theory_{name}"] for name in theories if np.isfinite(rows[f"theory_{name}"]).sum() > 1}
    return LossCurve(
        rates=panel.rates,
        mean=rows["raw_mean"],
        se=rows["raw_se"],
        sharp=rows["conditional_mean"],
        theories=shown,
        best=(found["rate"], found["low"], found["high"]),
        tangent=tangent,
        least=theory.least_loss(panel.problem, panel.design),
    )
