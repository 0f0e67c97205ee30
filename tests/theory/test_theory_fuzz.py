"""A small run of the fuzz of benchmarks/theory_fuzz.py; its full run is reported in docs/explanation/theory.md."""

from pathlib import Path

import pytest


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import theory_fuzz

    return theory_fuzz


@pytest.mark.long
def test_random_settings_have_no_faults(fuzz):
    numbers = range(100_000, 100_060)
    found = {number: fuzz.faults(fuzz.setting(number), slow=60.0) for number in numbers}
    assert {number: wrong for number, wrong in found.items() if wrong} == {}


def test_random_settings_agree_with_simulation(fuzz):
    compared = [fuzz.comparison(fuzz.setting(number), 400, number) for number in range(200_000, 200_010)]
    compared = [found for found in compared if found]
    assert len(compared) > 3
    assert max(found["excess_z"] for found in compared) < 4
