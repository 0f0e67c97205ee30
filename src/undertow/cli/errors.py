"""What a user reads when something goes wrong: one message on stderr and an exit code, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import typer
from typer.core import TyperGroup

USAGE = 2
INTERRUPTED = 130

# Typer brings a copy of click, or takes the one that is installed: the class of what is wrong with a command line.
_UsageError: Any = typer.BadParameter.__bases__[0]


class Group(TyperGroup):
    """The command group; it turns the errors of its commands into messages.

    Exit codes: 2 for input that cannot be used (as for a mistyped option), 130 after Ctrl-C. Numbers too large to
    compute with, or for the memory, are input too. An error that is none of the user's, a defect, passes through with
    its traceback.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that was asked for, and keep what stands behind it for messages."""
        ctx.meta["args"] = list(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            _fail(f"Error: {_about_usage(error, ctx)}", USAGE)
        except KeyboardInterrupt:
            _fail("Interrupted.", INTERRUPTED)
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):  # what JAX says in place of MemoryError
                _fail("Error: not enough memory: ask for smaller sizes.", USAGE)
            # Where a class was being made, Python says so in place of the interruption.
            if not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            _fail("Interrupted.", INTERRUPTED)
        except BrokenPipeError:
            raise  # the reader of our output has gone: nothing is wrong
        except OSError as error:
            raise typer.Exit(cannot_write(error)) from None
        except MemoryError as error:
            _fail(f"Error: not enough memory ({str(error) or 'no more could be had'}): ask for smaller sizes.", USAGE)
        except ArithmeticError as error:
            what = error.args[-1] if error.args else type(error).__name__
            _fail(f"Error: a number is too large or too small to compute with ({what}): change its unit.", USAGE)
        except UnicodeError as error:
            _fail(f"Error: text cannot be read or written ({error}): it must be UTF-8.", USAGE)
        except ValueError as error:
            message = _input_error(error, ctx)
            if message is None:
                raise
            _fail(f"Error: {message}", USAGE)


def cannot_write(error: OSError) -> int:
    """Say what the system refused, and return the exit code."""
    where = f" {error.filename}:" if error.filename else ""
    typer.echo(f"Error:{where} {error.strerror or error}", err=True)
    return USAGE


def flushed(code: Any) -> Any:
    """Write out what was printed, and return the exit code: that of an error where this was none until now."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # The interpreter would try once more, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not code:
            return 1 if isinstance(error, BrokenPipeError) else cannot_write(error)
    return code


def strike_again(lost: sys.UnraisableHookArgs) -> None:
    """Let an interruption come once more that struck where Python drops errors, as in a callback of a library's.

    A hook for ``sys.unraisablehook``; other errors are shown as ever.
    """
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    # Here it would be dropped again.
    later = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    later.daemon = True
    later.start()


def _input_error(error: ValueError, ctx: Any) -> str | None:
    """The message for the user, in options of the command, or None where the error is not about input."""
    from pydantic import ValidationError

    from undertow._check import InputError
    from undertow.cli.options import spell

    if isinstance(error, InputError):
        command = ctx.command.get_command(ctx, ctx.invoked_subcommand or "") or ctx.command
        return error.text(lambda setting: spell(setting.name, setting.value, command))
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        )
    return None


def _about_usage(error: Any, ctx: Any) -> str:
    """What is wrong with a command line: the value of an option, or what the parser says."""
    from shlex import quote

    param: Any = getattr(error, "param", None)
    name = next((one for one in getattr(param, "opts", ()) if one.startswith("-")), None)
    words = [value for word in ctx.meta["args"] for value in word.split("=", 1)]
    if not isinstance(error, typer.BadParameter) or name not in words[:-1]:
        command = " ".join(filter(None, (ctx.command_path, ctx.invoked_subcommand)))
        said = error.format_message()
        return f"{said}{'' if said.endswith(('.', '?')) else '.'} See '{command} --help'."
    # Older releases of Typer keep the limits of a number in the option's type.
    limits = param if hasattr(param, "min") else param.type
    low, high = getattr(limits, "min", None), getattr(limits, "max", None)
    kind = "a number" if low is None else f"a whole number of at least {low}"
    most = "" if high is None else f" and at most {high:,}"
    # Of an option that is given twice the last value counts.
    value = words[len(words) - words[::-1].index(name)]
    return f"{name} {quote(value)}: it must be {kind}{most}."


def _fail(message: str, code: int) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(code)
