"""The report of ``undertow compare``: rivals on tasks that none of them has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertow.comparison import Comparison
from undertow.comparison.record import Standing
from undertow.report import page, tables, words
from undertow.report.charts.pairs import pairs
from undertow.report.charts.ranking import differences, ranking
from undertow.report.charts.rows import rows
from undertow.report.charts.run_time import run_time
from undertow.report.extra import require
from undertow.report.figure import Figure, Key, Table
from undertow.tasks import GroupedTable
from undertow.tasks.standard import Standard


def write_compare_report(
    path: Path,
    name: str,
    raw: GroupedTable,
    standard: Standard | None,
    comparison: Comparison,
    command: str,
    settings: Mapping[str, Any],
) -> None:
    """Write the report of a comparison as one HTML file that needs nothing else.

    Parameters
    ----------
    path
        file to write.
    name
        of the table.
    raw
        the table as it was read.
    standard
        of the whole table, for the count of clipped values; None leaves it out.
    comparison
        of ``undertow.comparison.compare``.
    command
        what to type to get the same.
    settings
        as given.

    Raises
    ------
    InputError
        where a package is missing, the file cannot be written, or the records do not belong together.

    Examples
    --------
    >>> import tempfile, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> found = ut.comparison.compare(table, rivals=["pooled", "alone"], time_limit=None)
    >>> standard = table.standardized(target=True)[1]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ut.report.write_compare_report(
    ...         f"{folder}/life.html", "gapminder", table, standard, found, "python life.py", {}
    ...     )
    """
    require()
    counts = tables.rows_of(raw, comparison.task_ids, "the comparison was made on")
    # The best of those that the base is held against.
    rival = next((name for name in comparison.ranking() if name != comparison.base), None)
    figures: dict[str, Figure | None] = {
        "ranking": _ranking(comparison, raw.target),
        "differences": _differences(comparison),
        "pairs": None if rival is None else _pairs(comparison, rival, counts, raw.task),
        "run_time": _run_time(comparison),
        "rows": rows(raw.counts),
    }
    made = {key: one for key, one in figures.items() if one is not None}
    page.write(
        path,
        "compare.html.j2",
        made.values(),
        made["ranking"],
        title=f"{name}: comparison of ways to predict new tasks",
        sections=_sections(made),
        raw=raw,
        comparison=comparison,
        base=comparison.label(comparison.base),
        rival="" if rival is None else comparison.label(rival),
        headline=f"Least held-out error: {comparison.label(comparison.best)}",
        weight_note=comparison.weight_note(raw.task_noun),
        keys=_keys(comparison, rival, raw),
        figures=dict.fromkeys(figures) | made,
        notes_table=_notes(comparison),
        left_out=len(comparison.names) - len(comparison.measured),
        data_table=tables.data(raw, standard),
        features_table=tables.features(raw, standard),
        settings_table=tables.settings(settings),
        versions_table=tables.versions("statsmodels"),
        facts=comparison.settings,
        weighting=comparison.settings["weighting"],
        command=command,
        words=words,
    )


def _sections(made: Mapping[str, Figure]) -> list[tuple[str, str]]:
    """Identifier and words of each part of the page."""
    parts = [
        ("ranking", "Ranking"),
        ("differences", "Differences"),
        ("pairs", "Task by task"),
        ("run_time", "Run time"),
    ]
    always = [("notes", "Notes"), ("data", "Data"), ("methods", "Methods"), ("again", "Settings")]
    return [(key, title) for key, title in parts if key in made] + always


def _percents(comparison: Comparison, name: str) -> tuple[float, float, float]:
    """What the base gains over a rival: estimate and interval in per cent of the rival's loss."""
    gap, loss = comparison.difference(comparison.base, name), comparison.mean_loss(name)[0]
    if loss < 1e-12:
        return 0.0, 0.0, 0.0
    # No loss falls by more than all of it.
    return -100 * gap.estimate / loss, -100 * gap.high / loss, min(-100 * gap.low / loss, 100.0)


def _keys(comparison: Comparison, rival: str | None, raw: GroupedTable) -> list[Key]:
    facts, kind = comparison.settings, words.level(comparison.level)
    best = comparison.best
    std = math.sqrt(facts["target_variance"])
    level = [n for n in comparison.ranking()[1:] if comparison.standing(n, best) is Standing.LEVEL]
    keys = [Key("Least error", comparison.label(best), f"{words.loss(comparison.mean_loss(best)[0])} of the variance")]
    if rival is not None:
        mid, low, high = _percents(comparison, rival)
        keys.append(
            Key(
                f"Gain of {comparison.label(comparison.base)} over {comparison.label(rival)}",
                words.percent(mid),
                f"{kind} interval {words.between(low, high)}",
            )
        )
    keys += [
        Key(
            "Not significantly different from the best",
            words.count(len(level), "rival"),
            f"of {len(comparison.measured) - 1}: the interval of the difference holds 0",
        ),
        Key(
            f"Error on a new task, {raw.target}",
            words.number(math.sqrt(comparison.mean_loss(best)[0]) * std),
            f"root mean squared, after {words.count(facts['n_support'], 'support row')}, by the best",
        ),
        Key(
            "Measured",
            words.count(len(comparison.measured), "way", "ways"),
            f"{len(comparison.names) - len(comparison.measured)} left out; {facts['n_folds']} folds of tasks",
        ),
        Key(
            "Data",
            words.count(raw.n_tasks, "task"),
            f"{words.count(raw.n_rows, 'row')}, {words.count(raw.n_features, 'feature')}",
        ),
    ]
    return keys


def _ranking(comparison: Comparison, unit: str) -> Figure:
    order = comparison.ranking()
    means, errors = np.array([comparison.mean_loss(name) for name in order]).T
    std = math.sqrt(comparison.settings["target_variance"])
    labels = [comparison.label(name) for name in order]
    return ranking(labels, means, errors, order.index(comparison.base), std, unit)


def _differences(comparison: Comparison) -> Figure | None:
    others = [name for name in comparison.ranking() if name != comparison.base]
    if not others:
        return None
    return differences(
        comparison.label(comparison.base),
        [comparison.label(name) for name in others],
        [_percents(comparison, name) for name in others],
        [comparison.standing(comparison.base, name).value for name in others],
        words.level(comparison.level),
    )


def _pairs(comparison: Comparison, rival: str, counts: np.ndarray, task: str) -> Figure:
    both = (comparison.base, rival)
    first, second = (comparison.losses(name) for name in both)
    names = (comparison.label(both[0]), comparison.label(both[1]))
    return pairs(first, second, names, comparison.task_ids, counts, task)


def _run_time(comparison: Comparison) -> Figure | None:
    at = [comparison.names.index(name) for name in comparison.measured]
    labels = [comparison.labels[i] for i in at]
    return run_time(labels, comparison.fit_seconds[at], comparison.adapt_seconds[at])


def _notes(comparison: Comparison) -> Table:
    body = []
    for name, label in zip(comparison.names, comparison.labels, strict=True):
        note = comparison.notes.get(name, "")
        if name not in comparison.measured and not note.startswith("left out"):
            note = f"left out: {note}" if note else "left out"
        body.append((f"{label} ({name})", note or "–"))
    return Table("What the fits said", ("strategy", "note"), body, words=(0, 1))
