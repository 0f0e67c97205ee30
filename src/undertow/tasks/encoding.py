"""From the columns of a table to features: found on one table, applied to others in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from undertow import _check
from undertow._check import InputError, Setting, Text, did_you_mean
from undertow._types import Features, RowFlags, RowNumbers, SomePlaces
from undertow.tasks import labels
from undertow.tasks.columns import codes_of, numbers
from undertow.tasks.formula import Formula
from undertow.tasks.made import Made
from undertow.tasks.reading import Reading
from undertow.tasks.source import Source, open_source
from undertow.tasks.text_levels import (
    indicators,
    levels_of,
    refuse_strangers,
    spelled,
    spelled_almost,
    takes_indicators,
)
from undertow.tasks.wording import also, at_rows, in_words, missing_counts, row_or_rows, some, which_rows


class Encoded(NamedTuple):
    """A table as features. Letters: R rows, p features.

    Examples
    --------
    >>> import undertow as ut
    >>> frame = ut.datasets.load_radon().table.to_pandas()
    >>> table = ut.tasks.read_table(frame, "county", "log.radon")
    >>> encoded = table.encoding.apply(frame.head(3))
    >>> encoded.x.shape, bool(encoded.complete.all())
    ((3, 2), True)
    """

    x: Features
    """(R, p); what stands in a row that is not complete means nothing"""
    complete: RowFlags
    """(R,) whether all features of a row are there"""
    notes: tuple[str, ...]
    """what was done, in sentences"""
    names: tuple[str, ...]
    """(p,) of the features"""

    @property
    def table(self) -> pa.Table:
        """The features of the rows that are complete, by name, as an estimator predicts from them."""
        return pa.table({name: self.x[self.complete, j] for j, name in enumerate(self.names)})


@dataclass(frozen=True)
class Encoding:
    """How columns become features: numbers as they are, dates as days, text as indicators of its levels but the first.

    ``GroupedTable.encoding`` is that of a table which was read; ``apply`` makes the same features of another table.

    Examples
    --------
    >>> import pandas as pd, undertow as ut
    >>> frame = pd.DataFrame({"shop": list("aabb"), "day": list("mttm"), "sold": [1.0, 2.0, 4.0, 3.0]})
    >>> table = ut.tasks.read_table(frame, "shop", "sold", categories="onehot")
    >>> table.encoding.features, table.encoding.levels
    (('day=t',), {'day': ['m', 't']})
    >>> table.encoding.apply(pd.DataFrame({"day": ["t", "m"]})).x.tolist()
    [[1.0], [0.0]]
    """

    features: tuple[str, ...] = ()
    """(p,) names of the features, in order"""
    means: tuple[float, ...] = ()
    """(p,) their means in the rows that were kept; none where they are not known"""
    levels: dict[str, list[str]] = field(default_factory=dict)
    """column -> its levels, sorted; the first has no indicator of its own"""
    unseen: dict[str, list[str]] = field(default_factory=dict)
    """column -> those of its levels that no row has that was kept"""
    dates: tuple[str, ...] = ()
    """columns of dates, read as days since 1970-01-01"""
    made: Made | None = None
    """columns that a formula makes of these features, and that come in their place; None without a formula"""

    @classmethod
    def fit(
        cls, opened: Source, columns: Sequence[str], reading: Reading, hints: Mapping[str, Text] | None = None
    ) -> tuple[Encoding, Features, tuple[str, ...]]:
        """Return the encoding of these columns, features (R, p) with NaN where a value is missing, and notes.

        Parameters
        ----------
        hints
            what else is offered where a column is text, by its name.

        Raises
        ------
        InputError
            for text that is not to be encoded, and for columns of too many levels.
        """
        found: dict[str, np.ndarray] = {}
        plain, n_plain = np.empty((0, len(columns))), 0
        names: list[str] = []
        levels: dict[str, list[str]] = {}
        dates, notes = [], []
        for name, column in zip(columns, opened.each(columns), strict=True):
            if name in reading.categorical or takes_indicators(column, reading, opened.decimal):
                known, codes = levels_of(opened, name, reading.max_levels)
                levels[name], found[name] = known, codes
                names += [f"{name}={level}" for level in (known[1:] or known)]
                continue
            offers = (*_offers(reading), *(hints or {}).get(name, ()))
            read = numbers(column, name, "feature", offers, decimal=opened.decimal, dates=True)
            if "since 1970" in read.said or pa.types.is_temporal(column.type):
                dates.append(name)
            if read.said:
                notes.append(f"{name!r}: {read.said}")
            # Numbers have a place from the start, so that no column is there twice.
            plain = plain if n_plain else np.empty((len(read.values), len(columns)))
            plain[:, n_plain] = read.values
            n_plain += 1
            names.append(name)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            rule = f"one-hot columns and others are both named {some(twice)}."
            raise InputError(None, rule=rule, way_out="Rename the columns of the table.")
        x = _with_indicators(columns, plain, levels, found, len(names)) if levels else plain
        return cls(tuple(names), (), levels, {}, tuple(dates)), x, tuple(notes)

    def of_formula(
        self, formula: Formula, features: Sequence[str], x: Features, rows: RowNumbers
    ) -> tuple[Encoding, np.ndarray]:
        """Return the encoding with the columns of a formula, and these (R, p). x: features (R, b), none missing.

        rows: (R,) their numbers in the table, for messages. Raises InputError where a column has no value in a row.
        """
        made = Made.fit(formula, features, x, self.levels)
        columns = made.apply(x)
        bad = ~np.isfinite(columns)
        if bad.any():
            raise _no_value(made.names, bad, rows, "Write it otherwise, or leave out these rows.")
        return replace(self, features=tuple(features), made=made), columns

    def slopes_of(self, formula: Formula, features: Sequence[str], x: Features) -> tuple[str, ...] | None:
        """Return the columns of a formula that tasks vary in, by name; None for all or none. features, x: as above."""
        if formula.varying is None:
            return None
        own = Made.fit(replace(formula, terms=formula.varying), features, x, self.levels)
        return tuple(name for name in self.columns_made if name in own.names)

    def restricted(
        self, features: Sequence[str], means: Mapping[str, float], opened: Source, rows: SomePlaces
    ) -> Encoding:
        """Return the encoding of some features, after rows were left out.

        means: of the features by name, before a formula; rows: those kept (R',).
        """
        unseen = {}
        for name, known in self.levels.items():
            codes, found = codes_of(opened.fetch([name])[0], name, "feature", optional=True)
            there = set(spelled(found[np.unique(codes[rows[codes[rows] >= 0]])]))
            absent = [level for level in known if level not in there]
            if absent:
                unseen[name] = absent
        made = None if self.made is None else self.made.restricted(features)
        features = tuple(features) if made is None else made.features
        of_each = tuple(float(means[name]) for name in features)
        return replace(self, features=features, means=of_each, unseen=unseen, made=made)

    def _of_indicators(self) -> dict[str, tuple[str, int]]:
        """Name of an indicator feature -> its column and the number of its level."""
        # A column of one level has an indicator of it; of more levels the first has none.
        return {
            f"{column}={level}": (column, i)
            for column, known in self.levels.items()
            for i, level in enumerate(known)
            if i or len(known) == 1
        }

    @property
    def columns_made(self) -> tuple[str, ...]:
        """(p,) names of what ``apply`` makes: the features, or a formula's columns of them."""
        return self.features if self.made is None else self.made.names

    def columns(self) -> list[str]:
        """Return the column of a table (p,) that each feature is made of."""
        indicator = self._of_indicators()
        return [indicator[name][0] if name in indicator else name for name in self.features]

    def apply(
        self, source: Any, *, on_missing: str = "refuse", on_unseen: str = "refuse", reading: Reading | None = None
    ) -> Encoded:
        """Return the features of another table.

        Parameters
        ----------
        source
            as for ``read_table``.
        on_missing
            rows that lack a value: "refuse" names them, "drop" calls them not complete, "mean" puts the training
            mean of each missing feature.
        on_unseen
            levels that no row had which was kept in training: "refuse", "skip" (its rows are not complete), or
            "base": all indicators are 0.

        Raises
        ------
        InputError
            also for columns that are missing or of another kind.
        """
        _check.one_of(on_missing, "on_missing", ("refuse", "drop", "mean"))
        _check.one_of(on_unseen, "on_unseen", ("refuse", "skip", "base"))
        opened = source if isinstance(source, Source) else open_source(source, reading)
        needed = list(dict.fromkeys(self.columns()))
        absent = [name for name in needed if name not in opened.names]
        if absent:
            hint = did_you_mean(absent[0], [name for name in opened.names if name not in needed])
            raise InputError(
                None,
                rule=f"{opened.label} lacks {len(absent)} of the {len(needed)} columns that the model reads: "
                f"{some(absent)}. The columns are {some(opened.names, 30)}.{hint}",
                way_out="Rename or add them.",
            )
        read = dict(zip(needed, opened.fetch(needed), strict=True))
        notes: list[str] = []
        codes = {name: self._codes(opened, name, on_unseen, notes) for name in self.levels if name in read}
        unknown = np.array([code == _UNSEEN for code in codes.values()]).any(axis=0) if codes else None
        indicator, x = self._of_indicators(), np.empty((len(next(iter(read.values()))), len(self.features)))
        for j, name in enumerate(self.features):
            if name in indicator:
                column, level = indicator[name]
                x[:, j] = np.where(codes[column] == _MISSING, np.nan, codes[column] == level)
            else:
                offers = "Give the column that the model was fitted to."
                found = numbers(read[name], name, "feature", offers, decimal=opened.decimal, dates=name in self.dates)
                x[:, j] = found.values
        complete: np.ndarray = np.ones(len(x), dtype=bool)
        if unknown is not None and on_unseen != "base":
            complete = np.asarray(~unknown)
        missing = np.isnan(x)
        if missing.any():
            self._fill(x, missing, on_missing, complete, notes)
        complete &= ~np.isnan(x).any(axis=1)
        if self.made is not None:
            x = self._made_of(self.made, x, complete, on_missing, notes)
        return Encoded(x, complete, tuple(notes), self.columns_made)

    def _made_of(
        self, made: Made, x: np.ndarray, complete: np.ndarray, on_missing: str, notes: list[str]
    ) -> np.ndarray:
        """The columns of a formula; rows where one has no value are refused, or called not complete."""
        out = made.apply(x)
        bad = ~np.isfinite(out) & complete[:, None]
        if bad.any() and on_missing != "drop":
            drop = Setting("on_missing", "drop")
            way_out: Text = ("Mend these rows, or give ", drop, ", which leaves their prediction empty.")
            raise _no_value(made.names, bad, np.arange(len(x)), way_out)
        if bad.any():
            number = int(bad.any(axis=1).sum())
            named = some([made.names[j] for j in np.flatnonzero(bad.any(axis=0))])
            notes.append(f"{number} {row_or_rows(number)} left without prediction, where there is no {named}")
            complete &= ~bad.any(axis=1)
        return out

    def _fill(
        self, x: np.ndarray, missing: np.ndarray, on_missing: str, complete: np.ndarray, notes: list[str]
    ) -> None:
        """Put means for missing values where that was asked for; say what is missing."""
        columns = self.columns()
        by_column = {
            name: np.asarray(missing[:, [c == name for c in columns]].any(axis=1)) for name in dict.fromkeys(columns)
        }
        counts = missing_counts({name: flags for name, flags in by_column.items() if flags.any()})
        if on_missing == "refuse":
            name, flags = next((name, flags) for name, flags in by_column.items() if flags.any())
            where, (drop, mean) = at_rows(flags), (Setting("on_missing", how) for how in ("drop", "mean"))
            rule = f"feature {name!r} is missing (null or NaN) {where}{also(counts)}: the model needs every feature."
            first, then = "Fill or leave out these rows, or give ", ", which leaves their prediction empty, or "
            raise InputError(None, rule=rule, way_out=(first, drop, then, mean, ", which puts the mean of training."))
        if on_missing == "drop":
            left = int((missing.any(axis=1) & complete).sum())
            notes.append(f"{left} {row_or_rows(left)} left without prediction, missing: {in_words(counts)}")
        else:
            if not self.means:
                way_out = ("Use ", Setting("on_missing", "drop"), ".")
                raise InputError("on_missing", on_missing, "the model does not hold the means of training.", way_out)
            x[missing] = np.broadcast_to(np.array(self.means), x.shape)[missing]
            notes.append(f"means of training put for missing values: {in_words(counts)}")

    def _codes(self, opened: Source, name: str, on_unseen: str, notes: list[str]) -> RowNumbers:
        """Number of each row's level (R,), _MISSING or _UNSEEN where it has none."""
        absent, known = self.unseen.get(name, []), self.levels[name]
        # Codes are numbers: 1 and 1.0 are one. Among text "01" and "1" are two.
        column = opened.fetch([name])[0] if all(map(labels.is_number, known)) else opened.labels(name)
        codes, found = codes_of(column, name, "feature", optional=True)
        place = labels.places(np.array(known), found)
        place[np.isin(place, [i for i, level in enumerate(known) if level in absent])] = _UNSEEN
        numbers_ = np.append(place, _MISSING)[codes]
        strange = numbers_ == _UNSEEN
        if strange.any():
            new = spelled(found[place == _UNSEEN])
            if on_unseen == "refuse":
                more: Text = (
                    "Change or leave out these rows, or give ",
                    Setting("on_unseen", "skip"),
                    ", which leaves their prediction empty, or ",
                    Setting("on_unseen", "base"),
                    f", which takes them for {known[0]!r}.",
                )
                there = [level for level in known if level not in absent]
                refuse_strangers(new, strange, f"feature {name!r}", "level", there, more)
            what = "left without prediction" if on_unseen == "skip" else f"taken for {known[0]!r}"
            number = int(strange.sum())
            near = spelled_almost(known, new)
            notes.append(
                f"{number} {row_or_rows(number)} {what}: {name!r} is {some(new)}, which training had not "
                f"({which_rows(strange)}){f'; spelled almost alike: {near}' if near else ''}"
            )
        return numbers_


def _with_indicators(
    columns: Sequence[str], plain: np.ndarray, levels: Mapping[str, list[str]], codes: Mapping[str, Any], width: int
) -> np.ndarray:
    """Features (R, width) in the order of ``columns``: those of numbers, in their order, and indicators of levels.

    plain: (R, n) those of numbers, without a row where there are none.
    """
    x, at, n_plain = np.empty((len(next(iter(codes.values()))), width)), 0, 0
    for name in columns:
        if name in levels:
            one = indicators(codes[name], len(levels[name]))
        else:
            one, n_plain = plain[:, n_plain, None], n_plain + 1
        x[:, at : at + one.shape[1]] = one
        at += one.shape[1]
    return x


_MISSING, _UNSEEN = -2, -1


def _no_value(names: Sequence[str], bad: np.ndarray, rows: np.ndarray, way_out: Text) -> InputError:
    """What to raise where columns of a formula (R, p) are not finite. rows: (R,) numbers of the rows."""
    j = int(bad.any(axis=0).argmax())
    n, first = int(bad[:, j].sum()), int(rows[bad[:, j]].min())
    rule = f"{names[j]} has no value in {n} {row_or_rows(n)}, first in row {first} (counted from 0)."
    return InputError("formula", names[j], rule, way_out)


def _offers(reading: Reading) -> Text:
    if reading.categories == "onehot":
        return ""
    choice, wanted = Setting("categories", "onehot"), Setting("features")
    return ("Use ", choice, " for indicator columns, or name the columns you want with ", wanted, ".")
