"""Figures of commands are saved without being drawn: drawing takes most of the time of a command on a small table.

Rooms whose tests call commands import both fixtures in their conftest; a test of what is drawn takes ``drawn``.
"""

from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib.figure import Figure

DRAW = Figure.savefig


def _written(figure, place, **options):
    Path(place).write_text(f"a figure of {len(figure.axes)} axes\n")


@contextmanager
def drawing():
    """Figures are drawn within this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", DRAW)
        yield


@pytest.fixture(autouse=True, scope="module")
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _written)
        yield


@pytest.fixture
def drawn():
    with drawing():
        yield
