"""Four small grouped data sets that come with the package: pupils, homes, countries, patients."""

from undertow.datasets.grouped_data import (
    GroupedData,
    load,
    load_gapminder,
    load_mathachieve,
    load_parkinsons,
    load_radon,
    names,
)

__all__ = [
    "GroupedData",
    "load",
    "load_gapminder",
    "load_mathachieve",
    "load_parkinsons",
    "load_radon",
    "names",
]
