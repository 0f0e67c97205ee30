"""What ``undertow path`` prints and writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from undertow.linear import RateComparison
    from undertow.linear.choice import Choice
    from undertow.tasks import GroupedTable
    from undertow.tasks.scaling import Scaling


def print_table(name: str, raw: GroupedTable, scaling: Scaling, limits: np.ndarray, n_support: int, folds: int) -> None:
    """Say what was read, and at which rates a step overshoots: before anything is fitted."""
    import numpy as np

    low, high = raw.counts.min(), raw.counts.max()
    _say(
        f"{name}: {raw.n_tasks} tasks ({raw.task}) of {low if low == high else f'{low} to {high}'} rows, "
        f"{raw.n_rows} rows, {raw.n_features} features, target {raw.target}"
    )
    if raw.n_left_out:
        _say(
            f"left out: {raw.n_left_out} of {raw.n_left_out + raw.n_tasks} tasks, which have fewer than "
            f"{n_support + 1} rows"
        )
    clipped = "not clipped" if scaling.clip is None else f"{scaling.n_clipped} values clipped at {scaling.clip:g}"
    _say(f"features and target standardised ({clipped}); {n_support} support rows, {folds} folds of tasks")
    _say(
        f"stable adapt rates: below {limits.min():.3g} in the least stable task, {np.median(limits):.3g} in the median "
        f"one (2 / largest eigenvalue of {n_support} drawn rows)"
    )


def print_results(comparison: RateComparison, choice: Choice) -> None:
    """Print the verdict, then what was chosen and how it did on held-out tasks."""
    from undertow.cli.output import console, show_table
    from undertow.linear.select import STRATEGIES

    _say(f"verdict: {_capital(choice.verdict)}. {choice.explanation}")
    _say(_worth(choice))
    rates, held_out = [], []
    base = comparison.mean_loss("step")[0] / 100
    for strategy, words in STRATEGIES.items():
        one = comparison.picks[strategy]
        pairs = [(rate, unit) for rate in (one.train_rate, one.adapt_rate) for unit in (1.0, comparison.scale)]
        rates.append((words, *(_rate(rate, unit) for rate, unit in pairs), f"{one.ridge:g}"))
        loss, error = comparison.mean_loss(strategy)
        gap, gap_error = comparison.difference("step", strategy)
        against = ("", "") if strategy == "step" else (f"{gap / base:+.2f} %", f"{gap_error / base:.2f} %")
        held_out.append((words, f"{2 * loss:.4f}", f"{2 * error:.4f}", *against))
    to = console(soft_wrap=True)
    show_table(to, ("chosen on all tasks", "train rate", "spectral", "adapt rate", "spectral", "ridge"), rates)
    show_table(to, ("on held-out tasks", "MSE/variance", "s.e.", "gain over no loop", "s.e."), held_out)
    picks = sorted(one.train_rate / comparison.scale for one in comparison.fold_picks["signed"])
    _say(
        f"signed train rate chosen without each fold: {_rate(picks[0], 1.0)} to {_rate(picks[-1], 1.0)} (spectral); "
        f"spectral unit 1 / largest eigenvalue = {comparison.scale:.4g}"
    )
    _say(
        "the verdict weighs the held-out losses of the estimator, which has more ridges and rules to choose from: they "
        "differ a little from these"
    )


def _say(text: str) -> None:
    """Print a sentence: on a terminal with its words whole, into a pipe as one line."""
    from undertow.cli.output import console

    to = console()
    to.print(text, soft_wrap=not to.is_terminal)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _worth(choice: Choice) -> str:
    """What adaptation, as the estimator does it, gains over none."""
    if choice.strategy == "joint":
        return "adaptation: none; common weights for all tasks have the least held-out loss"
    gain = choice.best_gains["joint"]
    return (
        f"adaptation: {choice.strategy} gains {_percent(gain.percent)} over none on held-out tasks "
        f"(interval {_percent(gain.low)} to {_percent(gain.high)})"
    )


def _percent(value: float) -> str:
    return f"{value:+.0f} %" if abs(value) >= 10 else f"{value:+.2g} %"


def _rate(rate: float, unit: float) -> str:
    return "infinity" if math.isinf(rate) else "0" if rate == 0 else f"{rate / unit:+.3g}"


def write_results(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    raw: GroupedTable,
    data: GroupedTable,
    scaling: Scaling,
    comparison: RateComparison,
    choice: Choice,
    limits: np.ndarray,
    beside: dict[str, str],
) -> None:
    """Write figure and tables. ``beside``: files that the same run wrote elsewhere, by what they are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from undertow._version import __version__
    from undertow.linear.select import STRATEGIES
    from undertow.plots import comparison_figure, style

    surface, scale = comparison.surface, comparison.scale
    variance = scaling.target_scale**2
    pq.write_table(
        pa.table(
            {
                "train_rate": surface.train_rates,
                "train_rate_spectral": surface.train_rates / scale,
                "best_adapt_rate": comparison.curve_adapt_rates,
                "best_adapt_rate_spectral": comparison.curve_adapt_rates / scale,
                "cv_mse_over_variance": 2 * comparison.curve,
                "standard_error_of_difference_from_0": 2 * comparison.curve_errors,
            }
        ),
        folder / "path.parquet",
    )
    tasks = {"task": comparison.task_ids, "query_rows": comparison.task_rows, "stable_adapt_rate": limits}
    losses = {f"mse_over_variance_{s}": 2 * comparison.task_losses[:, i] for i, s in enumerate(STRATEGIES)}
    pq.write_table(pa.table(tasks | losses), folder / "held_out.parquet")
    pq.write_table(
        pa.table({"feature": list(data.feature_names)} | {name: comparison.weights[name] for name in STRATEGIES}),
        folder / "weights.parquet",
    )
    summary = {
        "undertow": __version__,
        "settings": settings,
        "spectral_unit": scale,
        "target_variance": variance,
        "values_clipped": scaling.n_clipped,
        "tasks_left_out": raw.n_left_out,
        "verdict": choice.verdict,
        "explanation": choice.explanation,
        "choice": choice.to_dict(),
        "stable_adapt_rate": {"least": _json(float(limits.min())), "median": _json(float(np.median(limits)))},
        "strategies": {
            s: {
                "train_rate": _json(one.train_rate),
                "adapt_rate": one.adapt_rate,
                "ridge": one.ridge,
                "held_out_mse": 2 * comparison.mean_loss(s)[0] * variance,
                "held_out_mse_over_variance": 2 * comparison.mean_loss(s)[0],
                "standard_error": 2 * comparison.mean_loss(s)[1],
                "difference_from_no_inner_loop": 2 * comparison.difference(s, "step")[0],
                "standard_error_of_difference": 2 * comparison.difference(s, "step")[1],
                "train_rate_without_each_fold": [_json(p.train_rate) for p in comparison.fold_picks[s]],
            }
            for s, one in comparison.picks.items()
        },
        "files_elsewhere": beside,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with style.context():
        made = comparison_figure(comparison, f"{name}: {_capital(choice.verdict)}", choice.interval)
        for suffix in ("png", "svg"):
            made.savefig(folder / f"figure.{suffix}", metadata={"Date": None} if suffix == "svg" else None)


def _json(rate: float) -> float | str:
    return "infinity" if math.isinf(rate) else rate
