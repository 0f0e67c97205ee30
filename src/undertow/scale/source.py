"""What can be read out of core: Parquet or CSV files, a folder or glob of them, or a DuckDB relation; as one SELECT."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from undertow import _check
from undertow._check import InputError, Setting, did_you_mean
from undertow.tasks.wording import some

_PARQUET = (".parquet",)
_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
# Spellings of a missing value, as Arrow reads them.
_MISSING = ["", "NA", "N/A", "n/a", "NULL", "null", "#N/A"]


class Source(NamedTuple):
    """Named columns of a table that DuckDB reads."""

    label: str
    """what the table is called in messages"""
    sql: str
    """what stands after FROM"""
    kinds: dict[str, str]
    """column -> its type in DuckDB"""
    files: tuple[str, ...]
    """none for a relation"""
    text: bool
    """whether the kinds of columns were guessed from text"""
    n_rows: int | None = None
    """where they were counted"""


def require() -> None:
    """Raise InputError that names the extra where DuckDB is not installed; it imports nothing."""
    if find_spec("duckdb") is None:
        raise InputError(
            None,
            rule="duckdb missing: tables are sorted out of core by the packages of the extra [scale].",
            way_out='Install them with: pip install "undertow[scale]"',
        )


def files_of(source: Any) -> list[str]:
    """Return the files of a folder, a glob, one path or several, sorted within each; InputError where there is none."""
    if isinstance(source, str | os.PathLike):
        place = os.fspath(source)
        if os.path.isdir(place):
            found = sorted(str(path) for path in Path(place).rglob("*") if path.name.lower().endswith(_PARQUET + _TEXT))
            if not found:
                raise InputError("source", place, f"the folder holds no file that ends in {_endings()}.")
        else:
            found = [place] if os.path.isfile(place) else sorted(glob.glob(place, recursive=True))
            if not found:
                rule = f"no file matches it. The working directory is {str(Path.cwd())!r}."
                raise InputError("source", place, rule)
    else:
        try:
            parts = list(source)
        except TypeError:
            raise InputError(
                "source",
                type(source).__name__,
                "it is no table that can be read out of core.",
                "Give a folder, a glob, paths of files, or a DuckDB relation; a data frame fits in memory: use fit.",
            ) from None
        found = [file for part in parts for file in files_of(part)]
    _one_kind(found)
    return found


def _endings() -> str:
    return ", ".join(_PARQUET + _TEXT)


def _one_kind(files: Sequence[str]) -> None:
    if not files:
        raise InputError("source", [], "it names no file.")
    strange = [file for file in files if not file.lower().endswith(_PARQUET + _TEXT)]
    if strange:
        raise InputError("source", strange[0], f"the name of a table file must end in {_endings()}.")
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise InputError(
            None, rule=f"the files are of {len(kinds)} kinds ({', '.join(sorted(kinds))}).", way_out="Give one kind."
        )


def _kind(file: str) -> str:
    name = file.lower()
    return "parquet" if name.endswith(_PARQUET) else "tsv" if ".tsv" in name else "csv"


def open_source(con: Any, source: Any, task: str) -> Source:
    """Return the columns of a source, for a connection ``con``; ids of a text file's tasks are read as text."""
    import duckdb

    if isinstance(source, duckdb.DuckDBPyRelation):
        # A relation belongs to the user's connection, whose memory is not ours to limit: its rows come as a stream.
        # Nothing else can be asked of it once the stream is open.
        kinds = dict(zip(source.columns, map(str, source.types), strict=True))
        n_rows = source.count("*").fetchall()[0][0]
        con.register("relation", source.to_arrow_reader(100_000))
        return Source("the relation", "relation", kinds, (), False, n_rows)
    files = files_of(source)
    label = repr(os.path.basename(files[0])) + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
    listed = ", ".join(map(quoted_text, files))
    as_text = ""
    if _kind(files[0]) == "parquet":
        sql = f"read_parquet([{listed}])"
    else:
        tabs = ", delim='\t'" if _kind(files[0]) == "tsv" else ", delim=','"
        missing = ", ".join(map(quoted_text, _MISSING))
        as_text = f", types={{{quoted_text(task)}: 'VARCHAR'}}"
        sql = f"read_csv([{listed}], header=true{tabs}, nullstr=[{missing}]{as_text})"
    try:
        rows = con.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
    except duckdb.Error as error:
        if as_text:
            # It may be the task column that is missing: say so with the names there are.
            plain = sql.replace(as_text, "")
            try:
                rows = con.execute(f"DESCRIBE SELECT * FROM {plain}").fetchall()
                return Source(label, plain, {row[0]: row[1] for row in rows}, tuple(files), True)
            except duckdb.Error:
                pass
        raise unreadable(label, error) from error
    return Source(label, sql, {row[0]: row[1] for row in rows}, tuple(files), _kind(files[0]) != "parquet")


def unreadable(label: str, error: Exception) -> InputError:
    """Return the error for a table that DuckDB cannot read."""
    first = " ".join(str(error).split())
    return InputError(
        None,
        rule=f"{label} cannot be read: {first[:400]}.",
        way_out="Check that all files are complete and have the same columns.",
    )


def chosen_features(opened: Source, task: str, target: str, features: Iterable[str] | None) -> list[str]:
    """Return the feature columns after checking every name."""
    names = list(opened.kinds)
    wanted = [name for name in names if name not in (task, target)] if features is None else list(features)
    for role, name in (("task", task), ("target", target), *(("features", name) for name in wanted)):
        if name not in opened.kinds:
            way_out = f"The columns are {some(names, 30)}.{did_you_mean(str(name), names)}"
            raise InputError(role, name, f"{opened.label} has no such column.", way_out)
    if task == target:
        raise InputError("target", target, ("it is also the column of ", Setting("task"), ": they must differ."))
    if task in wanted or target in wanted or len(set(wanted)) < len(wanted) or not wanted:
        raise InputError(
            "features", wanted, "it must hold one column or more, each once, other than those of task and target."
        )
    return wanted


def number_sql(opened: Source, name: str, role: str) -> str:
    """Return a column as DOUBLE; InputError where it holds no numbers."""
    kind = opened.kinds[name]
    if kind == "BOOLEAN":
        return f"CAST(CAST({quoted(name)} AS TINYINT) AS DOUBLE)"
    if kind.startswith(("DECIMAL", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")) or kind in (
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE",
    ):  # fmt: skip
        return f"CAST({quoted(name)} AS DOUBLE)"
    rule = f"{role} {name!r} holds values of kind {kind}: a number is needed."
    way_out: Any = "Encode it as numbers first."
    if role == "feature" and is_category(opened, name):
        choice, wanted = Setting("categories", "onehot"), Setting("features")
        way_out = ("Use ", choice, " for indicator columns, or name the columns you want with ", wanted, ".")
    raise InputError(None, rule=rule, way_out=way_out)


def is_category(opened: Source, name: str) -> bool:
    """Whether a column holds labels and not numbers."""
    return opened.kinds[name] == "VARCHAR" or opened.kinds[name].startswith("ENUM")


def levels_of(con: Any, opened: Source, names: Sequence[str], max_levels: int) -> dict[str, list[str]]:
    """Return the sorted levels of text columns. Raises InputError for more than ``max_levels`` of one."""
    found = {}
    for name in (name for name in names if is_category(opened, name)):
        if not opened.files:
            raise InputError(
                "categories", "onehot", f"feature {name!r} of a relation is text.", "Write it to Parquet files first."
            )
        text = f"CAST({quoted(name)} AS VARCHAR)"
        sql = f"SELECT DISTINCT {text} FROM {opened.sql} ORDER BY 1 LIMIT {max_levels + 2}"
        levels = [row[0] for row in con.execute(sql).fetchall()]
        if None in levels or "" in levels:
            rule = f"feature {name!r} is missing (null or empty text) in some rows."
            raise InputError(None, rule=rule, way_out="Drop or fill these rows first.")
        if len(levels) > max_levels:
            raise InputError(
                None,
                rule=f"feature {name!r} has more than {max_levels} levels ({some(levels)}).",
                way_out=("Leave it out of ", Setting("features"), ", or merge rare levels."),
            )
        found[name] = levels
    return found


def columns_sql(opened: Source, features: Sequence[str], levels: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return the SQL and the names of the feature columns, an indicator for each level but the first."""
    sql, names = [], []
    for name in features:
        if name not in levels:
            sql.append(number_sql(opened, name, "feature"))
            names.append(name)
            continue
        own = levels[name]
        for level in own[1:] if len(own) > 1 else own:
            sql.append(f"CAST(CAST({quoted(name)} AS VARCHAR) = {quoted_text(level)} AS TINYINT)::DOUBLE")
            names.append(f"{name}={level}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        rule = f"one-hot columns and others are both named {some(twice)}."
        raise InputError(None, rule=rule, way_out="Rename the columns of the table.")
    return sql, names


def checked_names(task: Any, target: Any, categories: str, on_constant: str) -> None:
    """Raise InputError for arguments that no table could fit."""
    for value, role in ((task, "task"), (target, "target")):
        if not isinstance(value, str):
            raise InputError(role, value, "it must be the name of one column, as text.")
    _check.one_of(categories, "categories", ("raise", "onehot"))
    _check.one_of(on_constant, "on_constant", ("raise", "drop", "keep"))


def quoted(name: str) -> str:
    """Return a column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(value: str) -> str:
    """Return text as SQL."""
    return "'" + value.replace("'", "''") + "'"
