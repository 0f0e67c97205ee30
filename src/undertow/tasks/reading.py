"""How a table is read: the choices that ``read_table``, ``from_table`` and the commands share, as one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from undertow import _check
from undertow._check import InputError, Setting

WEIGHTS = ("frequency", "precision")
"""What weights of rows may be."""


class TableNote(UserWarning):
    """What was done to a table while it was read, such as a column left out; the rows are as the note says.

    Examples
    --------
    >>> import warnings
    >>> import pandas as pd, undertow as ut
    >>> frame = pd.DataFrame({"shop": list("aabb"), "price": [1.0, None, 2.0, 1.5], "sold": [1.0, 2.0, 4.0, 3.0]})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     table = ut.tasks.read_table(frame, "shop", "sold", on_missing="drop")
    >>> print(caught[0].message)
    1 of 4 rows left out, missing: 'price' in 1 row
    """


@dataclass(frozen=True)
class Reading:
    """Options of ``read_table`` and ``from_table``, which take them by name.

    Raises
    ------
    InputError
        for a value that is none of those named.

    Examples
    --------
    >>> import undertow as ut
    >>> ut.tasks.Reading(categories="onehot", on_missing="drop").max_levels
    50
    """

    sep: str | None = None
    """what parts the columns of a text file, one character; None: recognised among , ; tab and |"""
    decimal: str | None = None
    """the decimal mark of numbers in a text file, and in text of other tables, "." or ","; None: recognised"""
    categories: str = "raise"
    """text among the features: "raise" names it; "onehot" makes an indicator column "sex=F" for each level but the
    first, of text and of categoricals alike"""
    categorical: Sequence[str] = ()
    """columns of coded numbers, such as 1, 2, 3 for colours: indicators are made of them as of text"""
    max_levels: int = 50
    """most levels of a column that indicators are made of"""
    on_missing: str = "refuse"
    """missing values in the columns used: "refuse" counts them; "drop" leaves out their rows, and columns that are
    missing in most rows; "mean" puts the column's mean for a missing feature, and leaves out rows without task or
    target"""
    order: str | None = None
    """column whose values say in which order the rows of a task came, such as a date: its first rows are then support
    rows, in place of random ones. It stays a feature, unless ``features`` leaves it out"""
    task_order: str | None = None
    """column of numbers or dates by which tasks came one after the other, such as that of the tasks themselves where
    these are weeks; of a task its first row counts. Estimators with CV then say the errors of later tasks under fits to
    earlier ones too (``by_time_``)"""
    weights: str | None = None
    """column of row weights, which is no feature; rows of weight 0 are left out"""
    weights_are: str = "frequency"
    """what they are: "frequency", a row of weight 2 stands for two rows alike; "precision", its error has half the
    variance, and only ratios count"""
    target_kind: str = "number"
    """what the target is: "number"; "two-valued", any two labels, which become 0 and 1; "count", whole numbers from 0
    on; "auto", as its values show"""
    random_intercept: str | None = None
    """column of a second grouping, which is no feature: its levels, crossed with the tasks or of whole tasks, get a
    random intercept of their own. "outer": of several task columns all but the last; none where there is one, or where
    the target has two values"""
    formula: str | None = None
    """roles of columns and columns made of others, "y ~ log(x) + (1 | g)", in place of task, target, features and
    random_intercept (see ``Formula.parse``); without a random part the task is named. Text is made indicators"""
    on_constant: str = "drop"
    """features of one value in all rows: "drop" with a note, "keep", or "raise" """
    anonymous: bool = False
    """whether tasks are called "task 1", "task 2", and so on, in the order of their ids, and no note quotes an id"""

    def __post_init__(self) -> None:
        _check.one_of(self.categories, "categories", ("raise", "onehot"))
        _check.one_of(self.on_missing, "on_missing", ("refuse", "drop", "mean"))
        _check.one_of(self.on_constant, "on_constant", ("raise", "drop", "keep"))
        _check.one_of(self.weights_are, "weights_are", WEIGHTS)
        _check.one_of(self.target_kind, "target_kind", ("number", "two-valued", "count", "auto"))
        _check.whole_number(self.max_levels, "max_levels", minimum=2)
        if not isinstance(self.anonymous, bool):
            raise InputError("anonymous", self.anonymous, "it must be True or False.")
        if self.weights is not None and not isinstance(self.weights, str):
            raise InputError("weights", type(self.weights).__name__, "it must be the name of a column.")
        if self.weights is None and self.weights_are != "frequency":
            way_out = ("Name the column with ", Setting("weights"), ".")
            raise InputError("weights_are", self.weights_are, "there are no weights.", way_out)
        if self.decimal is not None:
            _check.one_of(self.decimal, "decimal", (".", ","))
        if self.sep is not None and not (isinstance(self.sep, str) and len(self.sep) == 1 and ord(self.sep) < 128):
            raise InputError("sep", self.sep, "it must be one character, such as ';'.")
        if self.sep is not None and self.sep in ('"', "\n", "\r"):
            raise InputError("sep", self.sep, "it already has another meaning and cannot separate columns.")
        if isinstance(self.categorical, str):
            rule = f"it must be a list of column names, such as [{self.categorical!r}]."
            raise InputError("categorical", self.categorical, rule)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Reading:
        """Return the record of options given by name; raise TypeError, as a function does, for another name."""
        return cls(**options)
