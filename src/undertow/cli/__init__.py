"""The ``undertow`` command. Each subcommand is a file; what it needs is imported when it runs, so that help is fast."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from undertow._version import __version__
from undertow.cli import compare, explore, fit, listing, predict, reproduce, theory, train
from undertow.cli.errors import INTERRUPTED, Group, cannot_write, flushed, strike_again
from undertow.cli.output import escape_what_cannot_be_shown


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"undertow {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="undertow",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Meta-learning (MAML) with signed inner-loop learning rates: experiments, theory and your own tables."""


# A new subcommand is one file with one function, and one line here.
app.command("reproduce")(reproduce.reproduce)
app.command("fit")(fit.fit)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("theory")(theory.theory)
app.command("explore")(explore.explore)
app.command("train")(train.train)
app.command("list")(listing.list_experiments)


def main() -> None:
    """Entry point of the ``undertow`` command."""
    escape_what_cannot_be_shown()
    # To be told to end is to be interrupted: what is being written is cleared away, other processes are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = strike_again
    try:
        app()
        code: Any = 0
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        # Help and the version are printed before there is a command whose errors could be caught.
        code = cannot_write(error)
    code = flushed(code)
    if code == INTERRUPTED:
        # Threads of libraries may still be at work, and tearing them down can crash.
        os._exit(code)
    sys.exit(code)
