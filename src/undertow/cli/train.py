"""``undertow train``: meta-train a model from a settings file; stop and go on; a table and a figure of its course."""

from __future__ import annotations

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.errors import INTERRUPTED

if TYPE_CHECKING:
    from undertow.cli.train_cases import Case
    from undertow.cli.train_settings import Settings
    from undertow.gradient import History, TrainState

RECORD = "settings.json"
FREE = ("iterations", "checkpoint_every")


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="See docs/reference/gradient_experiments.md.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="CONFIG-train")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw earlier results there away.")] = False,
) -> None:
    """Meta-train a network on sine waves, images or your own table, with a signed inner rate.

    A stopped run goes on from its last checkpoint when the same command is given again.
    """
    from undertow._check import InputError
    from undertow.cli.train_settings import read_settings

    settings = read_settings(config)
    for name in ("jax", "optax", "safetensors"):
        if find_spec(name) is None:
            way_out = 'Install it: pip install "undertow[gradient]"'
            raise InputError(None, rule=f"undertow train needs {name}.", way_out=way_out)
    from undertow.cli.train_cases import case_of

    folder = Path(f"{config.stem}-train") if out is None else out
    # Before the folder: a case that cannot be built leaves nothing behind.
    case = case_of(settings)
    _open(folder, settings, overwrite)
    try:
        summary = _train(folder, settings, case)
    except KeyboardInterrupt:
        kept = (folder / "checkpoint" / "state.json").exists()
        what = f"goes on from the last checkpoint in {folder}" if kept else "starts anew: there was no checkpoint yet"
        typer.echo(f"Interrupted. The same command {what}.", err=True)
        # A compiled program may still be running in another thread: waiting for it, or tearing it down, can crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    typer.echo(
        f"{settings.case}: {summary['iterations']} iterations, stopped by {summary['stopped'].replace('_', ' ')}; "
        f"{summary['loss']}"
    )
    typer.echo(
        f"  support loss in the inner step, last iterations: {summary['support_before']:.4g} before, "
        f"{summary['support_after']:.4g} after"
    )
    typer.echo(
        f"  validation tasks after adaptation: {_text(summary['validation_loss'])} at the end; best "
        f"{_text(summary['best_loss'])} after {summary['best_iteration']} iterations"
    )
    if summary["negative_rates"] is not None:
        typer.echo(f"  learned rates: {summary['negative_rates']:.1%} are negative, mean {summary['mean_rate']:.4g}")
    typer.echo(f"  files: {folder}/history.parquet, figure.png, figure.svg, summary.json, checkpoint/")


def _finite(value: Any) -> float | None:
    """None for what is no number, which JSON does not know."""
    return float(value) if math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "no finite loss" if value is None else f"{value:.4g}"


def _open(folder: Path, settings: Settings, overwrite: bool) -> None:
    """Make the folder ready, or refuse one that holds results of other settings."""
    import shutil

    from undertow._check import InputError
    from undertow._write import is_empty, sweep, write_text
    from undertow.cli.output import check_folder

    check_folder(folder)
    record = settings.model_dump(mode="json")
    path = folder / RECORD
    if path.is_file() and overwrite:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    elif path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            way_out = "Choose another --out, or give --overwrite."
            raise InputError(None, rule=f"{path} cannot be read.", way_out=way_out) from None
        changed = _changes(before, record)
        if changed:
            raise InputError(
                None,
                rule=f"{folder} holds a run of other settings ({'; '.join(changed[:4])}).",
                way_out="Choose another --out, or give --overwrite to replace it.",
            )
    elif not is_empty(folder):
        raise InputError(None, rule=f"{folder} is not empty and holds no {RECORD}.", way_out="Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    write_text(path, json.dumps(record, indent=2) + "\n")


def _changes(before: Any, now: Any, name: str = "") -> list[str]:
    """Settings that differ, but for those that a longer run may change."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*before, *now})
            if key not in FREE
            for line in _changes(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [f"{name}: {before!r} there, {now!r} now"]


def _train(folder: Path, settings: Settings, case: Case) -> dict[str, Any]:
    """Train, write what was seen on the way, and return the summary."""
    import optax
    from rich.console import Console

    from undertow import gradient as ug
    from undertow._check import InputError
    from undertow._write import write_text

    inner, outer = settings.inner, settings.outer
    kinds = {"no": lambda p, r: r, "one": lambda p, r: r, "layer": ug.per_layer, "parameter": ug.per_parameter}
    chosen = {"all": lambda params: True, "last": ug.last_layer, "all_but_last": ug.all_but_last}
    loop = ug.InnerLoop(inner.steps, first_order=inner.first_order, adapts=chosen[inner.adapts](case.params))
    try:
        state, history = ug.train(
            case.loss_fn,
            case.params,
            case.source,
            optax.adam(outer.step),
            kinds[inner.learn](case.params, inner.train_rate),
            loop,
            iterations=outer.iterations,
            seed=outer.seed,
            learn_rate=inner.learn != "no",
            validation=ug.Validation(
                case.new_tasks, inner.adapt_rate, every=outer.validate_every, patience=outer.patience
            ),
            checkpoint=ug.Checkpoint(folder / "checkpoint", outer.checkpoint_every),
            progress=Console(stderr=True).is_terminal,
        )
    except ug.NonFiniteError as error:
        raise InputError(None, rule=str(error)) from None
    _write_course(folder, history, case.loss_name)
    rate = state.rate if inner.adapt_rate is None else inner.adapt_rate
    final, _ = ug.meta_loss(case.loss_fn, state.params, case.new_tasks, rate, loop)
    learned = None if inner.learn == "no" else state.rate
    summary = _summary(state, history, learned) | {"loss": case.loss_name, "validation_loss": _finite(final)}
    write_text(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=True) + "\n")
    return summary


def _write_course(folder: Path, history: History, loss_name: str) -> None:
    """Write the losses of all iterations, as a table and as a figure."""
    from undertow.cli.output import write_figure, write_parquet
    from undertow.plots import style
    from undertow.plots.training import TrainingCurve

    write_parquet(folder / "history.parquet", history.table())
    curve = TrainingCurve(
        history.meta_loss,
        history.support_before,
        history.support_after,
        history.validation_iteration,
        history.validation_loss,
        loss_name,
    )
    with style.context():
        write_figure(curve.figure(), folder)


def _summary(state: TrainState, history: History, learned: Any) -> dict[str, Any]:
    """What is left to say of a run; ``learned``: the learned rates, or None."""
    import jax
    import numpy as np

    last = slice(-min(50, len(history.meta_loss)), None)
    rates = None if learned is None else np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(learned)])
    return {
        "iterations": state.iteration,
        "stopped": state.stopped,
        "meta_loss": float(history.meta_loss[last].mean()),
        "support_before": float(history.support_before[last].mean()),
        "support_after": float(history.support_after[last].mean()),
        "best_loss": _finite(state.best_loss),
        "best_iteration": state.best_iteration,
        "negative_rates": None if rates is None else float((rates < 0).mean()),
        "mean_rate": None if rates is None else float(rates.mean()),
    }
