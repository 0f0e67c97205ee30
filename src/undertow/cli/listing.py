"""``undertow list``: the experiments."""

from __future__ import annotations


def list_experiments() -> None:
    """List the experiments that ``reproduce`` can run."""
    from rich.console import Console
    from rich.table import Table

    from undertow import experiments

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("full run", no_wrap=True)
    table.add_column("what it shows")
    for name in experiments.names():
        record = experiments.get(name)
        table.add_row(name, record.run_time, record.title)
    console.print(table)
