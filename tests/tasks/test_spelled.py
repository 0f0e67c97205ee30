"""Numbers and dates as people spell them, against Python's own arithmetic."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.tasks import spelled


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8, unique=True),
    st.sampled_from([(".", ","), (".", " "), (".", "'"), (",", "."), (",", "\u00a0")]),
    st.booleans(),
)
def test_thousands_come_back_as_they_went_in(numbers, marks, percent):
    decimal, thousands = marks
    numbers = [*numbers, 1234567]
    texts = [
        f"{n:,}.25".replace(",", "#").replace(".", decimal).replace("#", thousands) + (" %" if percent else "")
        for n in numbers
    ]
    found = spelled.read_numbers(texts, decimal)
    expected = [n + 0.25 if n >= 0 else n - 0.25 for n in numbers]
    assert found is not None
    assert found.values == expected
    assert "thousands" in found.said
    assert ("percent" in found.said) == percent


@pytest.mark.parametrize(
    ("texts", "decimal", "values"),
    [
        (["1,000", "1,037", "12"], ".", [1000, 1037, 12]),
        # What a file with decimal commas means by the same text.
        (["1,000", "1,037", "12"], ",", [1, 1.037, 12]),
        (["1,5", "2,75"], ".", [1.5, 2.75]),
        (["1.250,5", "3"], ".", [1250.5, 3]),
        (["12%", "7 %", ""], ".", [12, 7, np.nan]),
        (["2", "?", "n.a.", "-", "NA"], ".", [2, np.nan, np.nan, np.nan, np.nan]),
        (["$1,200.5", "-$3", "$-4"], ".", [1200.5, -3, -4]),
        (["3,50 \u20ac", "\u22122 \u20ac"], ",", [3.5, -2]),
        (["\u22125", "5"], ".", [-5, 5]),
        (["(1.5)", "2", "( 3 )", "1,000-"], ".", [-1.5, 2, -3, -1000]),
        (["(1.200,5)", "7,25"], ",", [-1200.5, 7.25]),
        (["($5)", "$6", "$(1,000)", "(7 $)"], ".", [-5, 6, -1000, -7]),
        (["(5%)", "6%", "(7)%", "8 % -"], ".", [-5, 6, -7, -8]),
        (["1 000", "NA", "\u22121 000.5"], ".", [1000, np.nan, -1000.5]),
    ],
)
def test_what_texts_mean(texts, decimal, values):
    found = spelled.read_numbers(texts, decimal)
    np.testing.assert_array_equal(found.values, values)


@pytest.mark.parametrize(
    "texts",
    [
        ["1", "2.5"],
        ["12%", "7"],
        ["1,00,0"],
        ["1,000", "x"],
        ["", "NA"],
        ["1,000.5,0"],
        ["12,34.5"],
        ["%"],
        ["1 00"],
        ["?", "-"],
        ["$1", "2"],
        ["$1", "\u20ac2"],
        ["(-5)", "6"],
        ["5-6", "6"],
        ["(5) (6)", "6"],
    ],
)
def test_what_is_no_number_or_may_be_codes(texts):
    assert spelled.read_numbers(texts, ".") is None


@given(st.lists(st.dates(datetime.date(1900, 1, 1)), min_size=1, max_size=5, unique=True))
def test_dates_are_days_since_1970(days):
    expected = [(day - datetime.date(1970, 1, 1)).days for day in days]
    for pattern in ("%d.%m.%Y", "%Y-%m-%d", "%Y-%m-%d 00:00:00"):
        texts = [day.strftime(pattern).zfill(10) for day in days]
        if all(len(text) >= 10 for text in texts):
            found = spelled.read_dates(texts)
            assert found is not None
            assert found.values == expected


def test_day_and_month_are_told_apart_or_not_read():
    assert spelled.read_dates(["12/31/2020", "01/02/2020"]).values[1] == 18263.0
    assert spelled.read_dates(["31/12/2020", "01/02/2020"]).values[1] == 18293.0
    assert spelled.read_dates(["01/02/2020"]) is None
    assert spelled.read_dates(["31.02.2020"]) is None
    assert spelled.read_dates(["yesterday"]) is None
