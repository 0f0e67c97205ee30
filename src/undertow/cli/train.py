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
    from undertow.cli.train_settings import Settings

RECORD = "settings.json"
FREE = ("iterations", "checkpoint_every")


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings; docs/gradient_experiments.md.")],
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
            raise InputError(f'undertow train needs {name}: pip install "undertow[gradient]"')
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

    record = settings.model_dump(mode="json")
    path = folder / RECORD
    if path.is_file() and overwrite:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    elif path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            raise InputError(f"{path} cannot be read: choose another --out, or give --overwrite.") from None
        changed = _changes(before, record)
        if changed:
            raise InputError(
                f"{folder} holds a run of other settings ({'; '.join(changed[:4])}). Choose another --out, or give "
                "--overwrite to replace it."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no {RECORD}: choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


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


def _train(folder: Path, settings: Settings, case: Any) -> dict[str, Any]:
    import numpy as np
    import optax
    import pyarrow.parquet as pq
    from rich.console import Console

    from undertow import gradient as ug
    from undertow._check import InputError
    from undertow.plots import style
    from undertow.plots.training import TrainingCurve

    inner, outer = settings.inner, settings.outer
    kinds = {"no": lambda p, r: r, "one": lambda p, r: r, "layer": ug.per_layer, "parameter": ug.per_parameter}
    chosen = {"all": lambda params: True, "last": ug.last_layer, "all_but_last": ug.all_but_last}
    try:
        state, history = ug.train(
            case.loss_fn,
            case.params,
            case.source,
            optax.adam(outer.step),
            kinds[inner.learn](case.params, inner.train_rate),
            inner.steps,
            inner.first_order,
            iterations=outer.iterations,
            adapts=chosen[inner.adapts](case.params),
            design=case.design,
            meta_batch=case.meta_batch,
            seed=outer.seed,
            learn_rate=inner.learn != "no",
            validation=case.validation,
            validate_every=outer.validate_every,
            adapt_rate=inner.adapt_rate,
            patience=outer.patience,
            checkpoint=folder / "checkpoint",
            checkpoint_every=outer.checkpoint_every,
            progress=Console(stderr=True).is_terminal,
        )
    except ug.NonFiniteError as error:
        raise InputError(str(error)) from None
    pq.write_table(history.table(), folder / "history.parquet")
    curve = TrainingCurve(
        history.meta_loss,
        history.support_before,
        history.support_after,
        history.validation_iteration,
        history.validation_loss,
        case.loss_name,
    )
    with style.context():
        made = curve.figure()
        made.savefig(folder / "figure.png")
        made.savefig(folder / "figure.svg", metadata={"Date": None})
    rate = state.rate if inner.adapt_rate is None else inner.adapt_rate
    last = slice(-min(50, len(history.meta_loss)), None)
    learned = None
    if inner.learn != "no":
        import jax

        learned = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.rate)])
    final = ug.meta_loss(
        case.loss_fn, state.params, case.validation, rate, inner.steps, adapts=chosen[inner.adapts](case.params)
    )[0]
    summary = {
        "iterations": state.iteration,
        "stopped": state.stopped,
        "loss": case.loss_name,
        "meta_loss": float(history.meta_loss[last].mean()),
        "support_before": float(history.support_before[last].mean()),
        "support_after": float(history.support_after[last].mean()),
        "validation_loss": _finite(final),
        "best_loss": _finite(state.best_loss),
        "best_iteration": state.best_iteration,
        "negative_rates": None if learned is None else float((learned < 0).mean()),
        "mean_rate": None if learned is None else float(learned.mean()),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=True) + "\n")
    return summary
