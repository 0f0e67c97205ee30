"""Settings of ``undertow train``, read from a TOML file. Strict: an unknown key or a wrong type is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from undertow import _check
from undertow._check import InputError, did_you_mean, files_near

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Inner(Section):
    """[inner]: the step of each task. Rates may have either sign."""

    train_rate: float = Field(description="rate of the inner step, or where a learned rate starts")
    learn: Literal["no", "one", "layer", "parameter"] = Field("no", description="learn the rate: one, or one for each")
    steps: Count = 1
    first_order: bool = False
    adapts: Literal["all", "last", "all_but_last"] = Field("all", description="layers that the step moves")
    adapt_rate: float | None = Field(None, description="rate on validation tasks; a learned rate serves if left out")
    adapt_steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="steps on them; left out: as many as steps"
    )

    @model_validator(mode="after")
    def _a_rate_to_adapt_with(self) -> Inner:
        if self.learn == "no" and self.adapt_rate is None:
            raise ValueError("adapt_rate is missing: a train rate is not a rate to adapt with. Give adapt_rate, or "
                             'learn = "one", "layer" or "parameter"')  # fmt: skip
        return self


class Outer(Section):
    """[outer]: the outer loop, with Adam."""

    iterations: Count
    step: Positive = 0.001
    schedule: Literal["constant", "cosine"] = Field("constant", description="of the step; cosine ends at 0")
    baseline: bool = Field(True, description="train once more without an inner loop, to compare with")
    meta_batch: Count | None = Field(None, description="tasks per iteration; left out: all of a table's, else 25")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    validate_every: Count = 100
    patience: Count | None = None
    checkpoint_every: Count = 500


class Perceptron(Section):
    """[model] of sine waves and tables: a multilayer perceptron."""

    hidden: Annotated[list[Count], Field(min_length=1)] = [40, 40]


class ConvNet(Section):
    """[model] of images: 3 x 3 convolutions with stride 2, and a linear layer."""

    filters: Count = 32
    layers: Count = 4


class SinusoidTask(Section):
    """[task] of sine waves."""

    shots: Count = 10
    query: Count = 10
    n_validation_tasks: Count = 200


class ImageTask(Section):
    """[task] of images: rows are counted for each class."""

    images: str
    colour: bool = False
    ways: Annotated[int, Field(ge=2)] = 5
    shots: Count = 1
    query: Count = 5
    rotations: bool = True
    test_share: Share = 0.25
    n_validation_tasks: Count = 100


class TableTask(Section):
    """[task] of a grouped table."""

    table: str
    task: str | None = None
    target: str | None = None
    features: list[str] | None = None
    n_support: Count = 5
    n_query: Count | None = None
    draws: Count = Field(5, description="random draws of support and query rows, each a set of training tasks")
    test_share: Share = 0.3
    clip: Positive = 4.0
    categories: Literal["raise", "onehot"] = "raise"
    categorical: list[str] = []
    max_levels: Annotated[int, Field(ge=2)] = 50
    on_missing: Literal["refuse", "drop", "mean"] = "refuse"
    sep: str | None = None
    decimal: Literal[".", ","] | None = None
    on_constant: Literal["raise", "drop", "keep"] = "drop"
    on_small: Literal["raise", "drop"] = "raise"


class SinusoidSettings(Section):
    """A file with case = "sinusoid"."""

    case: Literal["sinusoid"]
    task: SinusoidTask = SinusoidTask()
    model: Perceptron = Perceptron()
    inner: Inner
    outer: Outer


class ImageSettings(Section):
    """A file with case = "omniglot": any labelled images."""

    case: Literal["omniglot"]
    task: ImageTask
    model: ConvNet = ConvNet()
    inner: Inner
    outer: Outer


class TableSettings(Section):
    """A file with case = "table"."""

    case: Literal["table"]
    task: TableTask
    model: Perceptron = Perceptron()
    inner: Inner
    outer: Outer


_OF_CASE: dict[str, type[Section]] = {
    "sinusoid": SinusoidSettings,
    "omniglot": ImageSettings,
    "table": TableSettings,
}
CASES = tuple(_OF_CASE)
Settings = SinusoidSettings | ImageSettings | TableSettings
_PAGE = "docs/reference/gradient_experiments.md"
_ADAPTER: TypeAdapter[Settings] = TypeAdapter(Annotated[Settings, Field(discriminator="case")])


def read_settings(path: Path) -> Settings:
    """Read and check a file; raises InputError, which names every key that does not fit."""
    if path.suffix.lower() != ".toml" or path.is_dir():
        near = did_you_mean(path.name, [one.name for one in path.parent.glob("*.toml")])
        way_out = f"Give a .toml file; {_PAGE} has one.{near}"
        raise InputError(None, rule=f"{str(path)!r} is no file of settings.", way_out=way_out)
    if not path.exists():
        raise InputError(None, rule=f"{str(path)!r}: there is no such file.", way_out=files_near(path))
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(None, rule=f"{path} is not valid TOML: {error}.", way_out=f"See {_PAGE}.") from None
    except UnicodeDecodeError:
        raise InputError(None, rule=f"{path} is not UTF-8 text.", way_out="Save it as UTF-8.") from None
    if "case" not in found:
        lines = " or ".join(f'case = "{one}"' for one in CASES)
        way_out = f"Let its first line be {lines}; see {_PAGE}."
        raise InputError(None, rule=f"{path}: case is missing.", way_out=way_out)
    case = _check.one_of(found["case"], "case", CASES)
    try:
        return _ADAPTER.validate_python(found)
    except ValidationError as error:
        # The first place is the case, which is no table of the file.
        rules = [f"{'.'.join(map(str, one['loc'][1:]))} {_rule(dict(one), case)}" for one in error.errors()]
    raise InputError(None, rule=f"{path}: {'; '.join(rules)}.", way_out=f"See {_PAGE}.")


def _keys(case: str, tables: Sequence[str | int]) -> list[str]:
    """Return the keys of a table of the file."""
    section: Any = _OF_CASE[case]
    for name in tables:
        section = section.model_fields[name].annotation
    return list(section.model_fields)


_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "string": "must be text",
    "bool": "must be true or false",
    "list": "must be a list",
    "model": "must be a table of keys",
}


def _rule(error: dict[str, Any], case: str) -> str:
    """What is wrong with one key, in the words of this file rather than of its reader."""
    kind, context = error["type"], error.get("ctx", {})
    given = f", and is {error['input']!r}"
    limits = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        *tables, key = error["loc"][1:]
        known = _keys(case, tables)
        hint = did_you_mean(str(key), known).strip() or f"those are {', '.join(known)}"
        return f"is no known key ({hint})"
    if kind in limits:
        return f"must be {words[limits[kind]]} {context[limits[kind]]:,.6g}{given}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}{given}"
    if kind == "too_short":
        return "must not be empty"
    if kind == "finite_number":
        return f"must be finite{given}"
    if kind == "value_error":
        return f"cannot be used: {context['error']}"
    return f"{_KINDS.get(kind.split('_')[0], 'does not fit')}{given}"
