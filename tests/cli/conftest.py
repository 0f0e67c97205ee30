"""Screens are read as a pipe gets them: xdist tells its workers a width, which a user's pipe has not."""

import os

os.environ.pop("COLUMNS", None)
