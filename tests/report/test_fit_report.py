"""The report of ``undertow fit``: its parts, its numbers, and what it does with hostile names."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import undertow as ut
from undertow._check import InputError
from undertow.choice import words as said
from undertow.choice.record import Prediction
from undertow.report import theme, words, write_fit_report
from undertow.report.charts.circle_axis import arcs

from .conftest import EVIL, Page, fit, table

SECTIONS = ("verdict", "columns", "rates", "sign", "strategies", "tasks", "stability", "data", "methods", "again")
CHARTS = {"circle", "surface", "folds", "strategies", "gains", "stability", "rows"}


def test_the_page_is_whole_and_has_every_part(page):
    assert page.unmatched == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(SECTIONS) <= set(ids)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {link[1:] for link in links} <= set(ids)
    levels = [level for level, _ in page.headings]
    assert levels[:2] == [1, 2]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert set(page.charts["specs"]) == CHARTS
    drawn = {attributes["data-chart"] for _, attributes in page.tags if "data-chart" in attributes}
    assert drawn == CHARTS
    assert all(caption for caption in page.tables)


def test_nothing_is_asked_of_the_network(page):
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "action", "data", "srcset", "xlink:href", "poster"):
            assert not re.match(r"(https?:)?//", attributes.get(key, "")), (tag, attributes)
        assert "url(" not in attributes.get("style", "")
    styles = "".join(re.findall(r"<style>(.*?)</style>", page.html, re.S))
    assert not re.search(r"url\(|@import|@font-face", styles)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    specs = json.dumps(page.charts["specs"])
    assert '"url"' not in specs


def test_names_of_the_user_are_text_and_nothing_else(page, arguments):
    assert not any(attributes.get("id") == "evil" for _, attributes in page.tags)
    assert not any(tag in ("b", "u", "i", "img") for tag, _ in page.tags)
    assert EVIL not in page.html
    assert EVIL in page.text
    assert "<u>y</u>" in page.text
    named = {row["task"] for row in _values(page, "gains")}
    assert {EVIL, "@blue", "Ω≠ünï\u2028"} <= named
    # One script for the errors, one each for charts, Vega and the page: no name has ended one.
    assert len(page.scripts) == 4
    assert arguments["command"] in page.text


def _values(page, chart):
    return max((layer["data"]["values"] for layer in page.charts["specs"][chart]["layer"]), key=len)


def _column(page, caption, name):
    rows = next(rows for key, rows in page.tables.items() if key.startswith(caption))
    return [row[rows[0].index(name)] for row in rows[1:]]


def test_the_first_screen_says_what_the_choice_says(page, arguments):
    choice = arguments["estimator"].choice_
    assert page.headings[1][1] == said.recommended(choice)
    step = choice.gains["step"]
    for text in (
        words.typeset(said.verdict_sentence(choice)),
        words.typeset(said.against_signed(choice)),
        words.percent(step.percent),
        words.between(step.low, step.high),
        words.rate(choice.signed["train_rate_spectral"]),
        words.interval(choice.interval),
        words.share(choice.interval.sign_probability),
        words.strategy(choice.strategy),
        "30 tasks",
    ):
        assert text in page.text
    assert words.typeset(said.held_out_error(choice))[1:] in page.text


def test_the_curve_is_that_of_the_choice(page, arguments):
    choice = arguments["estimator"].choice_
    values = page.charts["specs"]["circle"]["layer"][1]["data"]["values"]
    # Infinity is both ends of the axis.
    assert len(values) == len(choice.curve.mse) + 1
    np.testing.assert_allclose([row["loss"] for row in values], [*choice.curve.mse, choice.curve.mse[0]], rtol=1e-4)
    assert (values[0]["phi"], values[-1]["phi"]) == pytest.approx((-np.pi / 2, np.pi / 2), abs=1e-4)
    zero = next(row for row in values if row["phi"] == 0)
    assert zero["low"] == zero["high"] == zero["loss"]
    width = values[0]["high"] - values[0]["loss"]
    assert width == pytest.approx(2 * choice.curve.standard_errors[0], rel=2e-3)
    # It is that of the map, at the same ridge.
    surface = arguments["estimator"].cv_surface_
    loss = surface.best_loss[:, list(surface.ridges).index(choice.signed["ridge"])]
    place = [int(np.flatnonzero(np.isclose(surface.train_rates, rate))[0]) for rate in choice.curve.train_rates[1:]]
    np.testing.assert_allclose(choice.curve.mse[1:], 2 * loss[place], rtol=1e-9)


def test_every_cell_of_the_map_is_an_exact_loss(page, arguments):
    surface = arguments["estimator"].cv_surface_
    best = surface.best()
    cells = page.charts["specs"]["surface"]["layer"][0]
    steps = {step["as"]: step["calculate"] for step in cells["transform"] if "calculate" in step}
    adapt = np.array(json.loads(steps["adapt"].removesuffix("[datum.j]")))
    names = json.loads(steps["rate"].removesuffix("[datum.i]"))
    values = np.array(cells["data"]["values"]).reshape(len(names), len(adapt))
    assert max(values.shape) <= 60
    assert names[0] == names[-1] == "inf"
    ridge = list(surface.ridges).index(best.ridge)
    ours = 2 * surface.loss(adapt * surface.scale)[:, ridge]
    place = [i for i, rate in enumerate(surface.train_rates) if words.rate(rate / surface.scale) in names]
    assert len(place) == len(names)
    np.testing.assert_allclose(values, ours[place], rtol=2e-3)
    assert 0.0 in adapt


def test_gains_of_tasks_are_those_of_the_records(page, arguments):
    estimator, raw = arguments["estimator"], arguments["raw"]
    held_out, strategy = estimator.held_out_, estimator.choice_.strategy
    gains = dict(zip(map(str, held_out.task_ids), held_out.gains(strategy), strict=True))
    counts = dict(zip(map(str, raw.ids), raw.counts, strict=True))
    spec = page.charts["specs"]["gains"]
    values = _values(page, "gains")
    assert {row["task"] for row in values} == set(gains)
    for row in values:
        assert row["gain"] == pytest.approx(gains[row["task"]], rel=1e-4)
        assert row["before"] - row["after"] == pytest.approx(row["gain"], abs=1e-4)
        assert row["rows"] == counts[row["task"]]
    assert [row["gain"] for row in values] == sorted((row["gain"] for row in values), reverse=True)
    better = sum(gain > 0 for gain in gains.values())
    assert f"{better} gain, {len(gains) - better} do not" in spec["description"]
    assert f"{better} of 30 held-out tasks" in re.sub(r"\s+", " ", page.text)


def test_strategies_are_those_of_the_choice_in_order_of_error(page, arguments):
    choice = arguments["estimator"].choice_
    order = sorted(choice.candidates, key=lambda name: choice.candidates[name].mse)
    caption, used = "Strategies on held-out tasks", choice.strategy
    assert _column(page, caption, "strategy") == [words.strategy(n) + (" (used)" if n == used else "") for n in order]
    assert _column(page, caption, "MSE / variance") == [words.loss(choice.candidates[name].mse) for name in order]
    gains = [choice.candidates[name].gain for name in order]
    shown = _column(page, caption, "gain")
    assert shown == ["" if g.standard_error == 0 else words.percent(g.percent) for g in gains]
    values = {row["label"]: row for row in _values(page, "strategies")}
    for name, gain in choice.best_gains.items():
        assert values[words.strategy(name)]["value"] == pytest.approx(gain.percent, rel=1e-4)
    picks = [one["rate"] for one in _values(page, "folds")]
    assert picks == [words.rate(one["train_rate_spectral"]) for one in choice.candidates["signed"].of_folds]


def test_stability_counts_and_values(page, arguments):
    estimator = arguments["estimator"]
    limits, scale = arguments["stability"], estimator.cv_surface_.scale
    values = _values(page, "stability")
    np.testing.assert_allclose([row["limit"] for row in values], np.sort(limits / scale), rtol=1e-4)
    ids = dict(zip(map(str, arguments["raw"].ids), limits / scale, strict=True))
    assert all(row["limit"] == pytest.approx(ids[row["task"]], rel=1e-4) for row in values)
    assert values[-1]["level"] == 100
    rate = estimator.choice_.signed["adapt_rate_spectral"]
    assert rate > 0
    stable = int((limits / scale > rate).sum())
    assert f"is stable for {stable} of 30 tasks" in re.sub(r"\s+", " ", page.text)


def test_rows_of_tasks_add_up(page, arguments):
    values = page.charts["specs"]["rows"]["data"]["values"]
    assert sum(row["tasks"] for row in values) == 30
    assert values[0]["first"] == arguments["raw"].counts.min() - 0.5
    for row in values:
        inside = (arguments["raw"].counts > row["first"]) & (arguments["raw"].counts < row["last"])
        assert inside.sum() == row["tasks"]


def test_data_settings_and_versions(page, arguments):
    raw, standard = arguments["raw"], arguments["estimator"].model_.standard
    data = {row[0]: row[1] for row in page.tables["The data"][1:]}
    assert data["rows"] == f"{raw.n_rows:,}"
    assert data["target, mean"] == words.number(raw.y.mean(), 4)
    assert data["feature values clipped"].startswith(f"{standard.clipped(raw.x).sum()} at 4 standard deviations")
    settings = {row[0]: row[1] for row in page.tables["Settings"][1:]}
    assert settings == {
        "table": "a <table>.csv",
        "clip": "4",
        "features": "<b>, x",
        "intercept": "yes",
        "task": "none",
    }
    versions = {row[0]: row[1] for row in page.tables["Versions"][1:]}
    assert versions["numpy"] == np.__version__


def test_the_same_records_give_the_same_file(written, arguments, tmp_path):
    write_fit_report(tmp_path / "again.html", **arguments)
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()
    assert written.stat().st_size < 1_600_000


def test_the_interval_is_one_stretch_or_two(arguments):
    interval = arguments["estimator"].choice_.interval
    inside = replace(interval, low_spectral=-1.0, high_spectral=0.5, whole_circle=False)
    through = replace(interval, low_spectral=2.0, high_spectral=-3.0, whole_circle=False)
    whole = replace(interval, low_spectral=-np.inf, high_spectral=np.inf, whole_circle=True)
    assert len(arcs(inside)) == len(arcs(whole)) == 1
    first, second = arcs(through)
    assert first["from"] == -second["to"] == -round(np.pi / 2, 6)
    assert np.tan(first["to"]) == pytest.approx(-3.0, rel=1e-4)
    assert np.tan(second["from"]) == pytest.approx(2.0, rel=1e-4)
    assert arcs(whole) == [{"from": -round(np.pi / 2, 6), "to": round(np.pi / 2, 6)}]
    assert words.interval(through) == "+2 to −3 through infinity"


def test_records_that_do_not_belong_together_are_refused(arguments, tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(InputError, match=r"other tasks than the table's"):
        write_fit_report(path, **arguments | {"raw": table(30)})
    with pytest.raises(InputError, match=r"stability has shape \(3,\): it must be \(30,\)"):
        write_fit_report(path, **arguments | {"stability": np.ones(3)})
    lone = type(arguments["estimator"])()
    with pytest.raises(InputError, match="holds no search"):
        write_fit_report(path, **arguments | {"estimator": lone})
    assert list(tmp_path.iterdir()) == []


def test_stability_may_be_left_out_or_hold_tasks_of_zeros(arguments, tmp_path):
    path = tmp_path / "report.html"
    write_fit_report(path, **arguments | {"stability": None})
    page = Page(path.read_text())
    assert "stability" not in page.charts["specs"]
    assert "Stable rates" not in page.text
    limits = arguments["stability"].copy()
    limits[:2] = np.inf
    write_fit_report(path, **arguments | {"stability": limits})
    page = Page(path.read_text())
    assert len(_values(page, "stability")) == 28
    assert "2 tasks have support rows of zeros only" in page.text


def test_six_tasks_of_equal_length(tmp_path):
    raw = table(6, names=[f"town {'x' * 60} {i}" for i in range(6)])
    short = np.concatenate([np.arange(a, a + 7) for a in raw.offsets[:-1]])
    raw = type(raw).from_arrays(raw.x[short], raw.y[short], raw.groups[short])
    write_fit_report(tmp_path / "six.html", **fit(raw, folds=3))
    page = Page((tmp_path / "six.html").read_text())
    assert "rows" not in page.charts["specs"]
    assert "7 in each" in page.text
    assert len(_values(page, "gains")) == 6


def test_a_task_with_most_of_the_rows_is_named(tmp_path):
    rng, counts = np.random.default_rng(5), np.array([60, *[8] * 11])
    groups, x = np.repeat(np.arange(12), counts), rng.normal(size=(148, 2))
    y = x[:, 0] + rng.normal(size=12)[groups] + rng.normal(size=148)
    raw = ut.tasks.GroupedTable.from_arrays(x, y, groups, task="shop", target="sold")
    write_fit_report(tmp_path / "one.html", **fit(raw))
    assert "One task (shop 0) has 41\u00a0% of the rows" in Page((tmp_path / "one.html").read_text()).text


def test_colours_can_be_read_in_both_schemes():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    def contrast(a, b):
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    for scheme in theme.SCHEMES:
        page = theme.PAGE[scheme]
        for background in ("page", "panel"):
            for text in ("ink", "quiet", "link"):
                assert contrast(page[text], page[background]) >= 4.5, (scheme, text, background)
        for name, colour in theme.MARKS[scheme].items():
            assert contrast(colour, page["page"]) >= 3, (scheme, name)


def test_theory_and_blend_are_named_where_they_are(arguments, tmp_path):
    estimator, path = arguments["estimator"], tmp_path / "report.html"
    choice, interval = estimator.choice_, estimator.choice_.interval
    best = interval.low_spectral if np.isfinite(interval.low_spectral) else 0.5
    predicted = Prediction(0.5, 1.5, float("-inf"), 0.25, "equivalent", "As <i>assumed</i>")
    nothing = Prediction(None, None, None, None, "", "not computed: too few")
    wide = {"low_spectral": -np.inf, "high_spectral": np.inf}
    whole = replace(interval, **wide, whole_circle=True, contains_infinity=True)
    near = {"low_spectral": best - 0.4, "high_spectral": best + 0.4}
    tight = replace(interval, **near, whole_circle=False, contains_infinity=False)

    def written(**changes):
        estimator.choice_ = replace(choice, **changes)
        try:
            write_fit_report(path, **arguments)
        finally:
            estimator.choice_ = choice
        return Page(path.read_text(encoding="utf-8"))

    page, signed = written(prediction=predicted, interval=whole), choice.signed
    caption = "Best rates by theory and by cross-validation"
    assert page.tables[caption][1] == ["train rate (spectral)", "inf", words.rate(signed["train_rate_spectral"])]
    assert page.tables[caption][2] == ["adapt rate (spectral)", "+0.25", words.rate(signed["adapt_rate_spectral"])]
    assert "too much to say whether this table behaves like that model" in " ".join(page.text.split())
    inside = written(prediction=replace(predicted, train_rate_spectral=best), interval=tight).text
    assert "lies within the interval" in inside
    assert "too much to say" not in inside
    assert "As <i>assumed</i>" in page.text
    rules = [one for one in page.charts["specs"]["circle"]["layer"] if one["mark"].get("style") == "purple"]
    assert [one["data"]["values"] for one in rules] == [[{"phi": round(-np.pi / 2, 4)}]]
    assert "lies outside of the interval" in written(prediction=predicted, interval=tight).text
    page = written(prediction=nothing)
    assert caption not in page.tables
    assert "Theory says nothing here: not computed: too few" in page.text
    blend = choice.candidates["blend"]
    shares = {"mixed_isotropic": 0.75, "signed": 0.25}
    changed = choice.candidates | {"blend": replace(blend, settings=shares)}
    gains = choice.best_gains | {"joint": blend.gain}
    page = written(strategy="blend", candidates=changed, best_gains=gains)
    assert f"75\u00a0% {words.strategy('mixed_isotropic')}; 25\u00a0% {words.strategy('signed')}." in page.text
    of = dict(
        zip(_column(page, "Strategies on", "strategy"), _column(page, "Strategies on", "in the blend"), strict=True)
    )
    assert of[words.strategy("signed")] == "25\u00a0%"
    assert of[words.strategy("joint")] == ""


def test_columns_tasks_and_what_was_done_are_in_the_page(page, arguments):
    found = arguments["estimator"].summary()
    shown = next(rows for caption, rows in page.tables.items() if caption.startswith("Coefficients"))
    assert [row[0] for row in shown[1:]] == [one.name for one in (found.coefficients[-1], *found.coefficients[:-1])]
    assert [float(row[1].replace("−", "-")) for row in shown[2:]] == pytest.approx(
        [one.value for one in found.coefficients[:-1]], rel=1e-3
    )
    assert all(words.typeset(sentence) in page.text for sentence in found.sentences)


def test_methods_are_those_of_the_fit(tmp_path, arguments):
    raw = replace(arguments["raw"], notes=("9 rows left out",))
    texts = {}
    for weighting, support in (("tasks", "random"), ("rows", "random"), ("tasks", "first")):
        model = ut.MAMLRegressorCV(3, 3, n_draws=1, n_rates=11, rules="proximal", weighting=weighting, support=support)
        model.fit(raw.x, raw.y, groups=raw.groups)
        write_fit_report(tmp_path / "one.html", **arguments | {"raw": raw, "estimator": model})
        texts[weighting, support] = Page((tmp_path / "one.html").read_text(encoding="utf-8")).text
    counted = {key: "Every task counts once" in text for key, text in texts.items()}
    random = {key: "random rows" in text for key, text in texts.items()}
    assert list(counted.values()) == [True, False, True]
    assert list(random.values()) == [True, True, False]
    assert all("9 rows left out" in text for text in texts.values())
