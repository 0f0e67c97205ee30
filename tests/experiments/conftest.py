"""Figures are not drawn where a test does not look at them."""

from undrawn import drawn, undrawn

__all__ = ["drawn", "undrawn"]
