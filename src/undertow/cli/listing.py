"""``undertow list``: the experiments."""

from __future__ import annotations


def list_experiments() -> None:
    """List the experiments that 'undertow reproduce' can run."""
    from rich.table import Table

    from undertow import experiments
    from undertow.cli.output import console, say

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("full run", no_wrap=True)
    table.add_column("--quick", no_wrap=True)
    table.add_column("claim", overflow="fold")
    for name in experiments.names():
        record = experiments.get(name)
        table.add_row(name, record.run_time, record.quick_time, record.claim)
    to = console()
    if not to.is_terminal:
        to.width = 200  # a pipe has no width: there no claim is broken
    to.print(table)
    more = [name for name in experiments.names() if experiments.get(name).by_name]
    say(f"'undertow reproduce' without a name runs all but {', '.join(more)}, which go beyond the paper.")
    say("Processor time on a busy two-core machine (less than half of it on a quiet one); ~: scaled, not measured.")
