"""Where a command's results go: nothing that the user had is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from undertow._check import InputError, Setting
from undertow._write import is_empty


def refuse_other_results(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Nothing that the user had is lost: raise where the folder holds something else than these results."""
    if overwrite or is_empty(folder):
        return
    way_out = ("Choose another ", Setting("out"), ", or give ", Setting("overwrite"))
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["settings"]
        if not isinstance(before, dict):
            raise TypeError
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        replaces = ", which replaces files of the same names and leaves the others."
        rule = "the folder is not empty and holds no results of this command."
        raise InputError("out", folder, rule, (*way_out, replaces)) from None
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        rule = f"the folder holds results of other settings (other {', '.join(other)})."
        raise InputError("out", folder, rule, (*way_out, "."))


def files_elsewhere(folder: Path, files: dict[str, Path], overwrite: bool, settings: dict[str, Any]) -> dict[str, str]:
    """Files written outside the folder, by what they are, now or before; InputError where one would be lost.

    files: of the options "save" and "report". What the same command wrote before may be written again: the folder's
    summary says which files these are. It goes on saying so of those that are not written this time; with ``overwrite``
    only where the ``settings`` are the same.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        before = dict(summary["files_elsewhere"]) if not overwrite or summary["settings"] == settings else {}
    except (OSError, ValueError, LookupError, TypeError):
        before = {}
    found: dict[str, str] = dict(before)
    for option, what in (("save", "model"), ("report", "report")):
        if option not in files:
            continue
        file = files[option]
        found[what] = str(file.absolute())
        if file.exists() and not overwrite and before.get(what) != found[what]:
            raise InputError(
                option,
                file,
                f"the file is there already, and {folder} does not say that it was written with these settings.",
                ("Choose another name, or give ", Setting("overwrite"), "."),
            )
    return found
