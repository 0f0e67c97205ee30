"""A command as it was typed, for reports."""

from __future__ import annotations

import shlex
from typing import Any


def command_line(ctx: Any) -> str:
    """Return the command with the options that were given, quoted so that a shell takes it as it is."""
    words = [*ctx.command_path.split(" ")]
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[parameter.name]
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else (parameter.secondary_opts or parameter.opts)[0])
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)
