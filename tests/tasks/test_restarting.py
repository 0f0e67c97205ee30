"""Ids that start anew in each group: told from ids that have a meaning of their own, by the target's means."""

import numpy as np
import pandas as pd
import pytest
from cases import case
from scipy import stats

from undertow import InputError
from undertow.tasks import TableNote, read_table
from undertow.tasks.restarting import p_values


def by_least_squares(task, level, y):
    """Both p values from least squares on stacked indicators."""

    def left(*factors):
        columns = np.concatenate([(factor[:, None] == np.unique(factor)) for factor in factors], axis=1).astype(float)
        weights, _, rank, _ = np.linalg.lstsq(columns, y, rcond=None)
        return float(np.square(y - columns @ weights).sum()), rank

    (within, pairs), (both, free), (levels, k) = (
        left(*factors) for factors in ((1000 * task + level,), (task, level), (level,))
    )
    square = (both - within) / (pairs - free)
    return (
        stats.f.sf(square / (within / (len(y) - pairs)), pairs - free, len(y) - pairs),
        stats.f.sf((levels - both) / (free - k) / square, free - k, pairs - free),
    )


def test_the_p_values_are_those_of_stacked_least_squares():
    rng = np.random.default_rng(0)
    task, level = rng.integers(0, 5, 300), rng.integers(0, 7, 300)
    y = rng.normal(size=5)[task] + rng.normal(size=7)[level] + 0.3 * rng.normal(size=(5, 7))[task, level]
    y += rng.standard_normal(300)
    assert p_values(task, level, y) == pytest.approx(by_least_squares(task, level, y), rel=1e-6)


def drawn(rng, *, restarts, rows=6):
    """Classes 0 to 3 in 12 schools: of their own in each, or the same four (as raters are)."""
    school, klass, _ = (one.ravel() for one in np.indices((12, 4, rows)))
    effect = rng.normal(size=(12, 4))[school, klass] if restarts else rng.normal(size=4)[klass]
    y = 0.5 * rng.normal(size=12)[school] + effect + rng.standard_normal(len(school))
    return pd.DataFrame({"school": [f"s{i}" for i in school], "klass": klass, "x": rng.standard_normal(len(y)), "y": y})


@pytest.mark.parametrize("restarts", [True, False])
def test_ids_that_start_anew_are_noted_and_ids_that_are_crossed_are_not(restarts, recwarn):
    rng = np.random.default_rng(1)
    noted = 0
    for _ in range(20):
        table = read_table(drawn(rng, restarts=restarts), "klass", "y", ["x"])
        noted += any("'school,klass'" in note for note in table.notes)
    # At a level of 1 % one in 20 is much; where ids start anew one in 100 is missed.
    assert noted >= 19 if restarts else noted <= 1


@pytest.mark.parametrize(("name", "inner", "both"), [("nested.csv", "klass", 60), ("t05_nested.csv", "class", 30)])
def test_classes_of_several_schools(name, inner, both):
    file, pair = case(name), ["school", inner]
    with pytest.raises(InputError, match=rf"'school' holds text.*task=\['school', '{inner}'\]"):
        read_table(file, inner, "score")
    features = [one for one in ("ses", "active") if one in file.read_text().split("\n", 1)[0]]
    with pytest.warns(TableNote, match=f"'{inner}' may start anew in each 'school'.*'school,{inner}'"):
        read_table(file, inner, "score", features)
    table = read_table(file, pair, "score")
    assert table.n_tasks == both
    assert not table.notes
    assert f"school {'school0' if both == 60 else 'A'}, {inner} 1" in table.ids.tolist()


def test_a_column_that_cannot_be_read_and_is_not_used_does_not_matter(tmp_path):
    frame = drawn(np.random.default_rng(3), restarts=True)
    file = tmp_path / "t.csv"
    text = frame.to_csv(index=False).encode().replace(b"s3,", b"s\xe4,")
    file.write_bytes(text)
    assert read_table(file, "klass", "y", ["x"]).n_tasks == 4
