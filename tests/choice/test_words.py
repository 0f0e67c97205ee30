"""Choices in words: numbers in one format, and sentences that follow the figures."""

from dataclasses import replace

import numpy as np
import pytest

import undertow as ut
from undertow.choice import STRATEGIES, Gain, Verdict, words


@pytest.fixture(scope="module")
def choice():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 9)
    x = rng.standard_normal((108, 2))
    y = (x * (1 + rng.standard_normal((12, 2)))[groups]).sum(axis=1) + 0.3 * rng.standard_normal(108)
    return ut.MAMLRegressorCV(4, 3, n_draws=1, n_rates=9).fit(x, y, groups=groups).choice_


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0421, "+0.04 %"),
        (-9.996, "-10 %"),
        (9.94, "+9.94 %"),
        (134.4, "+134 %"),
        (0.0, "+0.00 %"),
        (-0.001, "+0.00 %"),
    ],
)
def test_percentages(value, text):
    assert words.percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(np.inf, "inf"), (-np.inf, "inf"), (0.0, "0"), (-0.0123, "-0.0123")])
def test_rates(value, text):
    assert words.rate(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.78926, "0.7893"), (0.0012, "0.0012"), (3.21e-7, "3.21e-07")])
def test_errors(value, text):
    assert words.share(value) == text


def test_rows_hold_every_candidate_the_least_error_first(choice):
    rows = words.rows(choice)
    assert [row.name for row in rows] == sorted(choice.candidates, key=lambda name: choice.candidates[name].mse)
    parts = {row.name: row.part for row in rows if row.part}
    assert parts == (
        {name: f"{100 * share:.0f} %" for name, share in choice.settings.items()} if choice.strategy == "blend" else {}
    )
    for row in rows:
        assert row.strategy == STRATEGIES[row.name].short
        settings = choice.candidates[row.name].settings
        if STRATEGIES[row.name].rule == "gradient":
            assert float(row.adapt) == pytest.approx(settings["adapt_rate_spectral"], rel=5e-3)
        elif STRATEGIES[row.name].rule == "proximal":
            assert float(row.adapt.removeprefix("ratio ")) == pytest.approx(settings["adapt_ratio"], rel=5e-3)
        else:
            assert row.train == row.adapt == ""


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(1.0, 2.0, "is better than"), (-2.0, -1.0, "is worse than"), (-1.0, 2.0, "does not differ significantly from")],
)
def test_comparisons_follow_the_interval(choice, low, high, said):
    assert words.compared(low, high) == said
    gain = Gain((low + high) / 2, low, high, 0.5)
    used = {choice.strategy: replace(choice.candidates[choice.strategy], gain=gain)}
    changed = replace(choice, best_gains=choice.best_gains | {"signed": gain}, candidates=choice.candidates | used)
    assert said in words.against_signed(changed)
    assert ("not significant" in words.recommendation(changed)) == (low <= 0 <= high)
    assert words.percent(gain.percent) in words.recommendation(changed)


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_gives_the_gain_with_its_interval(choice, verdict):
    said = words.verdict_sentence(replace(choice, verdict=verdict))
    gain = choice.gains["step"]
    assert words.percent(gain.percent) in said
    assert words.interval_of(gain, choice.interval.level) in said
    assert (verdict.value in said) == (verdict is not Verdict.NEGLIGIBLE)


def test_the_simplest_of_what_cannot_be_separated_is_named(choice):
    assert choice.strategy not in choice.best_gains
    apart = {name: Gain(5.0, 2.0, 8.0, 1.5) for name in choice.best_gains}
    assert words.simplest(replace(choice, best_gains=apart)) == ""
    near = Gain(1.0, -1.0, 3.0, 1.0)
    some = words.simplest(replace(choice, best_gains=apart | {"signed": near, "pooled_ridge": near}))
    assert words.short("pooled_ridge") in some
    assert words.short("signed") not in some
    every = words.simplest(replace(choice, best_gains=dict.fromkeys(apart, near)))
    assert words.short("joint") in every
    assert f"any of the {len(apart)} others" in every


def test_nothing_is_called_simpler_than_what_is_used_if_it_is_not(choice):
    near = Gain(0.0, -1.0, 1.0, 0.5)
    one = choice.candidates["mixed_intercept"]
    candidates = choice.candidates | {"blend": replace(one, settings={"mixed_intercept": 1.0})}
    used = replace(choice, strategy="mixed_intercept", candidates=candidates)
    assert words.simplest(replace(used, best_gains={"blend": near})) == ""  # it is the same
    said = words.simplest(replace(used, best_gains={"blend": near, "mixed_full": near}))
    assert "of the 1 others" in said
    assert words.short("mixed_full") not in said


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(11340.4, 4, "11,340"), (999.96, 3, "1,000"), (-999.4, 3, "-999"), (9999.96, 4, "10,000"), (0.01234, 3, "0.0123")],
)
def test_numbers_are_written_in_full(value, digits, text):
    assert words.number(value, digits) == text
