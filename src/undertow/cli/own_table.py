"""What the commands on one's own table share: source, settings, folder of results, bar of progress."""

from __future__ import annotations

import json
import math
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow import _check, datasets
from undertow._check import InputError, Setting, files_near
from undertow._plain import plain
from undertow._version import __version__
from undertow._write import write_text
from undertow.cli.command_line import command_line
from undertow.cli.output import check_file, check_folder, console, count
from undertow.cli.places import files_elsewhere, refuse_other_results

if TYPE_CHECKING:
    from undertow.scale.sorted_table import SortedTable
    from undertow.tasks import GroupedTable

# Parameters that say where results go, and not what they are.
_PLACES = ("out", "save", "report", "overwrite", "time_limit", "work", "scheduler")
# Options of ``read_table`` that commands have under the same names.
_READING = (
    "formula",
    "categories",
    "categorical",
    "max_levels",
    "on_missing",
    "on_constant",
    "order",
    "task_order",
    "anonymous",
    "weights",
    "weights_are",
    "target_kind",
)


@dataclass(frozen=True)
class Job:
    """One run of a command on a table."""

    name: str
    """short name of the table"""
    source: Any
    """what to read: a file, or a data set of ours"""
    settings: dict[str, Any]
    """what the results depend on, as it was given; no limit is None"""
    folder: Path
    """where results go"""
    files_elsewhere: dict[str, str]
    """files that this command writes outside of the folder, now or before, by what they are"""
    command: str
    """what to type to get the same"""
    refused: InputError | None = None
    """what stands against writing the results, such as other ones in the folder"""

    def claim(self) -> None:
        """Raise what stands against writing results: once the table is read, since a mistyped column comes first."""
        if self.refused is not None:
            raise self.refused


def job_of(ctx: Any, more: dict[str, Any] | None = None) -> Job:
    """Return the run that a command's context asks for, before anything is read.

    more: settings in place of those given. Raises InputError where a package is missing; ``Job.claim`` does where a
    result of something else would be lost.
    """
    given = ctx.params
    roles = given["task"], given["target"]
    name, source = source_of(given["table"], *roles, many="memory" in given, said=given["formula"] is not None)
    settings = {one.name: given[one.name] for one in ctx.command.params if one.name not in _PLACES}
    settings |= {
        "features": named(source, given, "features"),
        "categorical": named(source, given, "categorical") or [],
        "random_slopes": named(source, given, "random_slopes"),
        "clip": None if given["clip"] == math.inf else given["clip"],
        "on_small": on_small_of(given["on_small"], source),
        **(more or {}),
    }
    folder = Path(given["out"] or f"{name}-{ctx.command.name}")
    files = {key: Path(given[key]) for key in ("save", "report") if given.get(key) is not None}
    if "report" in files:
        from undertow.report.extra import require

        require()
    check_folder(folder)
    for option, suffix in (("save", ".safetensors"), ("report", ".html")):
        if option in files:
            check_file(files[option], option, (suffix,))
    elsewhere: dict[str, str] = {}
    refused = None
    try:
        refuse_other_results(folder, settings, given["overwrite"])
        elsewhere = files_elsewhere(folder, files, given["overwrite"], settings)
    except InputError as error:
        refused = error
    return Job(name, source, settings, folder, elsewhere, command_line(ctx), refused)


def reading_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``read_table`` among the parameters of a command that say how a file is written."""
    sep = given["sep"]
    return {"sep": {"tab": "\t", "\\t": "\t"}.get(sep, sep), "decimal": given["decimal"]}


def named(source: Any, given: dict[str, Any], option: str) -> list[str] | None:
    """Return the columns that an option lists; None where it is not given."""
    if given[option] is None:
        return None
    from undertow.tasks import Reading
    from undertow.tasks.source import column_names
    from undertow.tasks.task_columns import split_names

    if is_several(given["table"]):
        return split_names((), given[option])
    return split_names(column_names(getattr(source, "table", source), Reading(**reading_of(given))), given[option])


def source_of(
    table: str, task: str | None, target: str | None, many: bool = False, said: bool = False
) -> tuple[str, Any]:
    """A short name, and what to read: a file, or a data set of ours where no file of that name is there.

    many: whether a folder or a glob of files will do too. said: whether a formula says what task and target are.
    """
    place = Path(table)
    if not place.is_file() and table in datasets.names():
        data = datasets.load(table)
        # Without the chosen task and target column among its features.
        return table, replace(data, features=tuple(name for name in data.features if name not in (task, target)))
    several = is_several(table)
    if several and not many:
        raise InputError("table", table, "it is more than one file.", "Give one file.")
    if not several and "://" in table:
        raise InputError("table", table, "it is an address, and files are read from a disk.", "Download it first.")
    if not several and not place.exists():
        near = files_near(place, datasets.names())
        if place.suffix:
            raise InputError("table", table, "there is no such file.", near)
        known = f"Give a .csv or .parquet file, or one of {', '.join(datasets.names())}. {near}"
        raise InputError("table", table, "it is neither a file nor a data set.", known)
    if place.suffix == ".safetensors":
        way_out = f"A table is needed. A model predicts by: undertow predict {shlex.quote(table)} NEW_TABLE"
        raise InputError("table", table, "it is a model.", way_out)
    roles = [role for role, value in (("task", task), ("target", target)) if value is None]
    missing = [Setting(role) for role in roles]
    if missing and not said:
        both = missing if len(missing) == 1 else [missing[0], " COL and ", missing[1]]
        what = (
            f"{'files do' if several else 'a file does'} not say which column is the {' and which the '.join(roles)}."
        )
        raise InputError("table", table, what, ("Give ", *both, " COL.", *_columns_of(place)))
    if several:
        parts = [part for part in place.absolute().parts[1:] if not set(part) & set("*?[")]
        return re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "") or "table", table
    stem = re.sub(r"(\.csv|\.tsv|\.parquet|\.xlsx)?(\.gz)?$", "", place.name)
    return re.sub(r"[^\w.-]+", "_", stem) or "table", place


def _columns_of(place: Path) -> list[str]:
    """A sentence that lists a file's columns, none of several files; InputError where one cannot be read."""
    if is_several(str(place)):
        return []
    from undertow.tasks import Reading
    from undertow.tasks.source import column_names
    from undertow.tasks.wording import some

    return [f" The columns are {some(column_names(place, Reading()), 30)}."]


def is_several(table: str) -> bool:
    """Whether a table's name is that of a folder, or a glob of files."""
    place = Path(table)
    return place.is_dir() or (not place.exists() and bool(set(table) & set("*?[")))


def on_small_of(given: str | None, source: Any) -> str:
    """What to do with tasks of too few rows: as was asked, or by where the table is from."""
    if given is None:
        # The rows of a data set of ours are known; of a table of the user's no task leaves unasked.
        return "raise" if isinstance(source, Path) else "drop"
    return _check.one_of(given, "on_small", ("raise", "drop"))


def read_own_table(job: Job) -> GroupedTable:
    """Read what the settings of a command say; InputError also where every row has the same target."""
    from undertow.tasks import TableNote, read_table

    settings = job.settings
    with warnings.catch_warnings():
        # They are said with what was read.
        warnings.simplefilter("ignore", TableNote)
        raw = read_table(
            job.source,
            settings["task"],
            settings["target"],
            settings["features"],
            min_rows=settings["n_support"] + 1,
            on_small=settings["on_small"],
            # Not of all commands.
            random_intercept=None if (second := settings.get("random_intercept", "none")) == "none" else second,
            **{key: settings[key] for key in _READING},
            **reading_of(settings),
        )
    by_formula = raw.formula is not None and raw.formula.random_intercept is not None
    if raw.classes and (by_formula or raw.levels is not None):
        name = "formula" if by_formula else "random_intercept"
        rule = f"{raw.target} has two values, and classes have no second grouping."
        way_out = ("Leave it out, or give ", Setting("target_kind", "number"), ".")
        raise InputError(name, settings[name], rule, way_out)
    refuse_one_value(raw)
    note = _about_target(raw)
    return replace(raw, notes=(*raw.notes, note)) if note else raw


def refuse_one_value(raw: GroupedTable) -> None:
    """Raise InputError where every row has the same target."""
    if raw.y.min() == raw.y.max():
        rule = f"it is {raw.y[0]:g} in all {raw.n_rows} rows: there is nothing to predict."
        raise InputError("target", raw.target, rule, "Choose another column.")


def _about_target(raw: GroupedTable) -> str:
    """What is taken for granted about a target that is no plain number; empty where it is one."""
    if raw.classes:
        zero, one = raw.classes
        numbers = raw.classes == ("0", "1")
        values = "0 and 1" if numbers else f"{zero} (0) and {one} (1)"
        lifted = "; --target-kind number fits numbers" if numbers else ""
        return (
            f"{raw.target} has two values, {values}; errors are of probabilities (Brier score), and predict gives the "
            f"probability of {one}{lifted}"
        )
    if raw.target_kind == "count":
        return (
            f"{raw.target} holds whole numbers from 0 on, taken for counts: no prediction is below 0; --target-kind "
            "number lifts this"
        )
    return ""


def what_was_read(name: str, raw: GroupedTable, n_support: int) -> list[str]:
    """Return the sizes of a table, how many tasks were left out, and what else was done to it."""
    left = f"; {raw.n_left_out} of {raw.n_left_out + raw.n_tasks} tasks left out (fewer than {n_support + 1} rows)"
    sizes = sizes_of(name, raw) + (left if raw.n_left_out else "")
    return [sizes, *_by_formula(raw), *(f"note: {note}" for note in raw.notes)]


def sizes_of(name: str, table: GroupedTable | SortedTable) -> str:
    """Return the sizes of a table, in memory or out of core, with the names of its tasks and its target."""
    low, high = table.counts.min(), table.counts.max()
    each = count(low, "row") if low == high else f"{low} to {high} rows"
    return (
        f"{name}: {count(table.n_tasks, 'task')} ({table.task}) of {each}, "
        f"{count(table.n_rows, 'row')}, {count(table.n_features, 'feature')}, target {table.target}"
    )


def _by_formula(raw: GroupedTable) -> list[str]:
    """A line on what a formula says in other options, and which strategy its random part is."""
    from undertow.choice.words import short
    from undertow.tasks.wording import some

    formula, encoding = raw.formula, raw.encoding
    if formula is None or encoding is None:
        return []
    options = formula.options | ({"categories": "onehot"} if encoding.levels else {})
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", value if isinstance(value, str) else ",".join(value))
    ]
    read = {f"{column}={level}" for column, known in encoding.levels.items() for level in known} | set(formula.columns)
    made = [name for name in raw.feature_names if name not in read]
    columns = f"; columns made: {some(made)}" if made else ""
    which = f"; {formula.slopes} is the {short(f'mixed_{formula.structure}')}" if formula.structure else ""
    return [f"formula: {shlex.join(words)}{columns}{which}"]


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """A context that gives a callback (done, total), with ``words`` before the bar; silent where no terminal is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    to = console(stderr=True)
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
        row = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)


def write_unfinished(job: Job) -> None:
    """Write a summary of the settings alone, before any result: so the same command may go on after an end."""
    job.folder.mkdir(parents=True, exist_ok=True)
    values = {"settings": job.settings, "finished": False, "files_elsewhere": job.files_elsewhere}
    write_summary(job.folder, values)


def write_summary(folder: Path, values: dict[str, Any]) -> None:
    """Write summary.json whole or not at all: an end while writing must not leave a folder that nobody knows."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain({"undertow": __version__} | values), indent=2, allow_nan=False) + "\n"
    write_text(folder / "summary.json", text)
