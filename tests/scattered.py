"""Tables whose tasks are scattered over files, for the tests of the scale room and of its command."""

import numpy as np
import pandas as pd

from undertow.scale.job import Run
from undertow.scale.memory import Ceiling

CEILING = Ceiling.of("600MB")


def frame(m=60, p=4, seed=0, low=3, high=18, text=False):
    """Rows of m tasks in random order; features have offsets and units of their own."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(low, high, m)
    groups = np.repeat(np.arange(m), counts)
    x = rng.standard_normal((len(groups), p))
    weights = 1 + 0.5 * rng.standard_normal((m, p))
    y = (x * weights[groups]).sum(axis=1) + rng.standard_normal(m)[groups] + rng.standard_normal(len(x))
    columns = {f"f{j}": x[:, j] * (j + 1) + 5 for j in range(p)}
    shops = np.array([f"shop {i}" for i in range(m)])[groups] if text else groups
    return pd.DataFrame({"shop": shops, "sales": y} | columns).sample(frac=1, random_state=seed, ignore_index=True)


def scatter(table, folder, n_files=4, kind="parquet"):
    """Write the rows to files, in their order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(np.array_split(np.arange(len(table)), n_files)):
        rows, path = table.iloc[part], folder / f"part-{i}.{kind}"
        rows.to_parquet(path) if kind == "parquet" else rows.to_csv(path, index=False)
    return folder


class Small(Ceiling):
    """Fragments of a few tasks each."""

    @property
    def fragment(self):
        return 6000


def streamed(**more):
    """A run by fragments, however small the table is."""
    return Run(Small(CEILING.total), all_in_memory=False, quiet=True, **more)
