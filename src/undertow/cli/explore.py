"""``undertow explore``: a page with sliders for sizes and both rates, for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explore(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .html file to write.")] = Path("explorer.html"),
) -> None:
    """Write a page to explore the theory in a browser: sliders, curves and a simulation. The page works offline."""
    from undertow.cli.output import check_file, say

    check_file(out, "out", (".html",))
    from undertow.report import write_explorer

    write_explorer(out)
    say(f"explorer: {out} (open it in a browser)")
