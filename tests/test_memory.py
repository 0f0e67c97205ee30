"""What is left of memory, and refusals before a table takes more."""

import math

import numpy as np
import pandas as pd
import pytest
from made import table
from typer.testing import CliRunner

import undertow as ut
from undertow import _memory
from undertow._memory import available
from undertow.cli import app
from undertow.comparison import compare

X, Y, G = table(m=12, p=2)


def written(root, **files):
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


MEMINFO = "MemTotal:  9000 kB\nMemAvailable:    8000 kB\n"
VERSION_1 = {
    "proc__self__cgroup": "5:cpu:/a\n4:memory:/a/b\n0::/\n",
    "sys__fs__cgroup__memory__a__b__memory_dot_limit_in_bytes": "9223372036854771712\n",
    "sys__fs__cgroup__memory__a__b__memory_dot_usage_in_bytes": "5000\n",
    "sys__fs__cgroup__memory__a__memory_dot_limit_in_bytes": "6000\n",
    "sys__fs__cgroup__memory__a__memory_dot_usage_in_bytes": "5000\n",
    "sys__fs__cgroup__memory__a__memory_dot_stat": "total_cache 900\ntotal_inactive_file 70\n",
}
VERSION_2 = {
    "proc__self__cgroup": "0::/a\n",
    "sys__fs__cgroup__a__memory_dot_max": "max\n",
    "sys__fs__cgroup__a__memory_dot_current": "5000\n",
    "sys__fs__cgroup__memory_dot_max": "7000\n",
    "sys__fs__cgroup__memory_dot_current": "5000\n",
}


@pytest.mark.parametrize(("files", "left"), [({}, 8000 * 1024), (VERSION_1, 1070), (VERSION_2, 2000)])
def test_what_is_left_is_the_least_of_the_system_and_its_groups(files, left, tmp_path):
    assert available(written(tmp_path, proc__meminfo=MEMINFO, **files)) == left


def test_a_system_that_does_not_say_refuses_nothing(tmp_path):
    assert available(tmp_path) == math.inf


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 1000.0)


def sources(folder):
    frame = pd.DataFrame({"g": G, "y": Y, "a": X[:, 0], "b": X[:, 1]})
    frame.to_csv(folder / "rows.csv", index=False)
    frame.to_csv(folder / "rows.csv.gz", index=False)
    frame.to_parquet(folder / "rows.parquet")
    return {"frame": frame} | {name: folder / f"rows.{name}" for name in ("csv", "csv.gz", "parquet")}


@pytest.mark.parametrize("kind", ["frame", "csv", "csv.gz", "parquet"])
def test_a_table_that_does_not_fit_is_not_read(kind, tmp_path, little):
    source = sources(tmp_path)[kind]
    for read in (ut.tasks.read_table, ut.tasks.from_table):
        with pytest.raises(ut.InputError, match=r"1e\+03 bytes|1 kB are left") as found:
            read(source, "g", "y")
        said = str(found.value)
        assert "undertow.scale.fit" in said
        rows = int(said.split(" rows")[0].split()[-1].replace(",", ""))
        assert abs(rows - len(Y)) < 0.05 * len(Y)


def test_a_fit_and_a_comparison_that_do_not_fit_are_refused(little):
    with pytest.raises(ut.InputError, match=r"a fit takes about .* are left. Fit it out of core"):
        ut.MAMLRegressor().fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match=r"a comparison takes about .* are left"):
        compare(ut.tasks.GroupedTable.from_arrays(X, Y, G))


def test_the_command_says_it_in_one_line(tmp_path, little):
    file = sources(tmp_path)["csv"]
    found = CliRunner().invoke(app, ["fit", str(file), "--task", "g", "--target", "y", "--out", str(tmp_path / "o")])
    assert found.exit_code == 2
    assert found.stderr.startswith("Error: 'rows.csv' has about ")
    assert "undertow fit FOLDER_OR_GLOB --memory 2GB" in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_table_that_fits_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 10.0 * (X.nbytes + 2 * Y.nbytes))
    for source in sources(tmp_path).values():
        table = ut.tasks.read_table(source, "g", "y")
        np.testing.assert_array_equal(np.sort(table.y), np.sort(Y))
    ut.MAMLRegressor().fit(X, Y, groups=G)
