"""Small tables, fitted once, and a reader of pages."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pytest

import undertow as ut
from undertow.comparison import Comparison
from undertow.linear import stability_limit
from undertow.report import write_compare_report, write_fit_report
from undertow.tasks import GroupedTable

for name in ("jinja2", "vl_convert"):
    pytest.importorskip(name)

EVIL = '</script><b id="evil">x</b>'
VOID = {"meta", "br", "img", "input", "link", "hr", "line", "rect", "circle", "path"}


class Page(HTMLParser):
    """A page: its elements, the text of each section, the tables by caption, and tags that were never closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.unmatched: list[str] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[tuple[int, str]] = []
        self.scripts: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))
        elif tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unmatched.append(tag)
        if tag == "table":
            self.tables[self._caption.strip()] = self._rows

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if "script" in self.open:
            self.scripts[-1] += data
            return
        if "style" in self.open:
            return
        self.text += data
        if inside in ("td", "th"):
            self._rows[-1][-1] += data
        elif inside == "caption":
            self._caption += data
        elif inside in ("h1", "h2", "h3"):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)

    @property
    def charts(self) -> dict:
        """The JSON of the charts."""
        scripts = iter(self.scripts)
        for tag, attributes in self.tags:
            if tag == "script":
                text = next(scripts)
                if attributes.get("id") == "charts":
                    return json.loads(text)
        raise AssertionError("the page holds no charts")


def table(n_tasks: int, seed: int = 0, rows: int = 12, names: list[str] | None = None) -> GroupedTable:
    """A noisy table whose tasks differ; two features."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(rows - 4, rows + 5, n_tasks)
    groups = np.repeat(np.arange(n_tasks), counts)
    x = rng.normal(size=(len(groups), 2)) * (1.0, 30.0)
    weights = np.array([1.0, 0.02]) + rng.normal(size=(n_tasks, 2)) * (0.5, 0.01)
    y = (x * weights[groups]).sum(axis=1) + rng.normal(size=len(groups))
    if names is not None:
        groups = np.array(names)[groups]
    return GroupedTable.from_arrays(
        x, y, groups, feature_names=('<img src="http://evil/x.png">', "x1"), task='"task" & <i>', target="<u>y</u>"
    )


def fit(raw: GroupedTable, n_support: int = 3, folds: int = 3) -> dict:
    """All arguments of the report of a table, but its place."""
    data = raw.standardized(4.0, target=True)[0].with_intercept()
    estimator = ut.MAMLRegressorCV(n_support=n_support, cv=folds, n_rates=41, n_draws=2, clip=4.0)
    estimator.fit(raw.x, raw.y, groups=raw.groups)
    return {
        "name": "a <table>",
        "raw": raw,
        "estimator": estimator,
        "stability": stability_limit(data.draw(n_support)),
        "command": "undertow fit 'a <table>.csv' --task \"'t'\"",
        "settings": {"table": "a <table>.csv", "clip": 4.0, "features": ["<b>", "x"], "intercept": True, "task": None},
    }


@pytest.fixture(scope="session")
def arguments():
    """Arguments for a table whose task names are hostile."""
    names = [EVIL, "@blue", "a very long name " * 8, "Ω≠ünï\u2028", *(f"task {i}" for i in range(4, 30))]
    return fit(table(30, names=names))


@pytest.fixture(scope="session")
def written(arguments, tmp_path_factory):
    """Where the report was written."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_fit_report(path, **arguments)
    return path


@pytest.fixture(scope="session")
def page(written):
    """The page, read."""
    return Page(written.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def compared(arguments):
    """Arguments of the report of a comparison: five rivals, of which one was left out."""
    raw = arguments["raw"]
    m = raw.n_tasks
    rng = np.random.default_rng(1)
    hard = rng.gamma(2.0, 0.2, m)
    losses = hard[:, None] * np.array([1.6, 1.3, np.nan, 1.0, 0.98]) * rng.uniform(0.8, 1.2, (m, 5))
    comparison = Comparison(
        names=("alone", "step", "mixedlm", "signed", "default"),
        labels=("each alone", "no inner loop, then a step", "MixedLM", "signed rate", "default"),
        task_ids=raw.ids,
        task_rows=(raw.counts - 3).astype(float),
        task_losses=losses,
        fold_losses=np.full((3, 5), 0.5),
        fit_seconds=np.array([0.1, 0.2, np.nan, 0.3, 12.0]),
        adapt_seconds=np.array([0.01, 0.02, np.nan, 0.0, 0.2]),
        notes={
            "alone": "",
            "step": "",
            "mixedlm": f"it took <b>{EVIL}",
            "signed": "train rate positive",
            "default": "",
        },
        settings={
            "n_support": 3,
            "n_folds": 3,
            "n_draws": 2,
            "n_repeats": 1,
            "clip": 4.0,
            "seed": 0,
            "weighting": "tasks",
            "level": 0.95,
            "target_variance": float(np.var(raw.y)),
        },
    )
    same = {key: arguments[key] for key in ("name", "raw", "command", "settings")}
    return same | {"comparison": comparison, "standard": raw.standardized(4.0, target=True)[1]}


@pytest.fixture(scope="session")
def compare_written(compared, tmp_path_factory):
    """Where the report of the comparison was written."""
    path = tmp_path_factory.mktemp("compare") / "comparison.html"
    write_compare_report(path, **compared)
    return path


@pytest.fixture(scope="session")
def compare_page(compare_written):
    """The page, read."""
    return Page(compare_written.read_text(encoding="utf-8"))
