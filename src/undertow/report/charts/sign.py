"""What the tasks say about the sign of the training rate: bootstrap shares, and the picks without each fold."""

from __future__ import annotations

import numpy as np

from undertow._circle import angles_of
from undertow.choice.rate_comparison import RateComparison
from undertow.choice.record import RateInterval
from undertow.report import words
from undertow.report.charts import circle_axis
from undertow.report.figure import Entry, Figure, Table, records


def fold_picks(comparison: RateComparison, interval: RateInterval) -> Figure:
    """Figure of the signed training rate that is chosen when each outer fold is left out."""
    rates = np.array([pick.train_rate for pick in comparison.fold_picks["signed"]])
    n = len(rates)
    names = [words.rate(rate) for rate in rates / comparison.scale]
    values = records(
        phi=angles_of(rates, comparison.scale),
        fold=np.arange(1, n + 1),
        rate=names,
        adapt=np.array([pick.adapt_rate for pick in comparison.fold_picks["signed"]]) / comparison.scale,
    )
    below, above = int((rates < 0).sum()), int(((rates > 0) & np.isfinite(rates)).sum())
    y = {
        "field": "fold",
        "type": "ordinal",
        "axis": {"title": "fold left out", "grid": True, "ticks": False, "domain": False},
    }
    dots = {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "opacity": 1, "size": 80, "style": "orange"},
        "encoding": {
            "x": circle_axis.x(),
            "y": y,
            "tooltip": [
                {"field": "fold", "title": "fold left out", "type": "ordinal"},
                {"field": "rate", "title": "training rate (spectral)", "type": "nominal"},
                {"field": "adapt", "title": "adaptation rate (spectral)", "type": "quantitative", "format": ".3~f"},
            ],
        },
    }
    return Figure(
        name="folds",
        title="Training rate chosen when one fold of tasks is left out",
        spec={
            "height": n * (22 if n <= 12 else 14),
            "layer": [circle_axis.interval_layer(interval), circle_axis.zero(), dots],
        },
        summary=(
            f"Dot chart of the best training rate without each of {n} folds of tasks: {', '.join(names)} "
            f"(spectral). {below} of {n} are negative, {above} positive."
        ),
        legend=(
            Entry("orange", "dot", "best training rate without the fold"),
            Entry("green", "area", f"{words.level(interval.level)} interval of the best training rate"),
        ),
        note="These picks are from the second cross-validation, on the other folds only.",
        table=Table(
            "Picks without each fold",
            ("fold left out", "training rate (spectral)", "adaptation rate (spectral)", "ridge"),
            [
                (str(i + 1), name, words.number(pick.adapt_rate / comparison.scale), f"{pick.ridge:g}")
                for i, (name, pick) in enumerate(zip(names, comparison.fold_picks["signed"], strict=True))
            ],
        ),
    )
