"""Sphinx configuration."""

import os
import re
from pathlib import Path

from sphinx.ext.napoleon import Config, NumpyDocstring

from undertow import __version__
from undertow.report import write_explorer

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

project = "undertow"
author = copyright = "The undertow developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "README.md"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
templates_path = ["_templates"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {
    "members": True,
    "undoc-members": False,
    # Made by scikit-learn, with references into its own documentation.
    "exclude-members": "set_fit_request, set_score_request, set_predict_request, set_predict_proba_request, "
    "set_partial_fit_request, set_decision_function_request, get_metadata_routing, kind",
}
nitpicky = True
nitpick_ignore_regex = [
    # Types of other packages, whose inventories are not there offline.
    ("py:class", r"(?!undertow\.).*"),
    # Types in signatures that are no public names of a room and have no page.
    ("py:class", r"undertow\.(\w+\.\w+\.\w+|problem\.RandomSource|_check\.Setting)"),
]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = "undertow"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
}


_SECTION = re.compile(r"^-{3,}$")
_NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_param=False)


def _escape(line: str) -> str:
    """Link pages that are named by their file, and escape bars, stars and last underscores outside of backticks: norms,
    omega* and coef_ are no markup here."""
    parts = re.split(r"(`+[^`]*`+)", re.sub(r"\bdocs/([\w/-]+)\.md", r":doc:`/\1`", line))
    return "".join(part if part.startswith("`") else re.sub(r"([|*]|_(?!\w))", r"\\\1", part) for part in parts)


def _sections(app, what, name, obj, options, lines: list[str]) -> None:
    """Escape what is no markup in a plain docstring, examples left as they are, and read its numpydoc sections."""
    example = False
    for place, line in enumerate(lines):
        below = lines[place + 1] if place + 1 < len(lines) else ""
        if _SECTION.match(below):
            example = line == "Examples"
        elif not example and not line.lstrip().startswith(".. "):
            lines[place] = _escape(line)
    # A line about an attribute is no section: napoleon would take what stands before a colon for its type.
    if what in ("class", "exception", "function", "method"):
        lines[:] = NumpyDocstring(lines, _NAPOLEON, app, what, name, obj, options).lines()


def _explorer(app, error) -> None:
    """Put the explorer beside the page that shows it."""
    if error is None and app.builder.format == "html":
        write_explorer(Path(app.outdir) / "how-to" / "explorer.page.html")


def setup(app) -> None:
    """Hook into autodoc, and add the explorer."""
    app.connect("autodoc-process-docstring", _sections)
    app.connect("build-finished", _explorer)
