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
    from undertow.cli.train_run import Measured
    from undertow.cli.train_settings import Settings
    from undertow.gradient import History, TrainState

RECORD = "settings.json"
FREE = ("iterations", "checkpoint_every")
# Fewer tasks than these have no standard error worth the name.
_FEW = 5


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="See docs/reference/gradient_experiments.md.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="CONFIG-train")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")] = False,
) -> None:
    """Meta-train a network on sine waves, images or your own table, with a signed train rate.

    A stopped run goes on from its last checkpoint when the same command is given again.
    """
    from undertow._check import InputError
    from undertow.cli.train_settings import read_settings

    settings = read_settings(config)
    for name in ("jax", "optax", "safetensors"):
        if find_spec(name) is None:
            way_out = 'Install it: pip install "undertow[gradient]"'
            raise InputError(None, rule=f"undertow train needs {name}.", way_out=way_out)
    folder = Path(f"{config.stem}-train") if out is None else out
    # Before JAX, which takes seconds to import.
    _refuse(folder, settings, overwrite)
    from undertow.cli.train_cases import case_of

    # Before the folder is touched: a case that cannot be built leaves nothing behind.
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
    for line in _lines(settings, case, summary, folder):
        typer.echo(line)


def _lines(settings: Settings, case: Case, found: dict[str, Any], folder: Path) -> list[str]:
    """What the screen says."""
    from undertow.cli.output import count

    n, rate = len(case.new_tasks.query_y), settings.inner.adapt_rate
    best = f"; best {_text(found['best_loss'])} after {found['best_iteration']} iterations"
    best = best if found["iterations"] >= settings.outer.validate_every else ""  # never measured on the way
    lines = [
        f"{settings.case}: {count(found['iterations'], 'iteration')}, stopped by {found['stopped'].replace('_', ' ')}",
        f"{found['loss']} of {n} validation task{'s' * (n > 1)}:",
        f"  {'after adaptation':<46}{_said(found['adapted'])}{best}",
        f"  {'without adaptation':<46}{_said(found['before'])}{_gain('adaptation', found['before'])}",
    ]
    for words, key in (("then adapted", "without"), ("not adapted", "without_before")):
        if found[key] is not None:
            words = f"trained without an inner loop, {words}"
            lines.append(f"  {words:<46}{_said(found[key])}{_gain('the inner loop', found[key])}")
    lines.append(
        f"support loss in the inner step, last iterations: {found['support_before']:.4g} before, "
        f"{found['support_after']:.4g} after"
    )
    if found["negative_rates"] is not None:
        lines.append(
            f"learned rates: {100 * found['negative_rates']:.1f} % are negative, mean {found['mean_rate']:.4g}"
        )
    if rate is not None and rate < 0:
        lines.append(
            f"note: adapt_rate = {rate:g} goes up the support loss of a new task. For linear models with independent "
            "noise the best rate there is never negative; try a positive one too."
        )
    if ((high := found["before"]["high"]) is not None and high < 0) or (found["before"]["gain"] or 0) < -0.5:
        lines.append("note: adaptation makes new tasks worse; try a smaller adapt_rate, or fewer adapt_steps.")
    few = min(n, n if case.n_tasks is None else case.n_tasks)
    if few < _FEW:
        seen = "" if case.n_tasks is None else f"{case.n_tasks} training and "
        lines.append(f"note: {seen}{n} validation tasks say little about new tasks.")
    return [*lines, f"files: {folder}/history.parquet, figure.png, figure.svg, summary.json, checkpoint/"]


def _said(one: dict[str, Any]) -> str:
    loss = _text(one["loss"])
    return loss if one["standard_error"] is None else f"{loss} (s.e. {one['standard_error']:.2g})"


def _gain(what: str, over: dict[str, Any]) -> str:
    if over["gain"] is None:
        return ""
    from undertow.choice.words import between, percent

    text = f"; {what} gains {percent(100 * over['gain'])}"
    return text if over["low"] is None else f"{text} (95 % CI {between(100 * over['low'], 100 * over['high'])})"


def _finite(value: Any) -> float | None:
    """None for what is no number, which JSON does not know."""
    return float(value) if math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "no finite loss" if value is None else f"{value:.4g}"


def _refuse(folder: Path, settings: Settings, overwrite: bool) -> None:
    """Raise InputError where the folder cannot be had, or holds results of other settings or of something else."""
    from undertow._check import InputError, Setting
    from undertow._plain import changed
    from undertow._write import is_empty
    from undertow.cli.output import check_folder

    check_folder(folder)
    record = settings.model_dump(mode="json")
    # A cosine ends with the last iteration: a longer run would have had other steps from the start.
    free = FREE if settings.outer.schedule == "constant" else FREE[1:]
    path, another = folder / RECORD, ("Choose another ", Setting("out"))
    if path.is_file() and not overwrite:
        try:
            before = json.loads(path.read_text())
        except ValueError:
            rule = f"its {RECORD} cannot be read."
            raise InputError("out", folder, rule, (*another, ", or give ", Setting("overwrite"), ".")) from None
        other = [one for one in changed(before, record) if one[0].rpartition(".")[2] not in free]
        if other:
            said = "; ".join(f"{name}: {old!r} there, {new!r} now" for name, old, new in other[:4])
            rule = f"the folder holds a run of other settings ({said})."
            way_out = (*another, ", or give ", Setting("overwrite"), " to replace it.")
            raise InputError("out", folder, rule, way_out)
    elif not path.is_file() and not is_empty(folder):
        rule = "the folder is not empty and holds no run of this command."
        raise InputError("out", folder, rule, (*another, "."))


def _open(folder: Path, settings: Settings, overwrite: bool) -> None:
    """Make the folder ready for a run that nothing stands against."""
    import shutil

    if overwrite and (folder / RECORD).is_file():
        for name in ("checkpoint", "no_inner_loop"):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write_settings(folder, settings)


def _write_settings(folder: Path, settings: Settings) -> None:
    from undertow._write import write_text

    write_text(folder / RECORD, json.dumps(settings.model_dump(mode="json"), indent=2) + "\n")


def _train(folder: Path, settings: Settings, case: Case) -> dict[str, Any]:
    """Train, write what was seen on the way, and return the summary."""
    from undertow._write import write_text
    from undertow.cli.train_run import run

    done = run(settings, case, folder)
    # Again: a checkpoint makes the folder anew where somebody has removed it.
    _write_settings(folder, settings)
    _write_course(folder, done.history, case.loss_name)
    learned = None if settings.inner.learn == "no" else done.state.rate
    summary = _summary(done.state, done.history, learned) | {
        "loss": case.loss_name,
        "validation_loss": _finite(done.adapted.mean[0]),
        "adapted": _losses(done.adapted),
        "before": _losses(done.before, done.adapted),
    }
    for key, one in zip(("without", "without_before"), done.without or (None, None), strict=True):
        summary[key] = None if one is None else _losses(one, done.adapted)
    write_text(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def _losses(one: Measured, against: Measured | None = None) -> dict[str, Any]:
    """A mean loss with its standard error, and what the run gains over it."""
    mean, error = one.mean
    alone = len(one.losses) < 2
    found = {"loss": _finite(mean), "standard_error": None if alone else _finite(error)}
    if against is None:
        return found
    gain = [_finite(value) for value in against.gain(one)]
    return found | {"gain": gain[0], "low": gain[1], "high": gain[2]}


def _write_course(folder: Path, history: History, loss_name: str) -> None:
    """Write the losses of all iterations, as a table and as a figure."""
    from undertow._write import write_figure
    from undertow.cli.output import write_parquet
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
