"""What the tasks say about the sign of the train rate: bootstrap shares, and the picks without each fold."""

from __future__ import annotations

import numpy as np

from undertow.choice.record import Choice
from undertow.report import words
from undertow.report.charts import circle_axis, vega
from undertow.report.figure import Entry, Figure, Table, records


def fold_picks(choice: Choice) -> Figure:
    """Figure of the signed train rate that is chosen when each fold of tasks is left out."""
    interval, picks = choice.interval, choice.candidates["signed"].of_folds
    rates = np.array([one["train_rate_spectral"] for one in picks])
    adapt = np.array([one["adapt_rate_spectral"] for one in picks])
    n, names = len(rates), [words.rate(rate) for rate in rates]
    values = records(phi=np.arctan(rates), fold=np.arange(1, n + 1), rate=names, adapt=adapt)
    below, above = int((rates < 0).sum()), int(((rates > 0) & np.isfinite(rates)).sum())
    y = vega.rank("fold", axis={"title": "fold left out", "grid": True, "ticks": False, "domain": False})
    tips = vega.tips(fold="fold left out", rate="train rate (spectral)", adapt=("adapt rate (spectral)", ".3~f"))
    dots = vega.layer(values, vega.dots("orange", 80), {"x": circle_axis.x(), "y": y, "tooltip": tips})
    return Figure(
        name="folds",
        title="Train rate chosen when one fold of tasks is left out",
        spec={
            "height": n * (22 if n <= 12 else 14),
            "layer": [circle_axis.interval_layer(interval), circle_axis.zero(), dots],
        },
        summary=(
            f"Dot chart of the best train rate without each of {n} folds of tasks: {', '.join(names)} "
            f"(spectral). {below} of {n} are negative, {above} positive."
        ),
        legend=(
            Entry("orange", "dot", "best train rate without the fold"),
            Entry("green", "area", f"{words.level(interval.level)} interval of the best train rate"),
        ),
        note="Each rate was chosen on the other folds only.",
        table=Table(
            "Picks without each fold",
            ("fold left out", "train rate (spectral)", "adapt rate (spectral)", "ridge"),
            [
                (str(i + 1), name, words.rate(one["adapt_rate_spectral"]), f"{one['ridge']:.3g}")
                for i, (name, one) in enumerate(zip(names, picks, strict=True))
            ],
        ),
    )
