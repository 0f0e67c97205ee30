"""Every public name says what it takes: numpydoc sections whose parameters are those of the signature."""

import dataclasses
import enum
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from test_house import ROOMS

docscrape = pytest.importorskip("numpydoc.docscrape", reason="needs the extra docs")


def public():
    """(name, value) of each function and class of the rooms' ``__all__``, and of each public method of these."""
    found = {}
    for room in ROOMS:
        for name in import_module(room).__all__:
            value = getattr(import_module(room), name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found.setdefault(value, f"{room}.{name}")
    for value, name in list(found.items()):
        for member, item in vars(value).items() if inspect.isclass(value) else ():
            function = item if inspect.isfunction(item) else getattr(item, "__func__", None)
            if function is not None and not member.startswith("_"):
                found.setdefault(function, f"{name}.{member}")
    return {name: value for value, name in found.items()}


PUBLIC = public()


def sections(value):
    return docscrape.NumpyDocString(inspect.cleandoc(value.__doc__))


def documented(value):
    names = [name.strip() for entry in sections(value)["Parameters"] for name in entry.name.split(",")]
    return [name.lstrip("*") for name in names]


def parameters(value):
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_are_those_of_the_signature(name):
    value = PUBLIC[name]
    if inspect.isclass(value) and issubclass(value, enum.Enum | Warning):
        return
    own, listed = parameters(value), documented(value)
    assert len(set(listed)) == len(listed)
    assert set(listed) <= set(own), "documented, but not taken"


def is_record(kind):
    return dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or issubclass(kind, enum.Enum | Exception)


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if "." not in v.__qualname__ and not (inspect.isclass(v) and is_record(v))]
)
def test_functions_and_estimators_list_every_parameter(name):
    value = PUBLIC[name]
    left = [one for one in parameters(value) if one not in documented(value)]
    assert not left or (len(parameters(value)) == 1 and f"``{left[0]}``" in value.__doc__), "not documented"


# What the estimators are made of, and called by: their examples are those of the estimators.
PARTS = {
    "undertow.estimators.MetaEstimator",
    *(f"undertow.choice.{name}" for name in ("Searched", "Settings", "search")),
}


SAYS_SO = re.compile(r"\b(return|yield)s?\b|^Whether\b", re.IGNORECASE)


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if inspect.isfunction(v)])
def test_what_is_returned_is_said(name):
    """In a section, or in the summary line."""
    value = PUBLIC[name]
    found = sections(value)
    if inspect.signature(value).return_annotation not in (None, "None"):
        assert found["Returns"] or found["Yields"] or SAYS_SO.search(" ".join(found["Summary"]))


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if "." not in v.__qualname__ and n not in PARTS])
def test_functions_and_classes_have_an_example(name):
    assert any(">>> " in line for line in sections(PUBLIC[name])["Examples"])


def test_every_example_runs():
    files = (Path(__file__).parent.parent / "src").rglob("*.py")
    assert not [str(file) for file in files if "doctest: +SKIP" in file.read_text(encoding="utf-8")]
