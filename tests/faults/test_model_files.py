"""A model file that was damaged or forged is refused with a reason, or is the same model: never another number."""

import copy
import json
import os
import struct
import subprocess
import sys
import traceback
from collections import Counter

import numpy as np
import pytest
from faulty import FACTOR, SEED, times
from forged import forge, parts
from made import cv, table

import undertow as ut
from undertow.estimators import load, read_notes, save, saved_file

X, Y, G = table(m=12, p=2)
RNG = np.random.default_rng(0)
BENT = RNG.uniform(-2, 2, (len(X), 2))
BENDS = {"splines": 2 * np.sin(2 * BENT[:, 0]), "trees": 2 * BENT[:, 0] * BENT[:, 1]}
MODELS = {
    "search": (cv(n_rates=11, n_draws=1, steps=(1, 2)), X, Y, np.array([f"school {g}" for g in G])),
    "rates": (ut.MAMLRegressor(-0.3, 0.4), X, Y, G),
    "classes": (ut.MAMLClassifier(), X, np.digitize(Y, [25, 35]).astype(str), np.datetime64("2020-01-01") + G),
    "mixed": (ut.MAMLRegressor(rule=ut.MixedRule("full")), X, np.c_[Y, -Y], G + 0.5),
}
for kind, bend in BENDS.items():
    MODELS[kind] = cv(n_rates=11, n_draws=1), BENT, bend + np.arange(12)[G] + 0.3 * RNG.standard_normal(len(X)), G
long = pytest.mark.long


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a file of each model."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, (model, x, y, groups) in MODELS.items():
        model.fit(x, y, groups=groups)
        assert name not in BENDS or model.curve_ == name
        save(model, folder / name, notes={"table": {"levels": {"a": ["b"]}}})
        found[name] = (folder / name).read_bytes()
    return found


def outcome(data, path, of):
    """Load bytes as a file: "refused", or "same" where they are the model of the bytes ``of``."""
    path.write_bytes(data)
    try:
        model, notes = load(path), read_notes(path)
    except ut.InputError as error:
        return "refused" if error.way_out and str(path) in str(error) else f"refused as {error}"
    save(model, path, notes=notes)
    assert path.read_bytes() == of
    return "same"


def each(saved, damaged, tmp_path):
    """Outcomes of all damaged files that ``damaged`` yields for the bytes of a model."""
    return Counter(outcome(bytes(one), tmp_path / "m", data) for data in saved.values() for one in damaged(data))


@pytest.mark.parametrize("n", [15, pytest.param(times(250), marks=long)])
def test_no_flipped_bit_changes_a_number(saved, n, tmp_path, counted):
    rng = np.random.default_rng([SEED, 0])

    def flipped(data):
        # Half of them in the header, where a flip does the oddest things.
        end = 8 + struct.unpack("<Q", data[:8])[0]
        for place in [*rng.integers(0, end, n // 2), *rng.integers(end, len(data), n // 2)]:
            found = bytearray(data)
            found[place] ^= 1 << rng.integers(8)
            yield found

    found = each(saved, flipped, tmp_path)
    assert found.keys() <= {"refused", "same"}
    assert found["refused"] > 0.95 * found.total()
    counted("model files, one bit flipped", **found)


@pytest.mark.parametrize("step", [1500, pytest.param(50, marks=long)])
def test_no_part_of_a_file_is_read(saved, step, tmp_path, counted):
    def cut(data):
        for end in [*range(0, len(data), step), len(data) - 1]:
            yield data[:end]
        for end in range(0, len(data), 8 * step):
            yield data[:end] + data[end + 1 :]
            yield data[:end] + b"\0" + data[end:]
            # What a disk that lost a block gives back.
            if any(data[end : end + 512]):
                yield data[:end] + bytes(len(data[end : end + 512])) + data[end + 512 :]

    found = each(saved, cut, tmp_path)
    assert found.keys() == {"refused"}
    counted("model files, cut, longer, or with a block of zeros", **found)


def test_arrays_that_change_places_are_refused(saved, tmp_path, counted):
    """In the format's own header, so that each array is one of the right size, and the file whole."""

    def swapped(data):
        size = struct.unpack("<Q", data[:8])[0]
        top = json.loads(data[8 : 8 + size])
        names = [name for name in top if name != "__metadata__"]
        for i, one in enumerate(names):
            for other in names[:i]:
                a, b = top[one], top[other]
                if a["shape"] != b["shape"] or a["dtype"] != b["dtype"]:
                    continue
                same = [data[8 + size + x["data_offsets"][0] : 8 + size + x["data_offsets"][1]] for x in (a, b)]
                if same[0] == same[1]:
                    continue
                text = json.dumps({**top, one: b, other: a}).encode()
                text += b" " * (-len(text) % 8)
                yield struct.pack("<Q", len(text)) + text + data[8 + size :]

    found = each(saved, swapped, tmp_path)
    assert found["refused"] > 30
    assert found.keys() == {"refused"}
    counted("model files, two arrays in each other's place", **found)


def leaves(value, path=()):
    """Paths to all values of a header, those of lists and dicts themselves included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from leaves(one, (*path, key))


def put(header, path, value):
    """Put a value in place of another; drop it where the value is ``put`` itself."""
    *way, last = path
    for key in way:
        header = header[key]
    if value is put:
        del header[last]
    else:
        header[last] = value


STRANGE = [
    put, None, True, -1, 0, 3, 10**30, 0.5, -1e9, "inf", "nan", "x", [], {}, [[1]], {"a": 1},
    {"kind": "blend", "parts": []}, {"list": [1], "tuple": 0}, {"float": "1"}, {"mixed_rule": {}},
]  # fmt: skip


def used(path):
    """Load a file and do with the model all that one does with models; whether it was refused."""
    try:
        model = load(path)
    except ut.InputError as error:
        return "refused" if error.way_out else f"refused as {error}"
    x, y = X[:6], (Y[:6] if model.targets_.flat else np.c_[Y, -Y][:6])
    if hasattr(model, "classes_"):
        y = model.classes_[: len(y)].repeat(2)[:6]
    try:
        use(model, x, y)
        save(model, path)
    except ut.InputError:
        return "refused in use"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"broken by {type(error).__name__}: {error}, {place.filename}:{place.lineno}"
    return "used"


def use(model, x, y):
    model.predict(x)
    model.predict(x, groups=model.task_ids_[:1].repeat(6))
    new = model.adapt(x, y)
    new.predict(x)
    repr(model)
    if model.model_.uncertainty is not None and model.targets_.flat and not hasattr(model, "classes_"):
        new.predict(x, interval=0.9)
        repr(model.summary())
        str(model.summary())
    if getattr(model, "choice_", None) is not None:
        str(model.choice_)
        repr(model.rate_path_)
        model.rate_path_.at([0.1])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", [0.003, pytest.param(min(0.03 * FACTOR, 1.0), marks=long)])
def test_a_forged_header_is_refused_or_makes_a_model(saved, share, tmp_path, counted):
    rng, found = np.random.default_rng([SEED, 1]), Counter()
    for name, data in saved.items():
        path = tmp_path / name
        path.write_bytes(data)
        header, arrays = parts(path)
        for place in [one for one in leaves(header) if one]:
            for value in STRANGE:
                if rng.random() > share:
                    continue
                other = copy.deepcopy(header)
                put(other, place, value)
                path.write_bytes(saved_file.to_bytes(other, arrays))
                found[used(path)] += 1
    assert not found.keys() - {"refused", "refused in use", "used"}
    assert found["refused"] > 0.6 * found.total()
    counted("model files, headers forged with fitting checksums", **found)


def forged_arrays(arrays, name):
    """Other arrays in the place of one."""
    one = arrays[name]
    yield None
    for kind in (np.float32, np.int64, np.float64, np.uint8, np.bool_):
        if one.dtype != kind:
            with np.errstate(invalid="ignore"):
                yield one.astype(kind)
    yield one.ravel()[:-1]
    yield one[None]
    yield one.T
    yield one[:0]
    yield np.zeros((0,))
    yield np.zeros_like(one)
    yield -one if one.dtype != np.uint8 else one + 1
    if one.dtype.kind == "f" and one.size:
        for value in (np.nan, np.inf):
            found = one.copy()
            found.flat[-1] = value
            yield found
    for other in arrays.values():
        if other is not one and other.size == one.size:
            yield other


@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", [0.06, pytest.param(min(0.2 * FACTOR, 1.0), marks=long)])
def test_forged_arrays_are_refused_or_make_a_model(saved, share, tmp_path, counted):
    rng, found = np.random.default_rng([SEED, 2]), Counter()
    for key, data in saved.items():
        path = tmp_path / key
        path.write_bytes(data)
        header, arrays = parts(path)
        for name in arrays:
            for one in forged_arrays(arrays, name):
                if rng.random() > share:
                    continue
                others = {other: value for other, value in arrays.items() if other != name}
                path.write_bytes(saved_file.to_bytes(header, others if one is None else others | {name: one}))
                found[used(path)] += 1
        path.write_bytes(saved_file.to_bytes(header, arrays | {"more": np.zeros(3)}))
        assert used(path) == "refused"
    assert not found.keys() - {"refused", "refused in use", "used"}
    assert found["refused"] > 0.5 * found.total()
    counted("model files, arrays forged with fitting checksums", **found)


def test_a_file_of_a_later_version_says_so(saved, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(saved["rates"])
    forge(path, lambda header: header.update(format_version=99, undertow="7.0"))
    with pytest.raises(ut.InputError, match=r"format version 99, written by undertow '7.0'.*matching version"):
        load(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", "/dev/zero"):
        with pytest.raises(ut.InputError, match="a folder, a pipe or a device"):
            load(path)


N = 1 << 20
HOSTILE = {
    "deep": "[" * 8 * N,
    "deep and closed": '{"a": ' + "[" * 4 * N + "]" * 4 * N + "}",
    "empty lists": "[" + "[]," * 2 * N + "0]",
    "short texts": '["' + 'ab","' * N + '"]',
    "digits": '{"format_version": ' + "9" * 8 * N + "}",
    "numbers": "[" + "1," * 2 * N + "1]",
}


def raw(text, entries=b""):
    """A safetensors file with a text in the place of our header; entries: more of the format's own header."""
    top = b'{"__metadata__": {"undertow": ' + json.dumps(text).encode() + b"}" + entries + b"}"
    return struct.pack("<Q", len(top)) + top


@pytest.fixture
def hostile(saved, tmp_path):
    """Files that would take much more memory than they are long, if one read them as they ask to be read."""
    found = {name: raw(text) for name, text in HOSTILE.items()}
    empty = b', "%d": {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}'
    found["arrays"] = raw("{}", b"".join(empty % i for i in range(N // 8)))
    found["length"] = struct.pack("<Q", 1 << 40) + bytes(8 * N)
    path = tmp_path / "rates"
    path.write_bytes(saved["rates"])
    header, arrays = parts(path)
    found["notes"] = saved_file.to_bytes(header | {"notes": HOSTILE["empty lists"]}, arrays)
    labels = [b"a" * N, *(b"%05d" % i for i in range(N // 8))]
    text = {
        "task_ids.text": np.frombuffer(b"".join(labels), np.uint8),
        "task_ids.offsets": np.cumsum([0, *map(len, labels)], dtype=np.int64),
    }
    found["labels"] = saved_file.to_bytes(header | {"task_ids": {"kind": "text"}}, arrays | text)
    return found


MEASURED = """
import sys
import undertow as ut
from undertow.estimators import load, read_notes

def most():
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

load(sys.argv[1])
before = most()
try:
    (read_notes if sys.argv[3] == "notes" else load)(sys.argv[2])
except ut.InputError:
    print(most() - before)
"""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=long) for name in (*HOSTILE, "arrays", "length", "notes")] + ["labels"]
)
def test_no_file_takes_more_than_ten_times_its_size(name, hostile, saved, tmp_path, counted):
    (tmp_path / "sound").write_bytes(saved["rates"])
    (tmp_path / "m").write_bytes(hostile[name])
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "sound"), str(tmp_path / "m"), name]
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert taken < 10 * len(hostile[name])
    counted(f"memory for a file of {name}", times_its_size=f"{taken / len(hostile[name]):.1f}")
