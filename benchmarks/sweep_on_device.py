"""A sweep over rates and seeds on whatever device JAX finds: side by side (vmap) against one after the other (map).

    python benchmarks/sweep_on_device.py [--runs 64] [--iterations 500] [--out FILE]

On a machine with a GPU install jax[cuda12] beside undertow[gradient]; one command gives all figures. Sinusoid
regression, 2 x 40 network, 10 support and 10 query rows, 25 tasks an iteration, second order.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import jax
import numpy as np
import optax

import undertow as ut
from undertow import gradient as ug


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64, help="runs in all: rates x 4 seeds")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    device = jax.devices()[0]
    sizes = (1, 40, 40, 1)
    apply = ug.mlp(sizes)[1]

    def init(key):
        return ug.mlp(sizes, key)[0]

    loss_fn, optimizer = ug.squared_loss(apply), optax.adam(1e-3)
    rates = np.linspace(-0.02, 0.02, max(1, options.runs // 4))
    source = ug.Source(ut.Sinusoid(), ut.Design(n_tasks=25, n_support=10, n_query=10))

    def run(strategy: str) -> float:
        start = time.perf_counter()
        ug.sweep(
            loss_fn, init, source, optimizer, rates, 4,
            iterations=options.iterations, strategy=strategy, block=4 * len(rates),
        )  # fmt: skip
        return time.perf_counter() - start

    first = {strategy: run(strategy) for strategy in ("map", "vmap")}
    rounds = [(run("map"), run("vmap")) for _ in range(options.rounds)]
    per_run = 1e6 / (4 * len(rates) * options.iterations)
    report = {
        "device": f"{device.platform}: {device.device_kind}",
        "jax": jax.__version__,
        "runs": 4 * len(rates),
        "iterations": options.iterations,
        "map_us_per_iteration_and_run": statistics.median(a for a, _ in rounds) * per_run,
        "vmap_us_per_iteration_and_run": statistics.median(b for _, b in rounds) * per_run,
        "vmap_over_map": statistics.median(b / a for a, b in rounds),
        "first_call_seconds": first,
    }
    print(json.dumps(report, indent=2))
    if options.out:
        with open(options.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
