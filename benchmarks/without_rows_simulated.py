"""What should predict a task without rows: the blend that the estimator makes, or one of its parts, on made tables.

Designs differ in what features say within tasks and between them. Errors are on 400 new tasks, each counting once,
over the target's variance; parts are the common weights of "joint", those of the strategy in use, and the mean. Beside
them stands least squares, "joint" with the least ridge.
Prints a Markdown table: the error of the blend, and of each part how much higher it is, in per cent with the standard
error over tables.

    OPENBLAS_NUM_THREADS=1 python benchmarks/without_rows_simulated.py [--tables 24]
"""

from __future__ import annotations

import argparse
import warnings
from typing import NamedTuple

import numpy as np

import undertow as ut


class Design(NamedTuple):
    """m tasks of n rows, p features of which a share ``between`` of the variance lies between tasks."""

    m: int
    n: int
    p: int
    between: float
    slope: float
    """length of the common slope within tasks"""
    context: float = 0.0
    """what is added to it between tasks"""
    level: float = 1.0
    """deviation of tasks' levels"""
    own: float = 0.5
    """length of the slope of a task's own"""
    noise: float = 1.0
    alike: float = 0.0
    """correlation of features"""
    sizes: float = 0.0
    """deviation of the logarithm of tasks' sizes, which all their numbers grow with; other fields do not count then"""


def few(m: int) -> dict[str, Design]:
    """Designs of few tasks."""
    return {
        f"features say much, {m} tasks": Design(m, 20, 3, 0.5, 1.5, level=0.7, own=0.3, noise=0.7),
        f"features say little, {m} tasks": Design(m, 20, 3, 0.5, 0.3, noise=0.7),
        f"features say nothing, {m} tasks": Design(m, 20, 3, 0.7, 0.0, noise=0.7),
        f"more between tasks, {m} tasks": Design(m, 20, 3, 0.8, 0.3, 0.9, level=0.5, own=0.3, noise=0.3),
        f"nothing between tasks, {m} tasks": Design(m, 20, 3, 0.6, 0.8, -0.8, own=0.3, noise=0.5),
        f"the same within and between, {m} tasks": Design(m, 20, 3, 0.3, 1.0, level=2.0, own=0.0, noise=0.5),
        f"much, features alike, {m} tasks": Design(m, 12, 6, 0.5, 1.5, level=0.5, own=0.3, noise=0.5, alike=0.6),
        f"log-normal sizes, {m} tasks": Design(m, 20, 3, 0.0, 0.0, sizes=0.5),
        f"widely log-normal sizes, {m} tasks": Design(m, 20, 2, 0.0, 0.0, sizes=1.0),
    }


DESIGNS = {
    "features say nothing, 40 tasks, 15 columns": Design(40, 30, 15, 0.7, 0.0, alike=0.6),
    "features say little, 40 tasks, 15 columns": Design(40, 30, 15, 0.7, 0.3, alike=0.6),
    "features say little, 40 tasks, 5 columns": Design(40, 15, 5, 0.3, 0.3),
    "more between tasks, 140 tasks, 3 columns": Design(140, 12, 3, 0.8, 0.3, 0.9, level=0.5, own=0.3, noise=0.3),
    "nothing between tasks, 60 tasks, 3 columns": Design(60, 12, 3, 0.6, 0.8, -0.8, own=0.3, noise=0.5),
    "the same within and between, 60 tasks, 3 columns": Design(60, 12, 3, 0.3, 1.0, level=2.0, own=0.0, noise=0.5),
    "the same, slopes vary, 60 tasks, 3 columns": Design(60, 12, 3, 0.3, 1.0, own=1.0, noise=0.5),
    "schools, 160 tasks, 9 columns": Design(160, 40, 9, 0.2, 0.6, level=0.4, own=0.2),
    "features say much, 25 tasks, 10 columns": Design(25, 12, 10, 0.4, 1.5, level=0.7, own=0.3, noise=0.7),
    **few(9),
    **few(15),
}


PARTS = ("joint", "least squares", "strategy", "constant")


def draw(design: Design, way: np.ndarray, rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m, n, p) and targets (m, n); way: (p,) direction of the common slope."""
    d = design
    if d.sizes:
        return _sized(d, way, rng, m)
    root = np.linalg.cholesky((1 - d.alike) * np.eye(d.p) + d.alike).T
    centre = np.sqrt(d.between) * rng.standard_normal((m, 1, d.p)) @ root
    x = centre + np.sqrt(1 - d.between) * rng.standard_normal((m, d.n, d.p)) @ root
    slopes = d.slope * way + d.own * rng.standard_normal((m, 1, d.p)) / np.sqrt(d.p)
    level = d.level * rng.standard_normal((m, 1)) + d.context * centre @ way
    return x, (x * slopes).sum(axis=2) + level + d.noise * rng.standard_normal((m, d.n))


def _sized(d: Design, way: np.ndarray, rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of tasks that are alike but for their sizes, as firms are."""
    size = np.exp(d.sizes * rng.standard_normal((m, 1, 1)))
    x = size * np.exp(0.5 * rng.standard_normal((m, 1, d.p))) * (1 + 0.3 * rng.standard_normal((m, d.n, d.p)))
    slopes = np.abs(way) * (1 + 0.3 * rng.standard_normal((m, 1, d.p)))
    level = 0.3 * rng.standard_normal((m, 1)) + 0.15 * rng.standard_normal((m, d.n))
    return x, (x * slopes).sum(axis=2) + size[..., 0] * level


def errors(design: Design, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    way = rng.standard_normal(design.p)
    way /= np.linalg.norm(way)
    (x, y), (new_x, new_y) = (draw(design, way, rng, m) for m in (design.m, 400))
    groups = np.repeat(np.arange(design.m), design.n)
    model = ut.MAMLRegressorCV(5, effort="fast", n_draws=2, random_state=seed)
    model.fit(x.reshape(-1, design.p), y.ravel(), groups=groups)
    settings = model.choice_.candidates["joint"].settings
    joint, least = (
        ut.MAMLRegressor(0.0, 0.0, 5, ridge=ridge, n_draws=2, random_state=seed).fit(
            x.reshape(-1, design.p), y.ravel(), groups=groups
        )
        for ridge in (settings["ridge"], 1e-6)
    )
    rows, standard = new_x.reshape(-1, design.p), model.model_.standard
    coef, intercept = standard.restore_weights(model.model_.omega)
    found = {
        "blend": model.predict(rows),
        "joint": joint.predict(rows),
        "least squares": least.predict(rows),
        "strategy": rows @ coef[0] + intercept[0],
        "constant": np.full(len(rows), y.mean()),
    }
    return {name: float(((one - new_y.ravel()) ** 2).mean() / new_y.var()) for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=24)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"| design | blend | {' | '.join(f'{one}, %' for one in PARTS)} |\n|---|---|---|---|---|---|", flush=True)
    for name, design in DESIGNS.items():
        every = [errors(design, seed) for seed in range(options.tables)]
        base, cells = np.array([one["blend"] for one in every]), []
        for part in PARTS:
            more = 100 * (np.array([one[part] for one in every]) - base) / base.mean()
            cells.append(f"{more.mean():+.1f} ({more.std(ddof=1) / len(more) ** 0.5:.1f})")
        print(f"| {name} | {base.mean():.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
