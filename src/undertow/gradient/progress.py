"""A progress bar that is updated between compiled calls, so that it costs the loop nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from undertow._check import InputError

Report = Callable[[int, int, float], None]
Progress = bool | Report


@contextmanager
def reporter(progress: Progress, done: int, total: int) -> Iterator[Report]:
    """Give a function of (iteration, iterations, meta_loss): nothing for False, a bar on stderr for True."""
    if not progress:
        yield lambda iteration, iterations, loss: None
    elif callable(progress):
        yield progress
    elif progress is not True:
        raise InputError("progress", progress, "it must be True, False, a function or, in train, a Callback.")
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("loss {task.fields[loss]}"))
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total, completed=done, loss="-")
            yield lambda iteration, iterations, loss: bar.update(task, completed=iteration, loss=f"{loss:.4g}")
