"""A page to explore the theory in a browser: sliders, curves, and data sets that are drawn while one looks."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from string import Template

from undertow._version import __version__
from undertow._write import write_text
from undertow.report import theme

_SCRIPTS = ("spectrum.js", "theory.js", "simulation.js", "chart.js", "page.js")


def write_explorer(path: Path | str) -> None:
    """Write the page as one HTML file that asks nothing of the network. It needs no extra package.

    It shows the expected test loss of mixed linear regression as a function of the sizes, the noise, the spread of the
    tasks and both rates, by the deterministic equivalent of docs/explanation/theory.md.

    Parameters
    ----------
    path
        file to write.

    Raises
    ------
    OSError
        where the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from undertow import report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.write_explorer(Path(folder, "explorer.html"))
    ...     Path(folder, "explorer.html").stat().st_size > 10_000
    True
    """
    write_text(Path(path), explorer_page())


def explorer_page() -> str:
    """Return the page as text. Its Content-Security-Policy lets this script and this style run, and nothing else."""
    colours = {scheme: "".join(f"--{k}: {v}; " for k, v in theme.variables(scheme).items()) for scheme in theme.SCHEMES}
    style = (
        f":root {{ color-scheme: light dark; {colours['light']}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {colours['dark']}}} }}\n"
    ) + Template(_part("style.css")).substitute(font=theme.FONT)
    script = "\n".join(map(_part, _SCRIPTS))
    return Template(_part("page.html")).substitute(
        version=__version__, style=style, style_hash=_hash(style), script=script, script_hash=_hash(script)
    )


def _part(name: str) -> str:
    return (files("undertow.report.explorer") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
