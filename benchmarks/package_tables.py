"""Grouped tables that come with statsmodels, some of them with its tests: nothing here was tuned on them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

# name: file below the package, task, target, features
_FILES = {
    "grunfeld": ("datasets/grunfeld/grunfeld.csv", "firm", "invest", ("value", "capital", "year")),
    "macrodata": ("datasets/macrodata/macrodata.csv", "year", "infl", ("unemp", "tbilrate")),
    "modechoice": ("datasets/modechoice/modechoice.csv", "individual", "choice", ("ttme", "invc", "invt", "gc")),
    "dietox": ("regression/tests/results/dietox.csv", "Pig", "Weight", ("Time", "Evit", "Cu")),
    "epil": ("genmod/tests/results/epil.csv", "subject", "y", ("trt", "base", "age", "period")),
    "autos": ("gam/tests/results/autos.csv", "make", "price", ("weight", "hp", "length", "eng_cc", "city_mpg")),
    "elnino": ("datasets/elnino/elnino.csv", "year", "temperature", ("month",)),
    "fertility": ("datasets/fertility/fertility.csv", "country", "births", ("year",)),
    "co2": ("datasets/co2/co2.csv", "year", "co2", ("day",)),
}


def package_tables() -> dict[str, pd.DataFrame]:
    """Return name -> frame with columns task, target and features; what the package lacks is left out."""
    import statsmodels

    found, folder = {}, Path(statsmodels.__file__).parent
    for name, (path, task, target, features) in _FILES.items():
        if not (folder / path).is_file():
            continue
        frame = _READ.get(name, pd.read_csv)(folder / path)
        frame = frame[[task, target, *features]].dropna().rename(columns={task: "task", target: "target"})
        text = [one for one in features if not pd.api.types.is_numeric_dtype(frame[one])]
        found[name] = pd.get_dummies(frame, columns=text, drop_first=True, dtype=float)
    return found


def _modechoice(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep=";")


def _elnino(path: Path) -> pd.DataFrame:
    wide = pd.read_csv(path)
    wide.columns = ["year", *range(1, 13)]
    return wide.melt("year", var_name="month", value_name="temperature").astype({"month": float})


def _fertility(path: Path) -> pd.DataFrame:
    wide = pd.read_csv(path).drop(columns=["Country Code", "Indicator Name", "Indicator Code"])
    long = wide.melt("Country Name", var_name="year", value_name="births")
    return long.rename(columns={"Country Name": "country"}).astype({"year": float})


def _co2(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    date = pd.to_datetime(frame["date"], format="%Y%m%d")
    return frame.assign(year=date.dt.year, day=date.dt.dayofyear.astype(float))


_READ = {"modechoice": _modechoice, "elnino": _elnino, "fertility": _fertility, "co2": _co2}
