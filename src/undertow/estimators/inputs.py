"""What users hand to an estimator: arrays, groups and folds of many kinds, and messages where they are of no use."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from undertow import _check
from undertow._check import InputError
from undertow.tasks import labels
from undertow.tasks.columns import refuse_merged, refuse_nul, whole_labels
from undertow.tasks.rows import TaskRows
from undertow.tasks.wording import in_words, missing_counts, some


class MissingGroupsWarning(UserWarning):
    """An estimator was used without ``groups``: it cannot tell the tasks apart.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np, undertow as ut
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     model = ut.MAMLRegressor().fit(np.arange(12.0)[:, None], np.arange(12.0))
    >>> [one.category.__name__ for one in caught]
    ['MissingGroupsWarning']
    """


def column_numbers(estimator: Any, columns: Any, argument: str) -> tuple[int, ...] | None:
    """Return the numbers of columns that are named or numbered; None for None. InputError for what is no column."""
    if columns is None:
        return None
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    way_out = "List names of columns of X, or their numbers from 0 on."
    if isinstance(columns, str):
        raise InputError(argument, columns, "it must be a list of columns.", way_out)
    numbers = []
    for one in columns:
        if isinstance(one, str) and one not in names:
            raise InputError(argument, one, "no column of X has this name.", way_out)
        named = isinstance(one, str)
        numbers.append(names.index(one) if named else _check.whole_number(one, argument, minimum=0))
    if any(one >= estimator.n_features_in_ for one in numbers):
        raise InputError(argument, max(numbers), f"X has {estimator.n_features_in_} columns.", way_out)
    return tuple(sorted(set(numbers)))


def validated(estimator: Any, X: Any, y: Any = "no_validation", **settings: Any) -> Any:
    """Return X (R, p), and y (R,) or (R, q) where given, as floating-point arrays checked by scikit-learn.

    settings: those of its ``validate_data``. Raises InputError for a column of a frame, or an array of another library,
    which cannot be used; ValueError for the rest.
    """
    with _faults_of_frames(X):
        return validate_data(estimator, _as_array(X), y, dtype=[np.float64, np.float32], **settings)


def _as_array(values: Any) -> Any:
    """Return an array of another library that lies in main memory as a NumPy array, without a copy where possible."""
    if isinstance(values, np.ndarray) or hasattr(values, "__array__") or not hasattr(values, "__dlpack__"):
        return values
    try:
        return np.from_dlpack(values)
    except (BufferError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            None,
            rule=f"X of type {type(values).__name__} cannot be read through DLPack ({error}).",
            way_out="Move it to the CPU first.",
        ) from error


@contextmanager
def _faults_of_frames(values: Any) -> Iterator[None]:
    """Name the column of a data frame that cannot be used, where scikit-learn says of all of them that one cannot.

    Raises InputError for text and missing values; other errors pass, as do those of arrays.
    """
    try:
        yield
    except ValueError as error:
        if not isinstance(error, InputError) and (fault := _fault_of_frame(values)) is not None:
            raise fault from error
        raise


def _fault_of_frame(values: Any) -> InputError | None:
    frame: Any = nw.from_native(values, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return None
    read = "undertow.tasks.read_table({}), whose table undertow.estimators.fit_table fits"
    flags = {}
    for column in frame.iter_columns():
        name, cells = column.name, column.to_list()
        shown = list(dict.fromkeys(cell for cell in cells if isinstance(cell, str)))
        if shown:
            rule = f"column {name!r} of X holds text ({some(shown, 3)}): a number is needed."
            way_out = f"Leave it out, make numbers of it, or use {read.format('..., categories=' + repr('onehot'))}."
            return InputError(None, rule=rule, way_out=way_out)
        # Of NaN not all libraries say that it is null.
        flags[name] = column.is_null().to_numpy() | np.array([isinstance(one, float) and one != one for one in cells])
    missing = missing_counts({name: one for name, one in flags.items() if one.any()})
    if missing:
        way_out = f"Drop or fill these rows, or use {read.format('..., on_missing=' + repr('drop'))}."
        return InputError(None, rule=f"X is missing (NaN): {in_words(missing)} of {len(frame)}.", way_out=way_out)
    return None


def task_codes(groups: Any, n_rows: int, name: str = "groups") -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted ids of the tasks (m,) and the number of each row's task (R,), or raise InputError."""
    values = group_values(groups, n_rows, name)
    try:
        ids, codes = np.unique(values, return_inverse=True)
    except TypeError:
        raise InputError(
            None,
            rule=f"{name} mixes kinds of ids that cannot be sorted.",
            way_out="Make them all text or all numbers.",
        ) from None
    return (np.array(ids.tolist(), dtype=np.str_) if ids.dtype == object else ids), codes


def group_values(groups: Any, n_rows: int, name: str = "groups") -> np.ndarray:
    """Return groups as a flat array of text, numbers or dates, one for each row, without a missing one."""
    what = {"groups": "task", "task_order": "moment"}.get(name, "level")
    values = np.asarray(_listed(groups) if isinstance(groups, list | tuple) else _as_array(groups))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n_rows,):
        rule = f"{name} has shape {values.shape}: it must hold the {what} of each of the {n_rows} rows of X."
        raise InputError(None, rule=rule)
    if values.dtype == object:
        missing = np.array([value is None or value != value for value in values])
    elif values.dtype.kind in "fc":
        missing = np.isnan(values)
    else:
        missing = np.isnat(values) if values.dtype.kind in "mM" else np.zeros(n_rows, dtype=bool)
    if missing.any():
        raise InputError(
            None,
            rule=f"{name} is missing in {int(missing.sum())} of {n_rows} rows (the first is row "
            f"{int(missing.argmax())}): every row has a {what}.",
            way_out=f"Drop these rows, or give them a {what} of their own.",
        )
    refuse_nul(values, name)
    if values.dtype == object and len({type(value) for value in values}) == 1:
        listed = values.tolist()
        values = whole_labels(listed) if type(listed[0]) is int else np.array(listed)
    refuse_merged(values, name)
    return values


def moments_of(values: Any, n_rows: int) -> np.ndarray:
    """Return the place (R,) of each row's number or date among all of them; InputError for what is none."""
    found = group_values(values, n_rows, "task_order")
    if found.dtype.kind not in "iufmM":
        rule = f"it holds values of type {found.dtype}, which have no order in time."
        raise InputError("task_order", "...", rule, "Give numbers or dates.")
    return np.unique(found, return_inverse=True)[1]


def _listed(groups: Any) -> np.ndarray:
    """A list of ids as an array, where NumPy would make text of numbers among text, and floats of large numbers."""
    plain = np.asarray(groups)
    if plain.ndim != 1 or plain.dtype.kind not in "fUS":
        return plain
    if plain.dtype.kind == "f" and any(isinstance(one, float | np.floating) for one in groups):
        return plain
    own = np.empty(len(groups), dtype=object)
    own[:] = groups
    return own


def warn_no_groups(name: str, why: str) -> None:
    """Warn that ``groups`` are missing."""
    warnings.warn(
        f"{name} was called without groups: {why} Pass groups=..., one task id for each row. Inside scikit-learn's "
        "tools they arrive only with metadata routing: sklearn.set_config(enable_metadata_routing=True), and "
        "params={'groups': ...}.",
        MissingGroupsWarning,
        stacklevel=3,
    )


def task_folds(cv: Any, rows: TaskRows) -> int | list[np.ndarray]:
    """Return the number of folds, or the tasks of each fold of a scikit-learn splitter or of (train, test) pairs.

    cv: as in scikit-learn: a whole number, an object with ``split``, or pairs of row numbers. Raises InputError where a
    test set cuts through a task, or where a task is in no test set or in two.
    """
    if isinstance(cv, Integral) and not isinstance(cv, bool):
        return _check.whole_number(cv, "cv", minimum=3)
    n = int(rows.rows.max()) + 1
    if hasattr(cv, "split"):
        groups = np.full(n, -1)
        groups[rows.rows] = rows.codes
        pairs = list(cv.split(np.zeros((n, 1)), np.zeros(n), groups))
    else:
        try:
            pairs = [(train, test) for train, test in cv]
        except (TypeError, ValueError):
            raise InputError(
                "cv",
                cv,
                "give a whole number of folds, a scikit-learn splitter such as GroupKFold, or pairs of row numbers "
                "(train, test).",
            ) from None
    position = np.full(n, -1)
    position[rows.rows] = np.arange(len(rows.rows))
    tested = np.zeros(rows.n_tasks, dtype=np.int64)
    parts = []
    for _, test in pairs:
        index = np.flatnonzero(test) if np.asarray(test).dtype == bool else np.asarray(test)
        places = position[index[index < n]]
        count = np.bincount(rows.codes[places[places >= 0]], minlength=rows.n_tasks)
        part = np.flatnonzero(count)
        if (count[part] != rows.counts[part]).any():
            cut = rows.ids[part[count[part] != rows.counts[part]]]
            raise InputError(
                None,
                rule=f"cv puts some rows of task {some(cut[:1])} into a test set and others not: folds must hold whole "
                "tasks.",
                way_out="Use a whole number, or GroupKFold.",
            )
        tested[part] += 1
        if len(part):
            parts.append(part)
    if (tested != 1).any():
        bad = int(np.flatnonzero(tested != 1)[0])
        raise InputError(
            None,
            rule=f"cv tests task {some(rows.ids[[bad]])} {tested[bad]} times: every task must be in exactly one test "
            "set.",
        )
    if len(parts) < 3:
        raise InputError(
            None,
            rule=f"cv gives {len(parts)} test sets with a task that is large enough: three are the least, since the "
            "choice for one is made on the others by fits that have seen neither.",
            way_out="Use more folds.",
        )
    return parts


def task_places(ids: np.ndarray, groups: Any, n_rows: int) -> np.ndarray:
    """Return where the task of each row (R,) stands among the ids of a model, -1 for none; warn of ids alike."""
    values = group_values(groups, n_rows)
    try:
        found, codes = np.unique(values, return_inverse=True)
    except TypeError:  # kinds of values that cannot be sorted
        found, codes = values, np.arange(len(values))
    place = labels.places(ids, found)
    alike = labels.look_alikes(ids, found[place < 0])
    if alike:
        text = ", ".join(f"{one!r} (known: {other!r})" for one, other in alike[:5])
        warnings.warn(
            f"{len(alike)} of the tasks in groups are spelled almost as known ones and are taken for others: {text}"
            f"{', ...' if len(alike) > 5 else ''}. Spell them as in training if they are the same.",
            stacklevel=4,
        )
    return place[codes]


def seed_of(random_state: Any) -> int:
    """Return the seed that a ``random_state`` stands for; of a generator it draws one."""
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise InputError("random_state", random_state, "it must be a whole number of at least 0.")
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
