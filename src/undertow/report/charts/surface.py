"""The cross-validated loss over both rates, as a map."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from undertow._circle import angles_of, rates_of
from undertow.linear.surface import LossSurface
from undertow.report import words
from undertow.report.charts import circle_axis, vega
from undertow.report.figure import STAR, Entry, Figure, Table, evenly

_COLUMNS = 51
_ROWS = 51


def surface(found: LossSurface) -> Figure:
    """Figure of the loss at both rates, at the ridge of the least one. Every cell is an exact loss, at its middle."""
    best = found.best()
    at = _positions(angles_of(found.train_rates, found.scale))
    angles = angles_of(found.train_rates, found.scale)[at]
    chosen = best.adapt_rate / found.scale
    top = float(np.clip(2.5 * abs(chosen), 0.1, 3.0)) * (1 if chosen >= 0 else -1)
    adapt = np.sort(np.linspace(-0.25 * top, top, _ROWS))
    column = int(np.flatnonzero(found.ridges == best.ridge)[0])
    loss = 2 * found.loss(adapt * found.scale).reshape(len(found.train_rates), -1, _ROWS)[at, column]
    low, high = float(loss.min()), float(np.quantile(loss, 0.6))
    high = max(high, low * (1 + 1e-6) + 1e-12)
    star = [words.data(float(angles_of(np.array(best.train_rate), found.scale))), words.data(chosen)]
    return Figure(
        name="surface",
        title="Gradient step: the same error over both rates",
        spec={"height": 330, "layer": _layers(angles, adapt, loss, (low, high), star)},
        summary=(
            f"Map of cross-validated mean squared error over train rate and adapt rate. The least is "
            f"{2 * best.loss:.4f}, at train rate {words.rate(best.train_rate / found.scale)} and adapt rate "
            f"{words.rate(chosen)}, in spectral units."
        ),
        legend=(Entry("ink", "star", "least loss"),),
        note=(
            f"Each cell is the loss at its middle, at ridge {best.ridge:.3g}. The adapt rate is that of the step "
            f"on a new task. Colours end at {high:.4f}: losses above it look alike."
        ),
        table=_table(angles, adapt, loss),
    )


def _positions(angles: np.ndarray) -> np.ndarray:
    """At most 51 of the angles, evenly spaced, both ends and 0 among them."""
    wanted = np.linspace(-np.pi / 2, np.pi / 2, _COLUMNS)
    return np.unique(np.abs(angles[None, :] - wanted[:, None]).argmin(axis=1))


def _edges(middles: np.ndarray) -> np.ndarray:
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([middles[:1], between, middles[-1:]])


def _layers(
    angles: np.ndarray, adapt: np.ndarray, loss: np.ndarray, ends: tuple[float, float], star: list[float]
) -> list[dict[str, Any]]:
    # The cells' places follow from their number: a file with four coordinates for each would be ten times as large.
    sides, steps = (json.dumps(words.data(_edges(values))) for values in (angles, adapt))
    names = json.dumps([words.rate(rate) for rate in rates_of(angles, 1.0)], ensure_ascii=False)
    heights = json.dumps(words.data(adapt))
    n = len(adapt)
    place = {
        "i": f"floor((datum.n - 1) / {n})",
        "j": f"(datum.n - 1) % {n}",
        "x": f"{sides}[datum.i]",
        "x2": f"{sides}[datum.i + 1]",
        "y": f"{steps}[datum.j]",
        "y2": f"{steps}[datum.j + 1]",
        "rate": f"{names}[datum.i]",
        "adapt": f"{heights}[datum.j]",
    }
    x = circle_axis.x("x")
    y = vega.number(
        "y",
        scale={"domain": words.data(adapt[[0, -1]]), "nice": False, "zero": False},
        axis={"title": "adapt rate, same unit", "tickCount": 6, "grid": False},
    )
    window: list[dict[str, Any]] = [{"window": [{"op": "row_number", "as": "n"}]}]
    cells = vega.layer(
        words.data(loss.ravel()),
        {"type": "rect", "aria": False, "style": "cells"},
        {
            "x": x,
            "x2": {"field": "x2"},
            "y": y,
            "y2": {"field": "y2"},
            "color": _colour(ends),
            "tooltip": vega.tips(
                rate="train rate (spectral)", adapt=("adapt rate (spectral)", ".3~f"), data=("MSE / variance", ".4f")
            ),
        },
        transform=window + [{"calculate": expression, "as": name} for name, expression in place.items()],
    )
    zero = vega.layer([{"y": 0}], {"type": "rule", "style": "on-map", "strokeWidth": 1, "aria": False}, {"y": y})
    look = vega.dots("on-map-star", 260, shape=STAR, strokeWidth=1.2)
    return [cells, zero, vega.layer([{"x": star[0], "y": star[1]}], look, {"x": x, "y": y})]


def _colour(ends: tuple[float, float]) -> dict[str, Any]:
    scale = {"domain": words.data(ends), "range": "heatmap", "reverse": True, "clamp": True, "zero": False}
    legend = {"type": "gradient", "title": "mean squared error / variance", "orient": "top", "gradientLength": 220}
    return vega.number("data", scale=scale, legend=legend | {"titleLimit": 260, "tickCount": 4, "format": ".4~g"})


def _table(angles: np.ndarray, adapt: np.ndarray, loss: np.ndarray) -> Table:
    columns, rows = evenly(len(angles), 9), evenly(len(adapt), 11)[::-1]
    names = [words.rate(rate) for rate in rates_of(angles[columns], 1.0)]
    return Table(
        "Cross-validated MSE / variance: train rates across, adapt rates down (spectral)",
        ("adapt rate", *names),
        [(words.number(adapt[j]), *(words.loss(loss[i, j]) for i in columns)) for j in rows],
        f"{len(columns)} by {len(rows)} of the {len(angles)} by {len(adapt)} cells.",
    )
