"""Messages of the library in the words of the command line, and counts in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_RULES: tuple[tuple[str, str], ...] = (
    (r"\b(on_small|on_constant|categories)='(\w+)'", r"--\1 \2"),
    (r", or give max_levels=\d+", ""),
    (r"\bfeatures=\[\.\.\.\]", "--features A,B,..."),
    (r"\b(task|target|features)=(?=['\"])", r"--\1 "),
    (r"\bfeatures (?=holds )", "--features "),
    (r"\bof features\b", "of --features"),
    (r"\bn_folds=(?=\d)", "--folds "),
    (r"\bn_folds(?= <=)", "--folds"),
    (r"\bn_support=(?=\d)", "--n-support "),
    (r"\bn_draws=(?=\d)", "--draws "),
    (r"\bn_repeats=(?=\d)", "--repeats "),
    (r"\brivals=\[([^\]]*)\]", r"--rivals \1"),
    (r"\bUse time_limit=None\b", "Use --time-limit inf"),
    (r"\btime_limit=", "--time-limit "),
    (r"\b(clip|seed|level)=", r"--\1 "),
    (r"\bUse None for no limit\b", "Use --clip inf for no limit"),
    (r"\bleave the call out\b", "give --no-intercept"),
)


def as_options(message: str, n_support: int | None = None) -> str:
    """Say in options of the command line what a message says in arguments of the library."""
    if n_support is not None:
        message = re.sub(r"\bmin_rows=\d+", f"--n-support {n_support} needs {n_support + 1} rows", message)
    for pattern, words in _RULES:
        message = re.sub(pattern, words, message)
    # The only underscores of options are those of on_small and on_constant.
    return message.replace("--on_", "--on-")


def count(n: int, one: str) -> str:
    """Return a number of things in words: "1 task", "2 tasks"."""
    return f"{n} {one}" if n == 1 else f"{n} {one}s"


@contextmanager
def in_options(n_support: int | None = None) -> Iterator[None]:
    """Within it an InputError speaks of options. ``n_support``: of a command that has it."""
    from undertow._check import InputError

    try:
        yield
    except InputError as error:
        raise InputError(as_options(str(error), n_support)) from None
