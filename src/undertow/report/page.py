"""A page from a template: charts and their data, one copy of Vega, no address outside of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from undertow._check import InputError
from undertow._write import write_text
from undertow.report import theme
from undertow.report.figure import STAR, Figure

_STATIC_WIDTH = 860


def write(path: Path | str, template: str, drawn: Iterable[Figure], main: Figure, **context: Any) -> None:
    """Fill ``template`` and put the page at ``path``, whole or not at all.

    drawn: all charts of the page. main: the one that is also drawn without JavaScript.
    Raises InputError where the folder is missing or ``path`` is one.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError("path", target, "it is a directory.", "Give the name of a file.")
    if not target.parent.is_dir():
        raise InputError("path", target, f"there is no directory {str(target.parent)!r}.", "Make it first.")
    write_text(target, render(template, list(drawn), main, **context))


def render(template: str, drawn: list[Figure], main: Figure, **context: Any) -> str:
    """Return the page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("undertow.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    specs = {one.name: one.spec_of_page() for one in drawn}
    charts = {"specs": specs, "configs": {scheme: theme.config(scheme) for scheme in theme.SCHEMES}}
    return environment.get_template(template).render(
        context,
        charts=Markup(safe_json(charts)),
        vega=Markup(_vega()),
        static=Markup(static(main)),
        static_name=main.name,
        star=STAR,
        light=theme.variables("light"),
        dark=theme.variables("dark"),
        font=Markup(theme.FONT),
    )


def safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character of it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def static(figure: Figure) -> str:
    """The chart as an SVG element, in the colours of a light page."""
    import vl_convert

    spec = figure.spec_of_page() | {"width": _STATIC_WIDTH, "autosize": {"type": "pad"}}
    svg = vl_convert.vegalite_to_svg(spec, config=theme.config("light"))
    # Identifiers count all charts of the process; the page must not depend on how many there were before.
    places = {name: f"static-{i}" for i, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))}
    return re.sub(r'(\bid="|url\(#)([^")]+)', lambda found: found[1] + places.get(found[2], found[2]), svg)


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    script: str = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]
    # Within strings of the script both mean the same; within an element the first would end it.
    return script.replace("</script", "<\\/script")
