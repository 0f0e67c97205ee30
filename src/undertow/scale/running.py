"""Ask about every fragment, here or on the workers of an executor; answers come in the order of the fragments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undertow._check import InputError
from undertow._write import write_bytes
from undertow.scale.asking import answer
from undertow.scale.fragment import Fragment

# Fragments that are handed out at once: more than there are workers, few enough to be held.
_IN_FLIGHT = 256
# Bytes of the checksum that a kept answer starts with.
_SUM = 32


def checked(executor: Any) -> Any:
    """Return an executor, or None; InputError for what has no ``submit``."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(
            "executor",
            type(executor).__name__,
            "it must have submit(function, *arguments), as the executors of concurrent.futures.",
            "With Dask give client.get_executor().",
        )
    return executor


def answers(
    question: bytes, fragments: Sequence[Fragment], executor: Any, kept: Path | None, words: str, quiet: bool
) -> Iterator[bytes]:
    """Yield the answer for each fragment, in their order, whatever the order in which workers are done.

    Sums must not depend on how many threads a product of matrices runs on: it is one.

    kept: folder in which each answer is written before it counts, and looked for before a fragment is read; None for
    no such files. words: what the bar of progress says; it shows on a terminal only, and not where ``quiet``.
    """
    places = [None] * len(fragments) if kept is None else _places(kept, question, fragments)
    from threadpoolctl import threadpool_limits

    # Also around threads, whose own limits would undo each other's.
    with _bar(words, len(fragments), quiet) as advance, threadpool_limits(1, "blas"):
        if executor is None:
            for fragment, place in zip(fragments, places, strict=True):
                yield _found(place) or _written(answer(question, fragment), place)
                advance()
            return
        yield from _spread_out(question, fragments, executor, places, advance)


def _spread_out(
    question: bytes, fragments: Sequence[Fragment], executor: Any, places: Sequence[Path | None], advance: Any
) -> Iterator[bytes]:
    done: dict[int, bytes] = {}
    running: dict[Any, int] = {}
    following, given_out = 0, 0
    try:
        while following < len(fragments):
            while given_out < len(fragments) and len(running) + len(done) < _IN_FLIGHT:
                place = places[given_out]
                if (data := _found(place)) is not None:
                    done[given_out] = data
                    advance()
                else:
                    running[executor.submit(answer, question, tuple(fragments[given_out]))] = given_out
                given_out += 1
            while following in done:
                yield done.pop(following)
                following += 1
            if running and following not in done:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    done[number] = _written(future.result(), places[number])
                    advance()
    except InputError:
        raise
    except Exception as error:
        error.add_note(
            f"{following} of {len(fragments)} fragments were summed; with work=FOLDER a new call goes on there."
        )
        raise
    finally:
        for future in running:
            future.cancel()


def _places(kept: Path, question: bytes, fragments: Sequence[Fragment]) -> list[Path | None]:
    # Answers are those of one question about one way to cut the table.
    cut = repr([(one.start, one.stop, one.columns) for one in fragments])
    folder = kept / hashlib.sha256(question + cut.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder / f"{i:07d}.answer" for i in range(len(fragments))]


def _found(place: Path | None) -> bytes | None:
    """The answer that was kept; None where there is none, or a damaged one, which is asked for again."""
    try:
        kept = b"" if place is None else place.read_bytes()
    except FileNotFoundError:
        return None
    return kept[_SUM:] if kept[:_SUM] == _checksum(kept[_SUM:]) else None


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _written(data: bytes, place: Path | None) -> bytes:
    if place is not None:
        write_bytes(place, _checksum(data) + data)
    return data


@contextmanager
def _bar(words: str, total: int, quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    to = Console(stderr=True, markup=False, emoji=False, highlight=False)
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=to, transient=True, disable=quiet or not to.is_terminal) as bar:
        row = bar.add_task(words, total=total)
        yield lambda: bar.update(row, advance=1)
