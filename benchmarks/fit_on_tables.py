"""What a fit chooses on real grouped tables: the held-out error of each strategy, and the gain of a signed rate.

Prints the Markdown table of docs/how-to/choosing.md: errors over the variance of the target, all settings as they come.

    OPENBLAS_NUM_THREADS=1 python benchmarks/fit_on_tables.py [--data ../shared/data] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from compare_on_tables import TABLES, opened

from undertow import MAMLRegressorCV
from undertow.estimators import fit_table

SHOWN = ("joint", "step", "tied", "signed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| table | tasks, rows | joint | step | tied | signed | gain of signed | verdict | blend | best alone |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.tables:
        table, n_support = opened(Path(options.data), name, 5)
        choice = fit_table(MAMLRegressorCV(n_support), table).choice_
        mse = {one: candidate.mse for one, candidate in choice.candidates.items()}
        best = min((one for one in mse if one != "blend"), key=mse.__getitem__)
        gain = choice.gains["step"]
        cells = [
            f"{name}{'' if choice.strategy == 'blend' else f' (uses {choice.strategy})'}",
            f"{choice.n_tasks}, {n_support}",
            *(f"{mse[one]:.3f}" for one in SHOWN),
            f"{gain.percent:+.2f} ({gain.low:+.2f} to {gain.high:+.2f}) %",
            choice.verdict.value,
            f"{mse['blend']:.3f}",
            f"{best}, {mse[best]:.3f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
