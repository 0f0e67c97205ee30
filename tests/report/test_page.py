"""Writing a page: whole or not at all; words, ticks, and what is said where a package is missing."""

import json
import os
import sys
from pathlib import Path

import pytest

from undertow._check import InputError
from undertow.report import page as pages
from undertow.report import require, words, write_fit_report
from undertow.report.charts import ticks


def test_a_file_is_replaced_as_a_whole(arguments, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(pages, "render", lambda *_, **__: "after")
    seen = []
    replace = os.replace

    def watched(a, b):
        seen.append((path.read_text(), Path(a).read_text()))
        replace(a, b)

    monkeypatch.setattr(os, "replace", watched)
    write_fit_report(path, **arguments)
    assert seen == [("before", "after")]
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["report.html"]


def test_what_was_there_stays_where_writing_fails(arguments, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(pages, "render", lambda *_, **__: "after")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_fit_report(path, **arguments)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_place_that_cannot_be_is_refused(arguments, tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        write_fit_report(tmp_path, **arguments)
    with pytest.raises(InputError, match="there is no directory"):
        write_fit_report(tmp_path / "not" / "there.html", **arguments)


@pytest.mark.parametrize("module", ["jinja2", "vl_convert"])
def test_a_missing_package_is_named_with_the_way_out(arguments, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'pip install "undertow\[report\]"'):
        require()
    with pytest.raises(InputError, match=r"missing: a report needs"):
        write_fit_report(tmp_path / "report.html", **arguments)
    assert os.listdir(tmp_path) == []


def test_json_within_a_script_cannot_end_it():
    value = {"a": "</script><!-- & \u2028", "b": [1.5, None]}
    text = pages.safe_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        pages.safe_json(float("nan"))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (-0.0, 3, "0"),
        (1234567.0, 3, "1,234,567"),
        (-1.5, 2, "−1.5"),
        (12.0, 3, "12"),
        (0.0123456, 3, "0.0123"),
        (float("inf"), 3, "∞"),
        (float("-inf"), 3, "−∞"),
        (float("nan"), 3, "not a number"),
        (3e-9, 2, "3.0e−09"),
        (2e20, 2, "2.0e+20"),
    ],
)
def test_numbers(value, digits, text):
    assert words.number(value, digits) == text


def test_signs_shares_and_rates():
    assert words.signed(0.5) == "+0.50"
    assert words.signed(-0.5) == "−0.50"
    assert words.signed(0.0) == "0"
    assert words.rate(float("-inf")) == words.rate(float("inf")) == "inf"
    assert words.rate(-0.006) == "−0.006"
    assert words.share(0.0) == "0\u00a0%"
    assert words.share(0.002) == "less than 1\u00a0%"
    assert words.share(0.998) == "more than 99\u00a0%"
    assert words.share(1.0) == "100\u00a0%"
    assert words.data([1 / 3, float("inf"), [2]]) == [0.33333, None, [2.0]]


def test_ticks_lie_within_the_axis_and_are_few():
    assert ticks.logarithmic(0.09, 11) == [0.1, 0.2, 0.5, 1, 2, 5, 10]
    assert ticks.logarithmic(1e-7, 1e7, 8) == [1e-7, 1e-5, 1e-3, 0.1, 10, 1e3, 1e5, 1e7]
    assert ticks.logarithmic(3.1, 3.3) == [3.2]
    assert ticks.around_zero(-0.3, 20.0, 0.1) == [-0.1, 0.0, 0.1, 1.0, 10.0]
    assert ticks.around_zero(0.0, 0.5, 1.0) == [0.0, 0.5]


def test_charts_are_valid_vega_lite(page, compare_page):
    altair = pytest.importorskip("altair")
    from jsonschema.exceptions import ValidationError

    for one in (page, compare_page):
        for name, spec in one.charts["specs"].items():
            kind = altair.LayerChart if "layer" in spec else altair.Chart
            kind.from_dict(spec)
            assert spec["description"], name
        broken = json.loads(json.dumps(spec).replace('"quantitative"', '"quantity"'))
        with pytest.raises(ValidationError, match="quantity"):
            kind.from_dict(broken)
        for config in one.charts["configs"].values():
            altair.Config.from_dict(config)
