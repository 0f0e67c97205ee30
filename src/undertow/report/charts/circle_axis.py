"""The axis of train rates: angles phi on the circle, labelled by the rates tan(phi) in spectral units."""

from __future__ import annotations

import math
from typing import Any

from undertow.choice.record import RateInterval
from undertow.report.charts import vega

_RATES = (-math.inf, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, math.inf)
_NAMES = ("−∞", "−3", "−1", "−0.3", "0", "0.3", "1", "3", "+∞")
_TITLE = "train rate, in units of 1/λmax"


def x(field: str = "phi") -> dict[str, Any]:
    """Encoding of an angle on the x axis."""
    ticks = [round(math.atan(rate), 6) for rate in _RATES]
    # Vega has no axis with labels of one's own; the nearest tick gives the name.
    pairs = " : ".join(
        f"abs(datum.value - {tick}) < 0.001 ? '{name}'" for tick, name in zip(ticks, _NAMES, strict=True)
    )
    return vega.number(
        field,
        scale={"domain": [ticks[0], ticks[-1]], "nice": False, "zero": False},
        axis={"values": ticks, "labelExpr": f"{pairs} : ''", "title": _TITLE, "labelFlush": True},
    )


def zero() -> dict[str, Any]:
    """A layer that marks the rate 0."""
    return vega.zero("phi", x=vega.number("phi"))


def arcs(interval: RateInterval) -> list[dict[str, float]]:
    """The interval as one or two stretches of the axis: two where it runs through infinity."""
    end = round(math.pi / 2, 6)
    if interval.whole_circle:
        return [{"from": -end, "to": end}]
    low, high = (round(math.atan(rate), 6) for rate in (interval.low_spectral, interval.high_spectral))
    if interval.low_spectral <= interval.high_spectral:
        return [{"from": low, "to": high}]
    return [{"from": -end, "to": high}, {"from": low, "to": end}]


def interval_layer(interval: RateInterval) -> dict[str, Any]:
    """A layer that shades the interval over the whole height."""
    shade = {"type": "rect", "style": "green", "opacity": 0.16, "aria": False}
    return vega.layer(arcs(interval), shade, {"x": vega.number("from"), "x2": {"field": "to"}})
