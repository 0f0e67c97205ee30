"""Few-shot classification of drawn characters by a small convolutional network, train rates of both signs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field

from undertow._check import InputError
from undertow.experiments.training_experiment import TrainingExperiment
from undertow.plots import style
from undertow.problem import Design
from undertow.tasks import ImageTasks, read_images
from undertow.trials import paired
from undertow.trials.config import ExperimentConfig, Rates, RatesWithZero, Runs, Size
from undertow.trials.finding import Finding, above, counted, mean_interval, sentence, weakest
from undertow.trials.panel import Cell, cut_runs

GPU: dict[str, Any] = {
    "filters": 64,
    "meta_batch": 32,
    "iterations": 40000,
    "test_query": 15,
    "n_test_tasks": 1000,
    "runs": 3,
    "train_rates": (-0.4, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.4),
}
"""Settings of a full run for a GPU; the network, tasks per iteration and iterations are of the order of Finn et al."""


class Config(ExperimentConfig):
    """Settings; the defaults are sized for a CPU and are ours. ``images`` has no default: the package ships none."""

    images: str | None = Field(None, description="folder or .npz file of labelled images")
    ways: Annotated[int, Field(ge=2)] = Field(5, description="classes of a task")
    shots: Annotated[tuple[Size, ...], Field(min_length=1, strict=False)] = Field(
        (1, 5), description="support images of each class"
    )
    query: Size = Field(5, description="query images of each class while training")
    test_query: Size = Field(10, description="test images of each class of a new task")
    test_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.25, description="share of the classes held out")
    filters: Size = Field(8, description="channels of each convolution")
    layers: Size = Field(4, description="convolutions")
    meta_batch: Size = Field(4, description="tasks per iteration")
    iterations: Size = Field(500, description="iterations")
    step: Annotated[float, Field(gt=0)] = Field(0.003, description="Adam's step")
    train_rates: RatesWithZero = Field((-0.4, -0.1, 0.0, 0.1, 0.4), description="train rates, one step")
    adapt_rates: Rates = Field((0.0, 0.05, 0.2, 0.4, 1.0), description="rates of the step on new tasks")
    runs: Runs = Field(2, description="seeds")
    n_test_tasks: Size = Field(100, description="new tasks")


def cut(config: Config) -> list[Cell]:
    """One cell for each number of shots, run and train rate: each is minutes of work."""
    return [
        Cell(f"shots{shots}-{one.first_run}-rate{k}", index * len(config.train_rates) + k, one.first_run, 1,
             config.seed, (index, one.first_run))
        for index, shots in enumerate(config.shots)
        for one in cut_runs("", index, config.runs, 1, config.seed)
        for k in range(len(config.train_rates))
    ]  # fmt: skip


@lru_cache(maxsize=4)
def _tasks(path: str, ways: int, share: float, seed: int) -> tuple[ImageTasks, ImageTasks, int]:
    """Training episodes, with rotated classes, test episodes of other classes, and the side of the images."""
    images = read_images(path)
    train, test = images.split((1 - share, share), seed)
    return ImageTasks(train, ways, rotations=True), ImageTasks(test, ways), images.images.shape[1]


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train at one rate and test; all rates of a run see the same tasks and start."""
    if config.images is None or not Path(config.images).exists():
        raise InputError(
            "images",
            config.images,
            "omniglot needs a folder of images, one folder for each class, or an .npz file.",
            "Name it: undertow reproduce omniglot --images PATH",
        )
    import jax
    import jax.numpy as jnp

    from undertow import gradient as ug
    from undertow.experiments.conv_net import adam, conv_loss

    index, k = divmod(cell.panel, len(config.train_rates))
    shots, ways, rate = config.shots[index], config.ways, config.train_rates[k]
    train, test, side = _tasks(config.images, ways, config.test_share, config.seed)
    init, apply, loss_fn = conv_loss(ways, config.filters, config.layers, side)
    generator = cell.generator()
    seed = int(generator.integers(2**31))
    new = test.sample(Design(config.n_test_tasks, ways * shots, ways * config.test_query), generator)
    state, history = ug.train(
        loss_fn,
        init(jax.random.key(seed, impl="threefry2x32")),
        ug.Source(train, Design(config.meta_batch, ways * shots, ways * config.query)),
        adam(config.step),
        rate,
        iterations=config.iterations,
        seed=seed,
    )

    @jax.jit
    def accuracy(params: Any, adapt_rate: Any) -> Any:
        def one(task: Any) -> Any:
            theta = ug.adapt(loss_fn, params, (task[0], task[1]), adapt_rate)
            return jnp.mean(apply(theta, task[2]).argmax(axis=-1) == task[3])

        return jax.lax.map(one, (new.support_x, new.support_y, new.query_x, new.query_y)).mean()

    last = slice(-min(50, config.iterations), None)
    n = len(config.adapt_rates)
    return pa.table(
        {
            "shots": [shots] * n,
            "run": [cell.first_run] * n,
            "train_rate": [rate] * n,
            "adapt_rate": list(config.adapt_rates),
            "accuracy": [float(accuracy(state.params, a)) for a in config.adapt_rates],
            "meta_loss": [float(history.meta_loss[last].mean())] * n,
            "support_change": [float((history.support_after - history.support_before)[last].mean())] * n,
        }
    )


def best_adapted(table: pa.Table, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rates, adapt rates, accuracies (runs, k)), each train rate with the adapt rate best on average."""
    table = table.append_column("error", pa.array(-table["accuracy"].to_numpy()))
    rates, adapt, errors = paired.best_adapted(table, "error", shots=shots)
    return rates, adapt, -errors


def draw(table: pa.Table, config: Config) -> Figure:
    """Accuracy on new classes against the train rate."""
    with style.context():
        made, axes = style.figure(len(config.shots), width=4.2)
        for one, shots in zip(axes[0], config.shots, strict=True):
            rates, _, values = best_adapted(table, shots)
            mean, se = (100 * x for x in paired.mean_and_se(values))
            one.errorbar(rates, mean, se, fmt="o-", markersize=3.2, capsize=1.5, label="one step at its best rate")
            one.axhline(100 / config.ways, color=style.GREY, linestyle="--", label="guessing")
            one.axvline(0.0, color=style.GREY, linewidth=0.7)
            one.set(xlabel="train rate", ylabel="accuracy on new classes, %")
            one.set_title(f"{config.ways} ways, {counted(shots, 'shot')}, {config.iterations} iterations")
        style.shared_legend(made, axes, columns=2)
        return made


def finding(table: pa.Table, config: Config) -> Finding:
    """At every number of shots the best positive train rate is more accurate than the best rate that is not."""
    lines, found = [], []
    for shots in config.shots:
        rates, _, values = best_adapted(table, shots)
        gain, low, high = mean_interval(-100 * paired.positive_against_rest(rates, -values))
        found.append((gain, low, high))
        lines.append(
            f"{counted(shots, 'shot')}: accuracy at the best rate > 0 minus that at the best rate "
            f"<= 0: {sentence(gain, low, high, 'points')}"
        )
    lines.append(f"{config.runs} seeds; each rate is chosen on the other seeds")
    return Finding(
        "accuracy difference",
        *min(found, key=lambda ends: ends[1]),
        unit="points",
        result=weakest([above(low, high) for _, low, high in found]),
        lines=tuple(lines),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Accuracy at each train rate."""
    lines = []
    for shots in config.shots:
        rates, adapt, values = best_adapted(table, shots)
        mean, se = paired.mean_and_se(values)
        lines.append(
            f"{config.ways} ways, {counted(shots, 'shot')}: accuracy on new classes after one step: "
            + "; ".join(
                f"rate {r:+g}: {100 * m:.1f} % \u00b1 {100 * s:.1f} % (adapted at {a:g})"
                for r, m, s, a in zip(rates, mean, se, adapt, strict=True)
            )
            + "."
        )
        _, change = paired.by_run(table, "support_change", shots=shots, adapt_rate=float(config.adapt_rates[0]))
        lines.append(
            f"{config.ways} ways, {counted(shots, 'shot')}: change of the support loss in the inner step at the end of "
            "training: "
            + "; ".join(f"rate {r:+g}: {c:+.3f}" for r, c in zip(rates, change.mean(axis=0), strict=True))
            + "."
        )
    lines.append(
        f"{config.iterations} iterations, {config.filters} filters, {config.runs} seeds; guessing gives "
        f"{100 / config.ways:.0f} %. The adapt rate is chosen on the tasks on which it is reported."
    )
    return lines


EXPERIMENT = TrainingExperiment(
    name="omniglot",
    claim="Images of classes that are renumbered in each task: a positive train rate is best (needs --images).",
    short="best rate > 0",
    run_time="~6 min",
    quick_time="1 min",
    Config=Config,
    quick={"shots": (1,), "iterations": 50, "train_rates": (-0.1, 0.0, 0.4), "n_test_tasks": 20},
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut,
    compute=compute,
    data="images",
)
