"""Arrays and a JSON header as bytes of the safetensors format, with a checksum over both.

Reading runs no code, and takes memory in proportion to what is read. The checksum finds damage of any kind; it is no
signature, and does not say who wrote the file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from undertow._check import InputError, files_near

Arrays = dict[str, np.ndarray]

# A header starts with the checksum of all that follows.
_START = '{"sha256": "'
# What a JSON value takes in memory, for each of its commas, colons and brackets, and what an array takes without rows.
_VALUE_BYTES, _ARRAY_BYTES = 72, 1000
# A header may take so many times the bytes of its file, and that much where the file is small.
_TIMES, _SMALL = 6, 1 << 21


class Unusable(ValueError):
    """Bytes that are not what ``to_bytes`` made; the message says why, to follow "it is" or "it holds"."""


def to_bytes(header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return a header of plain values, and arrays, as bytes."""
    save = _library()[0]
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    sums = {name: _checksum(value) for name, value in contiguous.items()}
    text = json.dumps({**header, "arrays": sums}, allow_nan=False)
    # One entry only: safetensors writes several in any order.
    return save(contiguous, metadata={"undertow": f'{_START}{_sha256(text)}", {text[1:]}'})


def from_bytes(data: bytes) -> tuple[dict[str, Any], Arrays]:
    """Return header and arrays of ``to_bytes``. Raises Unusable for other bytes, damaged ones among them."""
    _, load, _, failure = _library()
    try:
        head = _head(io.BytesIO(data), len(data))
        arrays = load(data)
        text = read_json(head.decode(), len(data))["__metadata__"]["undertow"]
        header = read_header(text, len(data))
    except (failure, ValueError, TypeError, AttributeError, LookupError) as error:
        raise Unusable(f"no complete safetensors data of ours ({error})") from error
    check(text, header, arrays)
    return header, arrays


def read_file(path: Path) -> tuple[dict[str, str], Arrays]:
    """Return the metadata and arrays of any safetensors file that holds some arrays for its size.

    Raises InputError where there is no such file, or not a whole one.
    """
    where = repr(str(path))
    if not path.is_file():
        if path.exists():
            raise InputError(None, rule=f"{where} is a folder, a pipe or a device.", way_out="Give a file.")
        raise InputError(None, rule=f"{where}: there is no such file.", way_out=files_near(path))
    _, _, safe_open, failure = _library()
    try:
        with path.open("rb") as opened:
            _head(opened, path.stat().st_size)
        with safe_open(str(path), framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in list(file.keys())}
    except (failure, ValueError, TypeError, AttributeError, LookupError, OSError) as error:
        raise InputError(
            None,
            rule=f"{where} is no complete safetensors file ({error}).",
            way_out="Give a file that undertow saved, and check that it was copied in full.",
        ) from error


def _head(file: BinaryIO, size: int) -> bytes:
    """The format's own header of a file of ``size`` bytes; raises Unusable where it is none, or one of far too much."""
    # Eight bytes hold its length.
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= size - 8:
        raise Unusable("its first bytes are not those of one")
    head = file.read(length)
    if _ARRAY_BYTES * head.count(b'"data_offsets"') > _TIMES * size + _SMALL:
        raise Unusable("it names far more arrays than it holds numbers")
    return head


def read_header(text: str, size: int) -> dict[str, Any]:
    """Return the header of a file of ``size`` bytes; raises Unusable where its text is none."""
    header = read_json(text, size)
    if not isinstance(header, dict):
        raise Unusable(f"a header that is a {type(header).__name__}")
    return header


def read_json(text: str, size: int, constants: bool = False) -> Any:
    """Return what JSON in a file of ``size`` bytes holds.

    Raises Unusable for text that is no JSON or would take much more memory than the file, and for what ``json.dumps``
    does not write: a key twice, hundreds of brackets one in the other, and unless there may be ``constants`` NaN.
    """
    if _VALUE_BYTES * sum(map(text.count, ",:[{")) > _TIMES * size + _SMALL:
        raise Unusable("JSON of far more values than a file of this size can need")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=float if constants else _no_constant)
    except RecursionError as error:
        raise Unusable("JSON whose brackets are nested too deeply") from error
    except ValueError as error:
        raise Unusable(f"what is no JSON ({error})") from error


def check(text: str, header: dict[str, Any], arrays: Arrays) -> None:
    """Raise Unusable unless header and arrays are those that were written; all checksums leave the header.

    text: what the header was read from.
    """
    begin, end = text[: len(_START)], text[len(_START) + 64 :]
    made, sums = header.pop("sha256", None), header.pop("arrays", None)
    if begin != _START or end[:3] != '", ' or made != _sha256("{" + end[3:]) or not isinstance(sums, dict):
        raise Unusable("another header than was written, by its checksum")
    other = [name for name in sorted(sums.keys() | arrays.keys()) if name not in sums or name not in arrays]
    other = other or [name for name, array in arrays.items() if sums[name] != _checksum(array)]
    if other:
        raise Unusable(f"other values of {other[0]!r} than were written, by their checksum")


def _checksum(array: np.ndarray) -> str:
    made = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _library() -> tuple[Callable[..., bytes], Callable[..., Arrays], Callable[..., Any], type[Exception]]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load, save
    except ImportError as error:
        raise ImportError("saving and loading need safetensors: pip install safetensors.") from error
    return save, load, safe_open, SafetensorError
