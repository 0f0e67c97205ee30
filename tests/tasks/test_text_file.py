"""Text files as people write them: the same table from each, and files that are none refused with the way out."""

import gzip
import os
import socket
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow import InputError
from undertow.tasks import TableNote, read_table

ROWS = [("north", 1.5, -20.25, 1000), ("north", 2.25, 3.5, 12), ("south", -1.0, 0.125, 1250), ("süd, west", 4.0, 1, 7)]
NAMES = ["shop", "price", "temp, °C", "sold"]


def spelled(sep, decimal, quoted=False):
    def cell(value):
        text = str(value).replace(".", decimal) if isinstance(value, float) else str(value)
        return f'"{text}"' if quoted or sep in text else text

    lines = [sep.join(cell(one) for one in row) for row in [NAMES, *ROWS]]
    return "\n".join(lines) + "\n"


WAYS = {
    "comma": ("t.csv", spelled(",", "."), "utf-8"),
    "byte order mark": ("t.csv", spelled(",", "."), "utf-8-sig"),
    "semicolon": ("t.csv", spelled(";", ","), "utf-8"),
    "semicolon, point": ("t.csv", spelled(";", "."), "utf-8"),
    "bar": ("t.csv", spelled("|", "."), "utf-8"),
    "tab in .csv": ("t.csv", spelled("\t", ","), "utf-8"),
    "comma in .tsv": ("t.tsv", spelled(",", "."), "utf-8"),
    "tab": ("t.tsv", spelled("\t", "."), "utf-8"),
    "all quoted": ("t.csv", spelled(",", ".", True), "utf-8"),
    "quoted decimal commas": ("t.csv", spelled(",", ",", True), "utf-8"),
    "UTF-16": ("t.csv", spelled(";", ","), "utf-16"),
    "UTF-16 without a mark": ("t.csv", spelled(",", "."), "utf-16-le"),
    "carriage returns": ("t.csv", spelled(",", ".").replace("\n", "\r\n"), "utf-8"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.filterwarnings("ignore::undertow.tasks.reading.TableNote")
def test_every_way_of_writing_gives_the_same_table(way, zipped, tmp_path):
    name, text, encoding = WAYS[way]
    path = tmp_path / (name + ".gz" * zipped)
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if zipped else data)
    table = read_table(path, "shop", "sold")
    assert table.ids.tolist() == ["north", "south", "süd, west"]
    assert table.feature_names == ("price", "temp, °C")
    assert table.x.tolist() == [[1.5, -20.25], [2.25, 3.5], [-1.0, 0.125], [4.0, 1.0]]
    assert table.y.tolist() == [1000, 12, 1250, 7]


def test_what_is_recognised_is_said_and_what_is_given_counts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("g;x;y\na;1,250;1\na;2,500;2\nb;3,750;4\n")
    with pytest.warns(TableNote, match="columns parted by semicolons, decimal commas"):
        assert read_table(path, "g", "y").x[:, 0].tolist() == [1.25, 2.5, 3.75]
    with pytest.warns(TableNote, match="thousands separators"):
        assert read_table(path, "g", "y", sep=";", decimal=".").x[:, 0].tolist() == [1250, 2500, 3750]
    with pytest.raises(InputError, match="are parted by semicolons"):
        read_table(path, "g", "y", sep=",")
    for wrong in ({"sep": ";;"}, {"sep": "é"}, {"decimal": ";"}, {"sep": ".", "decimal": "."}):
        with pytest.raises(InputError):
            read_table(path, "g", "y", **wrong)


def test_commas_between_columns_and_in_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('g,x,y\na,"1,250",1\na,"2,500",2\nb,"3,750",4\n')
    with pytest.warns(TableNote, match="thousands separators"):
        assert read_table(path, "g", "y").x[:, 0].tolist() == [1250, 2500, 3750]
    for sep in (None, ","):
        assert read_table(path, "g", "y", sep=sep, decimal=",").x[:, 0].tolist() == [1.25, 2.5, 3.75]
    # One number that is clear says what all mean.
    path.write_text('g,x,z,y\na,"1,250","0,5",1\na,"2,500",2,2\nb,"3,750",1,4\n')
    with pytest.warns(TableNote, match="decimal commas"):
        assert read_table(path, "g", "y").x.tolist() == [[1.25, 0.5], [2.5, 2], [3.75, 1]]
    path.write_text("g,x,y\na,1.25,1\na,2.5,2\nb,3.75,4\n")
    for sep in (None, ","):
        with pytest.raises(InputError) as error:
            read_table(path, "g", "y", sep=sep, decimal=",")
        assert error.value.argument == "decimal"
    # A mark that nobody has given is no slip.
    path.write_text("g.x.y\na.1.1\na.2.2\nb.3.4\n")
    assert read_table(path, "g", "y", sep=".").x[:, 0].tolist() == [1, 2, 3]


def test_a_separator_and_a_decimal_mark_are_never_given_in_vain(tmp_path):
    columns = {"g": ["a", "a", "b"], "x": ["1,250", "2,500", "3,750"], "y": [1, 2, 4]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    for source in (pa.table(columns), pd.DataFrame(columns), tmp_path / "t.parquet"):
        with pytest.raises(InputError) as error:
            read_table(source, "g", "y", sep=";")
        assert error.value.argument == "sep"
        with pytest.warns(TableNote):
            assert read_table(source, "g", "y", decimal=",").x[:, 0].tolist() == [1.25, 2.5, 3.75]
        with pytest.warns(TableNote):
            assert read_table(source, "g", "y").x[:, 0].tolist() == [1250, 2500, 3750]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["true", "True", "TRUE"], ["TRUE", "True", "true"]),
        (["True", "False", "True"], [False, True]),
        (["-0.0", "0.0", "1.5"], ["-0.0", "0.0", "1.5"]),
        (["0.5", "0.50", "1"], ["0.5", "0.50", "1"]),
        (["18446744073709551616", "18446744073709551617", "1"], ["1", "18446744073709551616", "18446744073709551617"]),
        (["9007199254740993.0", "9007199254740992.0", "1"], ["1", "9007199254740992.0", "9007199254740993.0"]),
        (["123456789012345678", "123456789012345679", "1"], [1, 123456789012345678, 123456789012345679]),
        (["2020-01-01", "2020-01-01T00:00:00", "2020-01-02"], ["2020-01-01", "2020-01-01T00:00:00", "2020-01-02"]),
        (["a", "A", "a "], ["A", "a", "a "]),
    ],
)
@pytest.mark.filterwarnings("ignore::undertow.tasks.reading.TableNote")
def test_labels_are_compared_as_the_file_spells_them(tmp_path, written, ids):
    path = tmp_path / "t.csv"
    path.write_text("g,x,y\n" + "".join(f"{label},{i},{i % 2}\n" for i, label in enumerate(written)))
    assert read_table(path, "g", "y").ids.tolist() == ids


def test_labels_of_frames_that_no_number_can_hold():
    huge = [2**64, 2**64 + 1, 2**64, 5]
    frame = pd.DataFrame({"g": huge, "x": [1.0, 2, 3, 4], "y": [0, 1, 0, 1]})
    assert read_table(frame, "g", "y").ids.tolist() == sorted(str(one) for one in set(huge))
    zero = frame.assign(g=[0.0, -0.0, 1.0, 1.0])
    assert read_table(zero, "g", "y").n_tasks == 2
    with pytest.raises(InputError, match=r"cannot distinguish neighbours.*whole numbers or as text"):
        read_table(frame.assign(g=[1e18, 1e18 + 1, 1.0, 2.0]), "g", "y")


def test_labels_that_look_alike_are_named(tmp_path):
    frame = pd.DataFrame({"g": ["S1", "S1 ", "s1", "S2"], "x": [1.0, 2, 3, 4], "y": [0, 1, 0, 1]})
    with pytest.warns(TableNote, match=r"1 pair of labels of 'g'.*likely one task.*'S1', 'S1 ', 's1'"):
        assert read_table(frame, "g", "y").n_tasks == 4
    levels = frame.assign(g=[1, 1, 2, 2], x=["mall", "Mall", "city", "mall"])
    with pytest.warns(TableNote, match=r"1 pair of labels of 'x'.*likely one level.*'Mall', 'mall'"):
        read_table(levels, "g", "y", categories="onehot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableNote)
        second = read_table(levels.assign(z=frame["x"]), "g", "y", features=["z"], random_intercept="x")
    assert any("'Mall', 'mall'" in note for note in second.notes)


def faults(folder):
    """(path, what its message holds)"""
    good = "g,x,y\na,1,2\na,2,3\nb,3,4\n"
    files = {
        "empty.csv": (b"", "Empty CSV"),
        "space.csv": (b"  \n", "Empty CSV"),
        "zip.csv": (b"PK\x03\x04" + bytes(50), "zip archive or an Excel file"),
        "zipped.csv": (gzip.compress(good.encode()), "compressed with gzip, whatever its name says. Let its name end"),
        "old.csv": (b"\xd0\xcf\x11\xe0" + bytes(50), "old Excel file"),
        "nul.csv": (good.replace("2", "\0").encode(), "NUL bytes"),
        "late.csv": (good.encode() + b"c,4,5\n" * 4000 + b"\0\0,4,5\n", "NUL bytes"),
        "ragged.csv": ((good + "c,1\n").encode(), "Mend this line"),
        "long.csv": ((good + "c,1,2,3\n").encode(), "Mend this line"),
        "twice.csv": (good.replace("x", "y").encode(), "more than one column named 'y'"),
        "utf32.csv": (good.encode("utf-32"), "UTF-32"),
        "latin.csv": (good.replace("b", "é").encode("latin-1"), "iconv"),
        "short.csv.gz": (gzip.compress(good.encode() * 99)[:40], "gzip"),
        "cut.parquet": (b"PAR1" + bytes(30), "cannot be read"),
        "not.xlsx": (good.encode(), "cannot be read"),
        "binary.csv": (np.random.default_rng(0).bytes(5000), ""),
    }
    for name, (data, words) in files.items():
        (folder / name).write_bytes(data)
        yield folder / name, words
    pq.write_table(pa.table({"g": [1]}), folder / "p.parquet")
    (folder / "parquet.csv").write_bytes((folder / "p.parquet").read_bytes())
    yield folder / "parquet.csv", "is a Parquet file"
    (folder / "folder.csv").mkdir()
    yield folder / "folder.csv", "is a directory"
    os.mkfifo(folder / "pipe.csv")
    yield folder / "pipe.csv", "a pipe or a device"
    (folder / "device.csv").symlink_to("/dev/zero")
    yield folder / "device.csv", "a pipe or a device"
    (folder / "lost.csv").symlink_to(folder / "nowhere.csv")
    yield folder / "lost.csv", "no such file"
    (folder / "ring.csv").symlink_to(folder / "ring.csv")
    yield folder / "ring.csv", "Give the path of a file"
    yield folder / ("n" * 300 + ".csv"), "Give the path of a file"
    yield str(folder / "a\0b.csv"), "Give the path of a file"
    yield folder / "empty.csv" / "t.csv", "no such file"
    with socket.socket(socket.AF_UNIX) as own:
        os.chdir(folder)
        own.bind("s.csv")
        yield folder / "s.csv", "a pipe or a device"


def test_files_that_are_no_tables_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("openpyxl")
    for path, words in faults(tmp_path):
        with pytest.raises(InputError) as error:
            read_table(path, "g", "y")
        text = str(error.value)
        assert words in text, (path, text)
        assert "\n" not in text
        assert error.value.way_out


def test_no_permission(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("g,x,y\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("undertow.tasks.text_file._first_bytes", refuse)
    with pytest.raises(InputError, match=r"t.csv' may not be read \(permission denied\)"):
        read_table(path, "g", "y")


def test_a_fault_in_a_column_that_is_not_used_does_not_matter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("g,x,y,note\na,1,2,é\na,2,1,\nb,3,1,\n".encode("latin-1"))
    assert read_table(path, "g", "y", ["x"]).n_rows == 3


def test_a_sheet_of_excel(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [NAMES, *ROWS, [None] * 4]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx", "shop", "sold")
    assert table.ids.tolist() == ["north", "south", "süd, west"]
    assert table.x.tolist() == [[1.5, -20.25], [2.25, 3.5], [-1.0, 0.125], [4.0, 1.0]]


def test_excel_without_its_package_names_it(tmp_path, monkeypatch):
    import sys

    (tmp_path / "t.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"pip install 'undertow\[excel\]'"):
        read_table(tmp_path / "t.xlsx", "g", "y")


@pytest.mark.parametrize("last", ["s1,0.5,0.25", "001,7,8", "s1,x,0.5", 's1,"2,5",1'])
def test_a_late_row_of_another_kind_is_read_as_if_it_had_come_first(tmp_path, last):
    # Longer than what Arrow reads at once, so that kinds are guessed before the last row is seen.
    rows = [f"{i % 50},{i % 7},{i % 11}" for i in range(200_000)]
    late, first = tmp_path / "late.csv", tmp_path / "first.csv"
    late.write_text("\n".join(["g,a,y", *rows, last]) + "\n")
    first.write_text("\n".join(["g,a,y", last, *rows]) + "\n")
    found = []
    for file in (late, first):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TableNote)
                table = read_table(file, "g", "y")
            found.append((table.ids.tolist(), table.counts.tolist(), table.x.sum(), table.y.sum()))
        except InputError as error:
            found.append(str(error).split("row")[0].split("'a'")[1])
    assert found[0] == found[1]


@pytest.mark.parametrize("start", [b"", b" \n", b"\xff\xfe", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_but_a_byte_order_mark_is_empty(start, tmp_path):
    (tmp_path / "t.csv").write_bytes(start)
    for options in ({}, {"sep": ";"}, {"decimal": ","}):
        with pytest.raises(InputError, match="Empty"):
            read_table(tmp_path / "t.csv", "task", "y", **options)
