"""Screens are read as a pipe gets them, and figures are not drawn where a test does not look at them."""

import os

from undrawn import drawn, undrawn

__all__ = ["drawn", "undrawn"]

# xdist tells its workers a width, which a user's pipe has not.
os.environ.pop("COLUMNS", None)
