"""What the commands on one's own grouped table share: its source, the folder of results, the bar of progress."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.datasets import GroupedData
    from undertow.tasks import GroupedTable


def source_of(table: str, task: str | None, target: str | None) -> tuple[str, Any]:
    """A short name, and what to read: a file, or a data set of ours where no file of that name is there."""
    from undertow import datasets
    from undertow._check import InputError

    place = Path(table)
    if not place.is_file() and table in datasets.names():
        return table, _with_roles(datasets.load(table), task, target)
    if place.is_dir():
        raise InputError(f"{table!r} is a directory: give one file.")
    if not place.exists() and not place.suffix:
        raise InputError(
            f"{table!r} is neither a file nor a data set: give a .csv or .parquet file, or one of "
            f"{', '.join(datasets.names())}."
        )
    if not place.exists():
        raise InputError(f"{table!r}: there is no such file. The working directory is {str(Path.cwd())!r}.")
    missing = [option for option, value in (("--task", task), ("--target", target)) if value is None]
    if missing:
        raise InputError(f"{table} is a file: say with {' and '.join(missing)} COL which column it is.")
    stem = re.sub(r"(\.csv|\.tsv|\.parquet)?(\.gz)?$", "", place.name)
    return re.sub(r"[^\w.-]+", "_", stem) or "table", place


def _with_roles(data: GroupedData, task: str | None, target: str | None) -> GroupedData:
    """A data set of ours without the chosen task and target column among its features."""
    from dataclasses import replace

    return replace(data, features=tuple(name for name in data.features if name not in (task, target)))


def refuse_other_results(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Nothing that the user had is lost: raise where the folder holds something else than these results."""
    from undertow._check import InputError

    if overwrite or not folder.exists() or not any(folder.iterdir()):
        return
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["settings"]
        if not isinstance(before, dict):
            raise TypeError
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        raise InputError(
            f"{folder} is not empty and holds no results of this command: choose another --out, or give --overwrite, "
            "which replaces files of the same names and leaves the others."
        ) from None
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        raise InputError(
            f"{folder} holds results of other settings (other {', '.join(other)}): choose another --out, "
            "or give --overwrite."
        )


def files_elsewhere(
    folder: Path, save: Path | None, report: Path | None, overwrite: bool, settings: dict[str, Any]
) -> dict[str, str]:
    """Files written outside the folder, by what they are, now or before; InputError where one would be lost.

    What the same command wrote before may be written again: the folder's summary says which files these are. It goes on
    saying so of those that are not written this time; with ``overwrite`` only where the ``settings`` are the same.
    """
    from undertow._check import InputError
    from undertow.cli.output import check_file

    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        before = dict(summary["files_elsewhere"]) if not overwrite or summary["settings"] == settings else {}
    except (OSError, ValueError, LookupError, TypeError):
        before = {}
    found: dict[str, str] = dict(before)
    for what, option, file, suffix in (
        ("model", "--save", save, ".safetensors"),
        ("report", "--report", report, ".html"),
    ):
        if file is None:
            continue
        if file.suffix != suffix:
            raise InputError(f"{option} {file}: the name must end in {suffix}.")
        check_file(file, option, (suffix,))
        found[what] = str(file.absolute())
        if file.exists() and not overwrite and before.get(what) != found[what]:
            raise InputError(
                f"{option} {file} is there already, and {folder} does not say that it was written with these settings: "
                "choose another name, or give --overwrite."
            )
    return found


def on_small_of(given: str | None, source: Any) -> str:
    """What to do with tasks of too few rows: as was asked, or by where the table is from."""
    from undertow import _check

    if given is None:
        # The rows of a data set of ours are known; of a table of the user's no task leaves unasked.
        return "raise" if isinstance(source, Path) else "drop"
    return _check.one_of(given, "--on-small", ("raise", "drop"))


def read_own_table(source: Any, settings: dict[str, Any]) -> GroupedTable:
    """Read what the settings of a command say; InputError also where every row has the same target."""
    from undertow._check import InputError
    from undertow.tasks import read_table

    raw = read_table(
        source,
        settings["task"],
        settings["target"],
        settings["features"],
        categories=settings["categories"],
        on_constant=settings["on_constant"],
        min_rows=settings["n_support"] + 1,
        on_small=settings["on_small"],
    )
    if raw.y.min() == raw.y.max():
        raise InputError(
            f"target {raw.target!r} is {raw.y[0]:g} in all {raw.n_rows} rows: there is nothing to predict."
        )
    return raw


def say_what_was_read(name: str, raw: GroupedTable, n_support: int) -> None:
    """Print the sizes of a table, and how many tasks were left out."""
    from undertow.cli.output import say
    from undertow.cli.wording import count

    low, high = raw.counts.min(), raw.counts.max()
    each = count(low, "row") if low == high else f"{low} to {high} rows"
    say(
        f"{name}: {count(raw.n_tasks, 'task')} ({raw.task}) of {each}, "
        f"{count(raw.n_rows, 'row')}, {count(raw.n_features, 'feature')}, target {raw.target}"
    )
    if raw.n_left_out:
        have = "has" if raw.n_left_out == 1 else "have"
        say(
            f"left out: {raw.n_left_out} of {raw.n_left_out + raw.n_tasks} tasks, which {have} fewer than "
            f"{n_support + 1} rows"
        )


def progress_bar(words: str) -> Any:
    """A context that gives a callback (done, total), with ``words`` before the bar; silent where no terminal is."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from undertow.cli.output import console

    @contextmanager
    def shown() -> Any:
        to = console(stderr=True)
        columns = (TextColumn(words), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
            row = bar.add_task(words, total=None)
            yield lambda done, total: bar.update(row, completed=done, total=total)

    return shown()
