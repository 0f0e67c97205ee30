"""Curves over train rates from runs that share their draws: differences from rate 0, and the lowest point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from undertow.trials.optimum import Optimum


def by_run(table: pa.Table, column: str, rate: str = "train_rate", **where: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column at the chosen rows: rates (k,) ascending and values (runs, k)."""
    for name, value in where.items():
        table = table.filter(pc.field(name) == value)
    rates, position = np.unique(table[rate].to_numpy(), return_inverse=True)
    runs, row = np.unique(table["run"].to_numpy(), return_inverse=True)
    values = np.full((len(runs), len(rates)), np.nan)
    values[row, position] = table[column].to_numpy(zero_copy_only=False)
    return rates, values


def best_adapted(table: pa.Table, column: str, **where: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rates, adapt rates, values (runs, k)): each train rate with the adapt rate that suits it best.

    That rate is chosen by the mean over all runs, on the tasks on which it is reported: one of a few values. The
    lower a value, the better; one that is not finite is never the best.
    """
    adapt = np.unique(table["adapt_rate"].drop_null().to_numpy())
    found = [by_run(table, column, adapt_rate=rate, **where) for rate in adapt]
    rates, values = found[0][0], np.stack([one for _, one in found])
    best = np.where(np.isfinite(values).all(axis=1), values.mean(axis=1), np.inf).argmin(axis=0)
    return rates, adapt[best], values[best, :, np.arange(len(rates))].T


def mean_and_se(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over runs, (k,), and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def differences(rates: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean paired difference from rate 0, (k,), and its standard error."""
    return mean_and_se(values - values[:, rates == 0.0])


def interval(found: Optimum) -> str:
    """The optimum and its 95 % interval, as text."""
    edge = ", at the edge of the sweep" if found.at_edge else ""
    return f"{found.rate:+.2f} (95 % interval {found.low:+.2f} to {found.high:+.2f}{edge})"


def sign_of(found: Optimum) -> str:
    """What the interval says about the sign of the best rate."""
    if found.high < 0:
        return "negative"
    return "positive" if found.low > 0 else "undetermined"


def positive_against_rest(rates: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(runs,) the value at the best positive rate minus that at the best rate <= 0; the lower a value, the better.

    Both rates are chosen on the other runs, so that the choice does not favour the larger side. NaN where the rates
    have one side only.
    """
    total = values.sum(axis=0) - values
    total = np.where(np.isfinite(total), total, np.inf)
    sides = [np.flatnonzero(side) for side in (rates > 0, rates <= 0)]
    if not all(map(len, sides)):
        return np.full(len(values), np.nan)
    run = np.arange(len(values))
    positive, rest = (values[run, side[total[:, side].argmin(axis=1)]] for side in sides)
    return positive - rest


def against_zero(rates: np.ndarray, values: np.ndarray, at: float) -> str:
    """The paired difference at one rate, relative to the mean at rate 0, with its standard error, as text."""
    difference, se = differences(rates, values)
    k = int(abs(rates - at).argmin())
    base = values[:, rates == 0.0].mean()
    return f"{100 * difference[k] / base:+.2f} % \u00b1 {100 * se[k] / base:.2f} %"
