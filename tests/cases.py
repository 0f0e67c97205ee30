"""Small tables that each show one need of people's tables, where they are at hand."""

from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "shared" / "cases"


def case(name):
    """Path of a table; the test is skipped where it is not at hand."""
    path = CASES / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand: it does not come with the package")
    return path
