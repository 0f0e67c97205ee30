"""With --anonymous no file that is written holds an id of a task: their bytes are looked for in each."""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.saved_model import read_columns
from undertow.estimators import load, save

TEXT = [f"Zoë Quax-{i:03d}" for i in range(24)]
NUMBERS = [730000000000000001 + 37 * i for i in range(24)]


def table(folder, ids, name="visits.csv"):
    """A table of which the first task has most rows, two ids look alike, and one task is lost with its rows."""
    rng = np.random.default_rng(0)
    counts = np.r_[30, rng.integers(8, 13, len(ids) - 1)]
    tasks = np.repeat(np.arange(len(ids)), counts)
    x = rng.normal(size=(len(tasks), 2))
    y = x @ [1.0, -0.5] + rng.normal(size=len(ids))[tasks] + 0.3 * rng.normal(size=len(tasks))
    named = [ids[i] for i in tasks]
    if isinstance(ids[0], str):
        named = [one.upper() if one == ids[5] and r % 2 else one for r, one in enumerate(named)]
    x[tasks == 3, 0] = np.nan
    columns = {"patient": named, "dose": x[:, 0], "age": x[:, 1], "pressure": y}
    frame = pa.table(columns)
    pc.write_csv(frame, folder / name)
    return folder / name, frame


def spelled(ids):
    """Bytes that an id may be written as."""
    found = [str(one).encode() for one in ids] + [str(one).upper().encode() for one in ids]
    if isinstance(ids[0], str):
        found += [one.encode("utf-16-le") for one in ids] + [one.encode("utf-32-le") for one in ids]
        found += [one.encode("ascii", "backslashreplace") for one in ids] + [b"Quax", b"QUAX"]
    else:
        found += [struct.pack("<q", one) for one in ids] + [struct.pack("<d", one) for one in ids]
    return found


def texts(folder):
    """All files below a folder as bytes; tables of Parquet also as text, since they are compressed."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        yield file, file.read_bytes()
        if file.suffix == ".parquet":
            yield file, repr(pq.read_table(file).to_pylist()).encode()


def commands(file, folder):
    common = [str(file), "--task", "patient", "--target", "pressure", "--n-support", "3", "--on-missing", "drop"]
    common += ["--on-small", "drop", "--folds", "3"]
    yield ["fit", *common, "--draws", "2", "--save", str(folder / "m.safetensors"), "--report", str(folder / "f.html")]
    yield ["compare", *common, "--rivals", "pooled,step", "--draws", "1", "--report", str(folder / "c.html")]


BOTH = ("fit", "compare")


@pytest.fixture(
    params=[(TEXT, BOTH[:1]), *(pytest.param((ids, BOTH), marks=pytest.mark.long) for ids in (TEXT, NUMBERS))],
    ids=["text, fit", "text", "numbers"],
)
def written(request, tmp_path):
    """Where the commands have written, with --anonymous and without."""
    ids, names = request.param
    file, frame = table(tmp_path, ids)
    said = {}
    for which, option in (("named", []), ("anonymous", ["--anonymous"])):
        folder = tmp_path / which
        folder.mkdir()
        outputs = []
        for command in (one for one in commands(file, folder) if one[0] in names):
            done = CliRunner().invoke(app, [*command, *option, "--out", str(folder / command[0])])
            assert done.exit_code == 0, done.output
            outputs.append(done.output)
        said[which] = "".join(outputs)
    return ids, tmp_path, frame, said


def test_no_file_of_an_anonymous_run_holds_an_id(written):
    ids, folder, frame, said = written
    looked_for = spelled(ids)
    found = {
        which: [file for file, data in texts(folder / which) if any(one in data for one in looked_for)]
        for which in ("named", "anonymous")
    }
    assert len({file.name for file in found["named"]}) >= 5, "the search finds ids where they are"
    assert found["anonymous"] == []
    assert any(one in said["named"].encode() for one in looked_for)
    assert not any(one in said["anonymous"].encode() for one in looked_for)

    # The numbers are those of the run with ids, task by task.
    for file in (folder / "named").rglob("*.parquet"):
        other = folder / "anonymous" / file.relative_to(folder / "named")
        one, other = (
            {name: column for name, column in pq.read_table(place).to_pydict().items() if name != "task"}
            for place in (file, other)
        )
        for name in one:
            assert "seconds" in name or repr(one[name]) == repr(other[name]), (file, name)

    # A known task is a new one to the model, and predicted as one.
    model = folder / "anonymous" / "m.safetensors"
    known, new = load(folder / "named" / "m.safetensors"), load(model)
    assert read_columns(model).anonymous
    x = np.column_stack([frame["dose"], frame["age"]])[:3]
    tasks = np.array(frame["patient"].to_pylist()[:3])
    for loaded in (known, new):
        del loaded.feature_names_in_
    assert np.array_equal(new.predict(x, tasks), known.predict(x))
    assert not np.allclose(known.predict(x, tasks), known.predict(x))
    assert np.array_equal(new.predict(x, new.task_ids_[[0, 1, 2]]), known.predict(x))


def test_a_model_saved_without_ids_in_python(tmp_path):
    _, frame = table(tmp_path, NUMBERS)
    x = np.nan_to_num(np.column_stack([frame["dose"], frame["age"]]))
    y, groups = np.array(frame["pressure"]), np.array(frame["patient"])
    estimator = ut.MAMLRegressorCV(3, 3, n_draws=1).fit(x, y, groups=groups)
    for name, anonymous in (("named", False), ("anonymous", True)):
        save(estimator, tmp_path / f"{name}.safetensors", anonymous=anonymous)
    looked_for = spelled(NUMBERS)
    holds = [
        any(one in (tmp_path / f"{name}.safetensors").read_bytes() for one in looked_for)
        for name in ("named", "anonymous")
    ]
    assert holds == [True, False]
    new = load(tmp_path / "anonymous.safetensors")
    assert estimator.task_ids_.tolist() == NUMBERS, "the estimator itself keeps its tasks"
    assert np.array_equal(new.predict(x), estimator.predict(x))
    assert new.summary().error == estimator.summary().error
    some = groups == NUMBERS[1]
    adapted = new.adapt(x[some][:4], y[some][:4], groups=groups[some][:4])
    assert adapted.task_ids_.tolist() == [NUMBERS[1]]
    with pytest.raises(ut.InputError, match="without its tasks"):
        new.merge(new)


def test_rows_sorted_out_of_core_keep_ids_and_say_so(tmp_path):
    pytest.importorskip("duckdb")
    file, _ = table(tmp_path, TEXT)
    command = ["fit", str(file), "--task", "patient", "--target", "pressure", "--memory", "1GB", "--anonymous"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "anonymous" in done.output
    assert not (tmp_path / "out").exists()
