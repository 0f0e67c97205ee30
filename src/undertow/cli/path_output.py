"""What ``undertow path`` prints and writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from undertow.choice.rate_comparison import RateComparison
    from undertow.choice.record import Choice
    from undertow.tasks import GroupedTable
    from undertow.tasks.scaling import Scaling

# With more folds than this, the rates chosen without each fold are not listed one by one.
_MOST_RATES = 10


def print_table(name: str, raw: GroupedTable, scaling: Scaling, limits: np.ndarray, n_support: int, folds: int) -> None:
    """Say what was read, and at which rates a step overshoots: before anything is fitted."""
    import numpy as np

    from undertow.cli.output import say
    from undertow.cli.own_table import say_what_was_read
    from undertow.cli.wording import count

    say_what_was_read(name, raw, n_support)
    clipped = (
        "not clipped" if scaling.clip is None else f"{count(scaling.n_clipped, 'value')} clipped at {scaling.clip:g}"
    )
    say(f"features and target standardised ({clipped}); {count(n_support, 'support row')}, {folds} folds of tasks")
    say(
        f"stable adapt rates: below {limits.min():.3g} in the least stable task, {np.median(limits):.3g} in the median "
        f"one (2 / largest eigenvalue of {count(n_support, 'drawn row')})"
    )


def print_results(comparison: RateComparison, choice: Choice) -> None:
    """Print the verdict, then what was chosen and how it did on held-out tasks."""
    from undertow.choice.rate_picks import STRATEGIES
    from undertow.cli.output import console, say, show_table

    say(f"verdict: {_capital(choice.verdict)}. {choice.explanation}")
    say(_worth(choice))
    rates, held_out = [], []
    base = comparison.mean_loss("step")[0] / 100 or 1.0
    for strategy, words in STRATEGIES.items():
        one = comparison.picks[strategy]
        pairs = [(rate, unit) for rate in (one.train_rate, one.adapt_rate) for unit in (1.0, comparison.scale)]
        rates.append((words, *(_rate(rate, unit) for rate, unit in pairs), f"{one.ridge:g}"))
        loss, error = comparison.mean_loss(strategy)
        gap, gap_error = comparison.difference("step", strategy)
        against = ("", "") if strategy == "step" else (_hundredths(gap / base), _hundredths(gap_error / base, sign=""))
        held_out.append((words, _share(2 * loss), _share(2 * error), *against))
    to = console(soft_wrap=True)
    show_table(to, ("chosen on all tasks", "train rate", "spectral", "adapt rate", "spectral", "ridge"), rates)
    show_table(to, ("on held-out tasks", "MSE/variance", "s.e.", "gain over no loop", "s.e."), held_out)
    picks = [one.train_rate / comparison.scale for one in comparison.fold_picks["signed"]]
    say(
        f"signed train rate chosen without each fold: {_rates(picks)} (spectral); "
        f"spectral unit 1 / largest eigenvalue = {comparison.scale:.4g}"
    )
    say(
        "verdict and adaptation weigh the losses of the estimator: it chooses among more ridges and rules, and in "
        "another way, so they are not the losses of the table; on a small table they differ noticeably"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _worth(choice: Choice) -> str:
    """What adaptation, as the estimator does it, gains over none."""
    if choice.strategy == "joint":
        return "adaptation: none; common weights for all tasks have the least held-out loss"
    from undertow.choice.words import describe, percent

    gain = choice.best_gains["joint"]
    return (
        f"adaptation: {describe(choice.strategy)} gains {percent(gain.percent)} over none on held-out tasks "
        f"(interval {percent(gain.low)} to {percent(gain.high)})"
    )


def _hundredths(value: float, sign: str = "+") -> str:
    """A percentage with two decimals, or whole where it is 10 or more."""
    return f"{value:{sign}.0f} %" if abs(value) >= 9.995 else f"{value:{sign}.2f} %"


def _share(loss: float) -> str:
    """A loss as a share of the variance: four decimals, or three digits where these would show fewer."""
    return f"{loss:.4f}" if loss == 0 or loss >= 0.01 else f"{loss:.3g}"


def _rate(rate: float, unit: float) -> str:
    return "infinity" if math.isinf(rate) else "0" if rate == 0 else f"{rate / unit:+.3g}"


def _rates(rates: list[float]) -> str:
    """Rates on the circle: each of a few, of many the ends of the smallest arc that holds them."""
    import numpy as np

    if len(rates) <= _MOST_RATES:
        return ", ".join(_rate(rate, 1.0) for rate in rates)
    angles = np.sort(np.arctan(rates))
    gaps = np.diff(np.append(angles, angles[0] + np.pi))
    last = int(gaps.argmax())
    first = (last + 1) % len(angles)
    low, high = (
        _rate(float(np.tan(angles[i])) if abs(angles[i]) < np.pi / 2 - 1e-12 else math.inf, 1.0) for i in (first, last)
    )
    if low == high:
        return f"{low} each time"
    through = " through infinity" if first > last and "infinity" not in (low, high) else ""
    return f"{low} to {high}{through}"


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
    from undertow.choice.rate_picks import STRATEGIES
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
    # 0 in both where no strategy has a loss.
    base = comparison.mean_loss("step")[0] / 100 or 1.0
    gains = {s: [value / base for value in comparison.difference("step", s)] for s in STRATEGIES}
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
                "gain_over_no_inner_loop_percent": gains[s][0],
                "standard_error_of_gain_percent": gains[s][1],
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
