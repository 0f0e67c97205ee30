"""The cross-validated loss around the circle of train rates, with the interval of the best one."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow._circle import angles_of
from undertow.choice.record import Choice
from undertow.report import words
from undertow.report.charts import circle_axis, vega
from undertow.report.figure import STAR, Entry, Figure, Table, evenly, records


def circle(choice: Choice) -> Figure:
    """Figure of the error at each train rate, at the ridge and with the best adapt rate of the choice."""
    curve, signed = choice.curve, choice.signed
    loss, errors = np.array(curve.mse), np.array(curve.standard_errors)
    adapt, angles = np.array(curve.adapt_rates) / choice.scale, angles_of(np.array(curve.train_rates), choice.scale)
    rates = [words.rate(rate / choice.scale) for rate in curve.train_rates]
    # Infinity is there once: both ends of the axis are that point.
    closed = np.append(np.arange(len(angles)), 0)
    angles = np.append(angles, angles[0] + np.pi)
    loss, errors, adapt, rates = loss[closed], errors[closed], adapt[closed], [rates[i] for i in closed]
    band = 2 * errors
    values = records(phi=angles, loss=loss, low=loss - band, high=loss + band, rate=rates, adapt=adapt)
    zero = rates.index("0")
    best = float(angles_of(np.array(signed["train_rate"]), choice.scale))
    picks = records(
        phi=np.array([best, 0.0]),
        loss=np.interp([best, 0.0], angles, loss),
        pick=["best train rate", "no inner loop"],
        rate=[words.rate(signed["train_rate_spectral"]), "0"],
        adapt=np.array([signed["adapt_rate_spectral"], adapt[zero]]),
    )
    shown, cut = _domain(loss, band)
    of = f"the {words.level(choice.interval.level)} interval"
    return Figure(
        name="circle",
        title="Gradient step: the cross-validated error that its train rate is chosen on",
        spec={"height": 300, "layer": _layers(values, picks, choice, shown)},
        summary=(
            "Line chart of cross-validated mean squared error over the train rate. At the best one, "
            f"{picks[0]['rate']}, it is {words.loss(picks[0]['loss'])}; without an inner loop "
            f"{words.loss(loss[zero])}. Best train rate: {words.interval(choice.interval)} ({of})."
        ),
        legend=(
            Entry("blue", "line", "mean squared error, each rate with its own best adapt rate"),
            Entry("blue", "area", "±2 standard errors of the difference from rate 0"),
            Entry("green", "area", f"{of} of the best train rate"),
            Entry("orange", "star", "best train rate"),
            Entry("ink", "dot", "no inner loop (rate 0)"),
            *([Entry("purple", "rule", "best train rate by theory")] if _predicted(choice) else []),
        ),
        note=(
            "The band closes at rate 0, since it is about the difference from there. The best rate was chosen on this "
            "curve, so that its least value is a little below the held-out error of the strategy. "
            + ("Errors above the frame are in the table below." if cut else "")
        ).strip(),
        table=_table(rates, loss, band, adapt),
    )


def _layers(
    values: list[dict[str, Any]], picks: list[dict[str, Any]], choice: Choice, shown: list[float]
) -> list[dict[str, Any]]:
    x = circle_axis.x()
    scale = {"domain": shown, "zero": False, "nice": False, "clamp": False}
    y = vega.number("loss", scale=scale, axis={"title": "mean squared error / variance", "tickCount": 5})
    tips = vega.tips(rate="train rate (spectral)", loss=("MSE / variance", ".4f"), adapt=("best adapt rate", ".3~f"))
    curve: Any = {"style": "blue", "clip": True, "aria": False}
    around = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
    band = vega.layer(values, {"type": "area", "opacity": 0.18} | curve, around)
    line = vega.layer(values, {"type": "line", "strokeWidth": 2} | curve, {"x": x, "y": y})
    # An unseen upright at each rate shows the figures wherever the pointer is above or below the curve.
    near = {"name": "near", "select": {"type": "point", "on": "pointerover", "clear": "pointerout", "fields": ["phi"]}}
    rule = {"type": "rule", "opacity": 0, "strokeWidth": 9, "aria": False}
    upright = vega.layer(values, rule, {"x": x, "tooltip": tips}, params=[near])
    shown_near = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    dot = vega.layer(
        values, {"type": "point", "filled": True, "size": 60} | curve, {"x": x, "y": y, "opacity": shown_near}
    )
    looks = (vega.dots("orange", 260, shape=STAR, clip=True), vega.dots("ink", 55, shape="circle", clip=True))
    of_pick = {"x": x, "y": y, "tooltip": [*vega.tips(pick="choice"), *tips]}
    marks = [vega.layer([pick], look, of_pick) for pick, look in zip(picks, looks, strict=True)]
    below = [circle_axis.interval_layer(choice.interval), band, circle_axis.zero()]
    return [*below, *_predicted(choice), line, dot, upright, *marks]


def _predicted(choice: Choice) -> list[dict[str, Any]]:
    """A layer with theory's best rate, where there is one."""
    one = choice.prediction
    if one.train_rate_spectral is None:
        return []
    at = {"phi": words.data(np.arctan(one.train_rate_spectral))}
    rule = {"type": "rule", "style": "purple", "strokeWidth": 2, "aria": False}
    return [vega.layer([at], rule, {"x": circle_axis.x()})]


def _domain(loss: np.ndarray, band: np.ndarray) -> tuple[list[float], bool]:
    """Losses that the frame shows, and whether some lie above: those far off must not flatten what matters."""
    low = float(loss.min())
    spread = max(float(np.quantile(loss, 0.75)) - low, float(band.max()), 1e-3 * low, 1e-12)
    top = low + 1.6 * spread
    if loss.max() <= low + 2.5 * spread:
        top = max(top, float(loss.max()) + 0.1 * spread)
    return words.data([low - 0.35 * spread, top]), bool(loss.max() > top)


def _table(rates: list[str], loss: np.ndarray, band: np.ndarray, adapt: np.ndarray) -> Table:
    kept = evenly(len(loss), 31)
    kept = np.union1d(kept, [int(loss.argmin()), rates.index("0")])
    return Table(
        "Cross-validated loss over the train rate",
        ("train rate (spectral)", "MSE / variance", "± 2 s.e. from rate 0", "best adapt rate (spectral)"),
        [(rates[i], words.loss(loss[i]), words.number(band[i], 2), words.number(adapt[i])) for i in kept],
        f"{len(kept)} of the {len(loss)} rates that were tried.",
    )
