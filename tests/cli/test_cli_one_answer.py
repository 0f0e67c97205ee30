"""One question has one answer: screen, figure, report, summary.json and guide show the same numbers of a strategy."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from undertow.choice import Choice, words
from undertow.cli import app
from undertow.plots import RatePathDisplay, StrategyDisplay
from undertow.report import words as typeset

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "choosing.md"
pytest.importorskip("vl_convert")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """What the guide's command prints and writes, with the data of the figure that it draws."""
    folder, seen = tmp_path_factory.mktemp("one"), {}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)

        def kept(kind):
            plot = kind.plot

            def drawn(self, *given, **more):
                seen[kind] = self
                return plot(self, *given, **more)

            return drawn

        for kind in (StrategyDisplay, RatePathDisplay):
            patched.setattr(kind, "plot", kept(kind))
        done = CliRunner().invoke(app, ["fit", "mathachieve", "--report", "r.html"])
    assert done.exit_code == 0, done.output
    html = (folder / "r.html").read_text(encoding="utf-8")
    charts = json.loads(re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.S)[1])
    return {
        "screen": done.output,
        "strategies": seen[StrategyDisplay],
        "curve": seen[RatePathDisplay],
        "summary": json.loads((folder / "mathachieve-fit" / "summary.json").read_text()),
        "tables": pq.read_table(folder / "mathachieve-fit" / "strategies.parquet").to_pylist(),
        "held_out": pq.read_table(folder / "mathachieve-fit" / "held_out.parquet"),
        "charts": charts["specs"],
        "html": re.sub(r"<[^>]+>", "|", html[html.index("<caption>Strategies on") :]),
        "page": re.search(r"```text\n(mathachieve: .*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1],
    }


def rows_of(text):
    """(MSE, standard error, gain, low, high) of each strategy of a printed table; no gain of the one it is over."""
    found = {}
    for line in text.splitlines():
        for name, strategy in words.STRATEGIES.items():
            if re.match(re.escape(strategy.short) + r"( \*)? {2}", line):
                rest = line[len(strategy.short) :].replace("*", " ").replace("%", " ").replace(" to ", " ")
                numbers = [float(x) for x in rest.split()[:5]]
                found[name] = numbers
    return found


def test_each_strategy_has_the_same_numbers_in_all_five_places(answered):
    choice = Choice.from_dict(answered["summary"]["choice"])
    screen, page = rows_of(answered["screen"]), rows_of(answered["page"])
    display = answered["strategies"]
    of_chart = {row["label"]: row for row in _values(answered["charts"]["strategies"])}
    assert list(screen) == display.names
    # Two strategies whose errors are next to equal may stand in either order on another processor.
    assert set(page) == set(screen)
    assert set(screen) == set(choice.candidates) == {row["strategy"] for row in answered["tables"]}
    for place, (name, one) in enumerate((name, choice.candidates[name]) for name in display.names):
        gain = [one.gain.percent, one.gain.low, one.gain.high]
        none = one.gain.standard_error == 0
        true = [one.mse, one.mse_at_zero] + ([] if none else gain)
        assert screen[name][: len(true)] == pytest.approx(true, abs=0.0051)
        assert screen[name][:2] == pytest.approx(true[:2], abs=5.1e-5)
        # Another processor may round the last digit of the printed block in another way.
        assert page[name][:2] == pytest.approx(true[:2], abs=2e-4)
        assert page[name][2 : len(true)] == pytest.approx(true[2:], abs=0.02)
        assert (display.mse[place], display.gains[place]) == (one.mse, one.gain)
        used = " (used)" if name == choice.strategy else ""
        cells = [words.short(name) + used, *map(words.share, (one.mse, one.standard_error, one.mse_at_zero))]
        if not none:
            cells += [typeset.percent(one.gain.percent), typeset.between(one.gain.low, one.gain.high)]
        assert "||".join(cells) in answered["html"]
        if name != choice.strategy:
            assert of_chart[words.short(name)]["value"] == pytest.approx(choice.best_gains[name].percent, rel=1e-4)


def test_a_strategy_has_one_error_wherever_it_is_named(answered):
    choice = Choice.from_dict(answered["summary"]["choice"])
    held_out, text = answered["held_out"], " ".join(answered["screen"].split())
    weight = np.array(held_out["weight"])
    for name, one in choice.candidates.items():
        assert np.average(held_out[f"mse_over_variance_{name}"], weights=weight) == pytest.approx(one.mse)
        if name == choice.strategy or name == "joint":
            continue
        # A gain over a rival is the difference of the two errors, and of no others.
        mse = choice.mse
        assert choice.best_gains[name].percent == pytest.approx(100 * (one.mse - mse) / one.mse, abs=1e-9)
        assert one.gain.percent == pytest.approx(100 * (1 - one.mse / choice.mse_at_zero), abs=1e-9)
    for name, one in choice.gains.items():
        rival, ours = choice.candidates[name].mse, choice.candidates["signed"].mse
        assert one.percent == pytest.approx(100 * (rival - ours) / rival, abs=1e-9)
    used = choice.candidates[choice.strategy]
    assert f"MSE {words.share(used.mse)} of the target's variance" in text
    assert f"{words.share(choice.mse_at_zero)} without rows of the task" in text
    assert answered["summary"]["recommendation"] in text
    assert answered["summary"]["verdict"] in text


def test_the_curve_the_interval_and_the_best_rate_are_those_of_the_choice(answered):
    choice, display = Choice.from_dict(answered["summary"]["choice"]), answered["curve"]
    curve, interval = choice.curve, choice.interval
    np.testing.assert_array_equal(display.mse[:-1], curve.mse)
    np.testing.assert_array_equal(display.errors[:-1], curve.standard_errors)
    assert display.interval == interval
    assert display.marks["best train rate"] == choice.signed["train_rate"]
    drawn = _values(answered["charts"]["circle"])
    np.testing.assert_allclose([row["loss"] for row in drawn[:-1]], curve.mse, rtol=1e-4)
    assert [row["rate"] for row in drawn[:-1]] == [typeset.rate(rate / choice.scale) for rate in curve.train_rates]
    assert "inf" in drawn[0]["rate"]
    screen = " ".join(answered["screen"].split())
    [line] = [one for one in answered["screen"].splitlines() if one.startswith(words.short("signed"))]
    assert words.rate(choice.signed["train_rate_spectral"]) in line.split()
    if choice.verdict.value != "negligible":
        assert words.rates_between(interval) in screen


def test_the_screen_is_short(answered):
    lines = answered["screen"].splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 110
    assert len(answered["page"].splitlines()) <= 24


def _values(spec):
    return max((layer["data"]["values"] for layer in spec["layer"]), key=len)
