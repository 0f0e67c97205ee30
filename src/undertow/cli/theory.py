"""``undertow theory``: the expected test loss against the train rate, and the best rates, from sizes alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

_ROWS_SHOWN = 13
_MOST_RATES = 100_000
# Input variances are 1: a rate beyond this is an infinite one to six digits, and its powers soon overflow.
_LARGEST_RATE = 1e6
# The loss is of second order in these: far from where a square overflows.
_LARGEST_SCALE = 1e50
_MOST_FEATURES, _MOST_ROWS = 10**8, 10**12
_BEST = ("optimal_train_rate", "loss_at_optimal_train_rate", "loss_at_train_rate_zero")


def theory(
    n_features: Annotated[int, typer.Option(min=1, max=_MOST_FEATURES, help="Features, p.")],
    n_support: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows of a task for the inner step, n_t.")],
    n_query: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows of a task for the outer loss, n_v.")],
    n_tasks: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Tasks, m.")],
    n_adapt: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_ROWS, help="Rows of a new task to adapt on, n_r.", show_default="n_support"),
    ] = None,
    noise_std: Annotated[float, typer.Option(help="Standard deviation of the noise, sigma.")] = 1.0,
    task_std: Annotated[float, typer.Option(help="Spread of the tasks, nu; nu^2 = E|w - w0|^2.")] = 0.5,
    adapt_rate: Annotated[float, typer.Option(help="Rate of the step on a new task.")] = 0.2,
    init_distance: Annotated[
        float, typer.Option(help="Distance of the start from the mean task, |omega0 - w0|.")
    ] = 0.0,
    method: Annotated[str, typer.Option(help="exact, drawn, leading, next_order, equivalent or auto.")] = "auto",
    rates: Annotated[str, typer.Option(help="Train rates: LOW:HIGH:COUNT, or a list such as -1,0,0.2.")] = "-3:3:61",
    plot: Annotated[Path | None, typer.Option(help="Draw the curve into this file (.png, .svg or .pdf).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every rate.")] = False,
) -> None:
    """Print the expected test loss of mixed linear regression over train rates, and the best rates.

    Example: undertow theory --n-features 60 --n-support 30 --n-query 2 --n-tasks 3 --n-adapt 20
    """
    import undertow as ut
    from undertow.cli.output import check_file

    if plot is not None:
        check_file(plot, "--plot", (".png", ".svg", ".pdf"))
    train_rates = parse_rates(rates)
    for value, option, most in (
        (adapt_rate, "--adapt-rate", _LARGEST_RATE),
        (noise_std, "--noise-std", _LARGEST_SCALE),
        (task_std, "--task-std", _LARGEST_SCALE),
        (init_distance, "--init-distance", _LARGEST_SCALE),
    ):
        _refuse_large(value, option, most)
    problem = ut.MixedLinearRegression(n_features, noise_std, task_std)
    design = ut.Design(n_tasks, n_support, n_query, n_adapt)

    answer, losses = _answer(problem, design, train_rates, adapt_rate, init_distance, method)
    if as_json:
        import json

        typer.echo(json.dumps(answer, allow_nan=False))
    else:
        _print(answer, losses, train_rates, n_features)
    if plot is not None:
        _plot(plot, losses, train_rates, answer)
        typer.echo(f"figure: {plot}", err=as_json)


def _answer(
    problem: Any, design: Any, train_rates: np.ndarray, adapt_rate: float, init_distance: float, method: str
) -> tuple[dict[str, Any], np.ndarray]:
    """What is printed, and the expected loss at each train rate."""
    import numpy as np

    import undertow as ut

    def loss(train: Any, adapt: float) -> np.ndarray:
        return np.asarray(ut.theory.expected_loss(problem, design, train, adapt, init_distance, method))

    losses = loss(train_rates, adapt_rate)
    best = ut.theory.optimal_train_rate(problem, design, method, init_distance=init_distance)
    choice = ut.theory.method_for(problem, design, train_rates)
    answer: dict[str, Any] = {
        "n_query_rows": design.n_query_rows,
        "method": best.method,
        "expected_relative_error": choice.expected_relative_error if choice.method == best.method else None,
        "adapt_rate": adapt_rate,
        "train_rates": train_rates.tolist(),
        "loss": [_finite(value) for value in losses],
        "message": best.message,
    }
    # Where the mean is infinite at every rate none is best.
    if not math.isnan(best):
        best_adapt = float(
            ut.theory.optimal_adapt_rate(problem, design, float(best), method, init_distance=init_distance)
        )
        answer |= {
            "optimal_train_rate": _finite(float(best)),
            "optimal_train_rate_interval": [_finite(end) for end in best.interval],
            "shallow": best.shallow,
            "loss_at_optimal_train_rate": _finite(float(loss(float(best), adapt_rate))),
            "loss_at_train_rate_zero": _finite(float(loss(0.0, adapt_rate))),
            "optimal_adapt_rate": _finite(best_adapt),
            "loss_at_both_optima": _finite(float(loss(float(best), best_adapt))),
        }
    return answer, losses


def parse_rates(text: str) -> np.ndarray:
    """Rates from "LOW:HIGH:COUNT" or from a list with commas; raises InputError for anything else."""
    import numpy as np

    from undertow import _check

    try:
        if ":" in text:
            low, high, number = text.split(":")
            ends, count = [float(low), float(high)], int(number)
            if count < 0:
                raise ValueError
        else:
            ends, count = [float(part) for part in text.split(",")], None
    except ValueError:
        raise _check.InputError(
            None,
            rule=f"--rates {text!r}: it cannot be read as rates.",
            way_out="Give LOW:HIGH:COUNT, for example -3:3:61, or numbers with commas, for example -1,0,0.2.",
        ) from None
    values = _check.rates(ends, "--rates")
    _refuse_large(abs(values).max(), "--rates", _LARGEST_RATE)
    if count is None:
        return np.unique(values)
    if count > _MOST_RATES:
        raise _check.InputError(
            None, rule=f"--rates {text!r}: {count} rates are too many.", way_out=f"Give at most {_MOST_RATES}."
        )
    # Rounded, so that the rate in the middle of an even sweep is 0 and not 4e-17.
    return np.unique(_check.rates(np.linspace(ends[0], ends[1], count).round(12) + 0.0, "--rates"))


def _refuse_large(value: float, option: str, most: float) -> None:
    from undertow._check import InputError

    if abs(value) > most:
        way_out = (
            "A larger one is an infinite rate to six digits"
            if most == _LARGEST_RATE
            else "Measure the target in another unit"
        )
        raise InputError(
            None, rule=f"{option} {value:g}: it must lie between -{most:g} and {most:g}.", way_out=f"{way_out}."
        )


def _finite(value: float) -> float | None:
    """None for infinity, which JSON does not know."""
    return float(value) if math.isfinite(value) else None


def _print(answer: dict[str, Any], losses: np.ndarray, train_rates: np.ndarray, n_features: int) -> None:
    from undertow.cli.output import console, say

    side = "<" if answer["n_query_rows"] < n_features else ">" if answer["n_query_rows"] > n_features else "="
    error = answer["expected_relative_error"]
    method = answer["method"]
    if error is not None:
        method += f" (expected relative error of E|omega* - w0|^2: {error:.2g})"
    say(f"N = {answer['n_query_rows']} query rows {side} p = {n_features} features; method: {method}")
    if "optimal_train_rate" in answer:
        _print_best(answer)
    say(f"Expected distance E|omega* - w0|^2: {answer['message']}")
    _print_curve(console(), losses, train_rates, answer["adapt_rate"])


def _print_best(answer: dict[str, Any]) -> None:
    from undertow.cli.output import say

    rate, least, zero = (answer[key] for key in _BEST)
    saved = ""
    if least is not None and zero:
        side = "below" if least <= zero else "above"
        saved = f", {100 * abs(1 - least / zero):.2f} % {side} the loss at train rate 0"
    say(
        f"best train rate: {'infinite' if rate is None else f'{rate:+.4f}'} (E|omega* - w0|^2 lies within 1 % of its "
        f"least {interval_text(*answer['optimal_train_rate_interval'])})"
    )
    say(f"test loss there at adapt rate {answer['adapt_rate']:g}: {_text(least)}{saved}")
    best_adapt, both = answer["optimal_adapt_rate"], _text(answer["loss_at_both_optima"])
    say(f"best adapt rate there: {'none' if best_adapt is None else f'{best_adapt:+.4f}'}, test loss {both}")


def interval_text(low: float | None, high: float | None) -> str:
    """The rates of an interval on the circle that closes at infinity; None is infinity."""
    if low is None and high is None:
        return "at every rate"
    start, end = ("infinity" if one is None else f"{one:+.3g}" for one in (low, high))
    through = " through infinity" if low is not None and high is not None and low > high else ""
    return f"from {start}{through} to {end}"


def _print_curve(to: Console, losses: np.ndarray, train_rates: np.ndarray, adapt_rate: float) -> None:
    import numpy as np
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("train rate", justify="right", overflow="fold")
    table.add_column(f"test loss at adapt rate {adapt_rate:g}", justify="right", overflow="fold")
    shown = np.unique(np.linspace(0, len(losses) - 1, min(len(losses), _ROWS_SHOWN)).round().astype(int))
    for i in shown:
        table.add_row(f"{train_rates[i]:+.4g}" if train_rates[i] else "0", f"{losses[i]:.6g}")
    to.print(table)
    if len(shown) < len(losses):
        to.print(f"({len(shown)} of {len(losses)} rates; --json prints all)")


def _text(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.6g}"


def _plot(path: Path, losses: np.ndarray, train_rates: np.ndarray, answer: dict[str, Any]) -> None:
    from undertow.plots import style
    from undertow.plots.regimes import LossCurve

    with style.context():
        made, axes = style.figure(width=5.2)
        curve = LossCurve(
            train_rates, theories={answer["method"]: losses}, theory_rate=answer.get("optimal_train_rate")
        )
        curve.plot(axes[0, 0], xlabel="train rate", title=f"adapt rate {answer['adapt_rate']:g}")
        style.shared_legend(made, axes, columns=2)
        made.savefig(path)
