"""What a report needs beyond the base installation, and a clear word where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from undertow._check import InputError

_NEEDED = {"jinja2": "jinja2", "vl_convert": "vl-convert-python"}


def require() -> None:
    """Raise InputError that names the extra where a package that reports need is not installed.

    Commands call it before they compute anything; it imports nothing.

    Examples
    --------
    >>> from undertow import report
    >>> report.require()
    """
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise InputError(
            None,
            rule=f"{' and '.join(missing)} missing: a report needs the packages of the extra [report].",
            way_out='Install them with: pip install "undertow[report]"',
        )
