"""Generated tables of many spellings, read from files and frames: each number and each task as written, or refused."""

import csv
import datetime
import gzip
import io
import math
import traceback
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty import seeds, times

import undertow as ut

EPOCH = datetime.date(1970, 1, 1)
# What stands for a missing number.
MISSING = ["", "NA", "NaN", "null"]
ALPHABET = list("abAB01é ,;'-_.%\u202e\U0001f40d")
LABELS = {
    "small": lambda rng: str(rng.integers(-3, 12)),
    "padded": lambda rng: "0" * rng.integers(0, 3) + str(rng.integers(1, 9)),
    "18 digits": lambda rng: str(123456789012345670 + rng.integers(0, 12)),
    "beyond 64 bits": lambda rng: str(2**64 + int(rng.integers(-3, 8))),
    "truth": lambda rng: rng.choice(["true", "True", "TRUE", "false", "False"]),
    "halves": lambda rng: rng.choice(["-0.0", "0.0", "0", "0.5", "1.5", "1.50", "2", "1e0", "15e-1"]),
    "days": lambda rng: str(EPOCH + datetime.timedelta(days=int(rng.integers(18000, 18012)))),
    "text": lambda rng: "t" + "".join(rng.choice(ALPHABET, rng.integers(0, 4))) + "x",
    "mixed": lambda rng: rng.choice(["1", "01", "one", "1.0", "true", "NA.", "2020-01-01"]),
}
NUMBERS = {
    "plain": lambda rng: repr(float(rng.standard_normal())),
    "rounded": lambda rng: f"{rng.standard_normal():.{rng.integers(1, 5)}f}",
    "powers": lambda rng: f"{rng.standard_normal() * 10.0 ** rng.integers(-90, 90):e}",
    "whole": lambda rng: str(rng.integers(-50, 50)),
    "large": lambda rng: str(rng.integers(-(2**63), 2**63 - 1)),
    "truth": lambda rng: rng.choice(["true", "false"]),
    "days": lambda rng: str(EPOCH + datetime.timedelta(days=int(rng.integers(-9000, 18000)))),
    # Whole numbers for a while, and then another one.
    "late": lambda rng: str(rng.integers(0, 9)) if rng.random() < 0.97 else "0.5",
}


def number(text):
    """What a cell of a column of numbers means, by other code than ours."""
    if text in MISSING:
        return math.nan
    if text in ("true", "false"):
        return float(text == "true")
    return (
        float((datetime.date.fromisoformat(text) - EPOCH).days)
        if text[4:5] == "-" and text[7:8] == "-"
        else float(text)
    )


def made(rng):
    """Labels (R,), and columns of cells (R,) each by name, the target first."""
    n, kinds = int(rng.integers(6, 60)), list(NUMBERS)
    label = LABELS[rng.choice(list(LABELS))]
    known = [label(rng) for _ in range(rng.integers(2, 6))]
    columns = {"y": [NUMBERS[rng.choice(["plain", "rounded", "whole"])](rng) for _ in range(n)]}
    for name in ["a", "b b", "ç"][: rng.integers(1, 4)]:
        cell = NUMBERS[rng.choice(kinds)]
        columns[name] = [cell(rng) for _ in range(n)]
    if rng.random() < 0.3:
        cells, mark = columns[rng.choice(list(columns))], rng.choice(MISSING)
        for place in rng.integers(0, n, rng.integers(1, 4)):
            cells[place] = mark
    return [known[one] for one in rng.integers(0, len(known), n)], columns


def as_text(labels, columns, rng, path):
    """A file of text, in one of the ways that text is written."""
    sep = rng.choice([",", ";", "\t", "|"])
    comma = sep != "," and rng.random() < 0.3
    rows = [["g", *columns], *zip(labels, *columns.values(), strict=True)]
    if comma:
        # Labels too: a file has one decimal mark.
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if rng.random() < 0.1 else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=sep, quoting=quoting, lineterminator=rng.choice(["\n", "\r\n"])).writerows(rows)
    data = out.getvalue().encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"], p=[0.8, 0.1, 0.1]))
    zipped = rng.random() < 0.2
    file = path / f"a.{'tsv' if sep == chr(9) and rng.random() < 0.5 else 'csv'}{'.gz' if zipped else ''}"
    file.write_bytes(gzip.compress(data) if zipped else data)
    return file, ({"sep": str(sep), "decimal": "," if comma else "."} if rng.random() < 0.5 else {}), comma


def as_frame(labels, columns, rng, path):
    """A frame or Parquet file with columns of their kinds."""
    values = {"g": labels} | {name: [number(cell) for cell in cells] for name, cells in columns.items()}
    kind = rng.integers(0, 4)
    if kind == 0:
        return pd.DataFrame(values)
    if kind == 1:
        return pl.DataFrame(values)
    frame = pa.table({name: pa.array(one, from_pandas=True) for name, one in values.items()})
    if kind == 2:
        return frame
    pq.write_table(frame, path / "a.parquet", row_group_size=int(rng.integers(1, 30)))
    return path / "a.parquet"


def fault(table, labels, x, y, kept):
    """How a table differs from what was written; nothing where it does not."""
    rows = np.asarray(table.rows)
    if sorted(rows.tolist()) != kept:
        return "other rows"
    if not (np.array_equal(table.y, y[rows]) and np.array_equal(table.x, x[rows])):
        return "other numbers"
    pairs = {(labels[row], str(one)) for row, one in zip(rows, table.groups, strict=True)}
    if not len(pairs) == len({label for label, _ in pairs}) == len({one for _, one in pairs}):
        return "other tasks"
    return ""


def outcome(seed, path):
    rng = np.random.default_rng(seed)
    labels, columns = made(rng)
    numbers = {name: np.array([number(cell) for cell in cells]) for name, cells in columns.items()}
    x, y = np.column_stack([numbers[name] for name in columns if name != "y"]), numbers["y"]
    options, comma = {}, False
    if rng.random() < 0.7:
        source, options, comma = as_text(labels, columns, rng, path)
        labels = [one.replace(".", ",") for one in labels] if comma else labels
    else:
        source = as_frame(labels, columns, rng, path)
    way = rng.choice(["refuse", "drop", "mean"])
    lacking = np.isnan(x).any(axis=1) | np.isnan(y)
    gone = np.isnan(y) if way == "mean" else lacking
    if way == "mean" and np.isnan(x).any():
        means = np.nanmean(x[~gone], axis=0)
        x = np.where(np.isnan(x), means, x)
    try:
        table = ut.tasks.read_table(source, "g", "y", on_missing=way, on_constant="keep", **options)
    except ut.InputError as error:
        if lacking.any() and way == "refuse" and "missing" in str(error):
            return "refused for what is missing"
        return f"refused: {str(error)[:120]}" if not lacking.any() else "refused"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:90]} at {place.filename[-40:]}:{place.lineno}"
    if lacking.any() and way == "refuse":
        return "read with what is missing"
    if way == "mean":
        # Sums may go in another order.
        table = ut.tasks.GroupedTable(
            **{**vars(table), "x": np.where(np.isclose(table.x, x[table.rows], 1e-12), x[table.rows], table.x)}
        )
    return fault(table, labels, x, y, np.flatnonzero(~gone).tolist()) or "read"


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("n", [60, pytest.param(times(1000), marks=pytest.mark.long)])
def test_tables_are_read_as_they_are_written_or_refused(n, tmp_path, counted):
    found = Counter()
    for seed in seeds(n):
        with warnings.catch_warnings():
            # Ours say what was done; of others none may be seen.
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ut.tasks.TableNote)
            how = outcome(seed, tmp_path)
        found[how if how in ("read", "refused", "refused for what is missing") else f"seed {seed}: {how}"] += 1
    assert not found.keys() - {"read", "refused", "refused for what is missing"}, "\n".join(found)
    assert found["read"] > 0.7 * n
    counted("generated tables", **{how.replace(" ", "_"): n for how, n in found.items()})
