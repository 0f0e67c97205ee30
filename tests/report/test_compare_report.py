"""The report of ``undertow compare``: its parts, and its numbers against those of the record."""

import re
from dataclasses import replace

import numpy as np
import pytest

from undertow._check import InputError
from undertow.report import words, write_compare_report

from .conftest import EVIL, Page

SECTIONS = ("verdict", "ranking", "differences", "pairs", "run_time", "notes", "data", "methods", "again")
CHARTS = {"ranking", "differences", "pairs", "run_time", "rows"}


def test_the_page_is_whole_and_has_every_part(compare_page):
    page = compare_page
    assert page.unmatched == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(SECTIONS) <= set(ids)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {link[1:] for link in links} <= set(ids)
    assert set(page.charts["specs"]) == CHARTS
    assert {attributes["data-chart"] for _, attributes in page.tags if "data-chart" in attributes} == CHARTS
    assert not any(tag in ("link", "img", "iframe") or "src" in attributes for tag, attributes in page.tags)
    assert EVIL not in page.html
    assert len(page.scripts) == 4


def test_ranking_and_verdict_are_those_of_the_record(compare_page, compared):
    comparison = compared["comparison"]
    assert words.typeset(comparison.verdict) in compare_page.text
    rows = next(rows for caption, rows in compare_page.tables.items() if caption.startswith("Mean squared error"))
    order = comparison.ranking()
    assert [row[0] for row in rows[1:]] == [comparison.label(name) for name in order]
    for row, name in zip(rows[1:], order, strict=True):
        loss, error = comparison.mean_loss(name)
        std = compared["raw"].y.std()
        assert row[1:] == [
            words.loss(loss),
            words.number(error, 2),
            words.number(np.sqrt(loss) * std),
            words.fixed(1 - loss),
        ]


def test_differences_have_the_sign_and_the_interval_of_the_record(compare_page, compared):
    comparison = compared["comparison"]
    rows = next(rows for caption, rows in compare_page.tables.items() if caption.startswith("Gain of"))
    others = [name for name in comparison.ranking() if name != "default"]
    assert [row[0] for row in rows[1:]] == [comparison.label(name) for name in others]
    for row, name in zip(rows[1:], others, strict=True):
        gap, loss = comparison.difference("default", name), comparison.mean_loss(name)[0]
        expected = (-100 * gap.estimate / loss, -100 * gap.high / loss, -100 * gap.low / loss)
        assert row[1:4] == [words.percent(value) for value in expected]
        assert expected[1] <= expected[0] <= expected[2]
    assert {row[4] for row in rows[1:]} == {"better", "no significant difference"}
    worse = replace(comparison, task_losses=comparison.task_losses[:, ::-1])
    assert worse.difference("default", "alone").estimate > 0


def test_each_task_is_a_dot_with_its_own_losses(compare_page, compared):
    comparison = compared["comparison"]
    rival = next(name for name in comparison.ranking() if name != "default")
    values = compare_page.charts["specs"]["pairs"]["layer"][1]["data"]["values"]
    assert [row["task"] for row in values] == list(map(str, comparison.task_ids))
    np.testing.assert_allclose([row["first"] for row in values], comparison.losses("default"), rtol=1e-4)
    np.testing.assert_allclose([row["second"] for row in values], comparison.losses(rival), rtol=1e-4)
    np.testing.assert_array_equal([row["rows"] for row in values], compared["raw"].counts)
    better = int((comparison.losses("default") < comparison.losses(rival)).sum())
    assert f"lower error in {better}," in compare_page.charts["specs"]["pairs"]["description"]


def test_run_times_and_notes(compare_page, compared):
    comparison = compared["comparison"]
    rows = {row[0]: row[1:] for row in compare_page.tables["Run times in seconds"][1:]}
    assert set(rows) == {comparison.label(name) for name in comparison.measured}
    i = comparison.names.index("step")
    assert rows[comparison.labels[i]] == [
        words.number(v[i]) for v in (comparison.fit_seconds, comparison.adapt_seconds)
    ]
    notes = {row[0]: row[1] for row in compare_page.tables["What the fits said"][1:]}
    assert notes["MixedLM (mixedlm)"] == f"left out: it took <b>{EVIL}"
    assert notes["signed rate (signed)"] == "train rate positive"
    assert "1 of 5 ways to predict could not be measured" in re.sub(r"\s+", " ", compare_page.text)


@pytest.mark.parametrize(
    ("shift", "headline", "said"),
    [
        (-0.2, "default", "Worse: signed rate"),
        (0.2, "signed rate", "default is worse than signed rate"),
        (0.0, None, "significantly"),
    ],
)
def test_the_first_screen_follows_the_interval(compared, tmp_path, shift, headline, said):
    comparison = compared["comparison"]
    losses = comparison.task_losses.copy()
    losses[:, 4] = losses[:, 3] + shift + 1e-3 * np.tile([1, -1], 15)
    losses[:, :2] = 2.0
    path = tmp_path / "report.html"
    write_compare_report(path, **compared | {"comparison": replace(comparison, task_losses=losses)})
    page = Page(path.read_text())
    assert said in page.text
    assert headline is None or page.headings[1][1] == f"Least held-out error: {headline}"


def test_one_rival_alone_and_a_tiny_difference(compared, tmp_path):
    comparison = compared["comparison"]
    path = tmp_path / "report.html"
    only = replace(comparison, task_losses=np.where([False, False, False, False, True], comparison.task_losses, np.nan))
    write_compare_report(path, **compared | {"comparison": only})
    page = Page(path.read_text())
    assert "default is the only rival that was measured" in page.text
    assert set(page.charts["specs"]) == {"ranking", "run_time", "rows"}
    losses = comparison.task_losses.copy()
    losses[:, 4] = losses[:, 3] + 1e-5
    losses[:, :2] = 2.0
    write_compare_report(path, **compared | {"comparison": replace(comparison, task_losses=losses)})
    assert "default differs negligibly from signed rate" in Page(path.read_text()).text


def test_another_table_is_refused(compared, tmp_path):
    ids = np.arange(30)
    with pytest.raises(InputError, match="the comparison was made on other tasks"):
        write_compare_report(
            tmp_path / "a.html", **compared | {"comparison": replace(compared["comparison"], task_ids=ids)}
        )


def test_a_task_with_most_of_the_rows_is_named(compared, compare_page, tmp_path):
    assert "One task" not in compare_page.text
    comparison = compared["comparison"]
    rows = np.where(np.arange(30) == 7, 500.0, comparison.task_rows)
    large = replace(comparison, task_rows=rows)
    held = round(100 * 503 / (rows.sum() + 3 * 30))
    assert f"One task (shop {comparison.task_ids[7]}) has {held} % of the rows" in large.weight_note("shop")
    write_compare_report(tmp_path / "one.html", **compared | {"comparison": large})
    assert f"has {held}\u00a0% of the rows" in Page((tmp_path / "one.html").read_text()).text
