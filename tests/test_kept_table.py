"""Kept tables: what comes back is what was written, or nothing."""

import numpy as np
import pyarrow as pa
import pytest

from undertow._kept_table import read_table, write_table

TABLE = pa.table(
    {"rate": np.arange(3.0), "loss": np.array([0.5, np.nan, np.inf]), "name": ["a", None, "b"]}, metadata={"by": "cell"}
)


def test_a_table_comes_back_with_its_metadata(tmp_path):
    for table in (TABLE, TABLE.slice(1), pa.concat_tables([TABLE, TABLE]), TABLE.slice(0, 0)):
        write_table(tmp_path / "t.parquet", table)
        found = read_table(tmp_path / "t.parquet")
        assert found.schema.equals(table.schema, check_metadata=True)
        assert str(found.to_pydict()) == str(table.to_pydict())
    assert read_table(tmp_path / "none.parquet") is None


@pytest.mark.long
def test_any_flipped_bit_or_cut_gives_the_same_table_or_none(tmp_path):
    file = tmp_path / "t.parquet"
    write_table(file, TABLE)
    data = file.read_bytes()
    expected, lost = str(TABLE.to_pydict()), 0
    for i in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[i // 8] ^= 1 << i % 8
        file.write_bytes(flipped)
        found = read_table(file)
        lost += found is None
        assert found is None or str(found.to_pydict()) == expected
    assert lost > 2 * len(data)
    for end in range(0, len(data), 7):
        file.write_bytes(data[:end])
        assert read_table(file) is None


def test_missing_values_of_any_type_come_back(tmp_path):
    values = pa.array(np.random.default_rng(0).standard_normal(9), mask=np.arange(9) % 3 == 0)
    table = pa.table({"a": values, "b": pa.array([None] * 9, pa.int64()), "c": pa.array(["x", None, "y"] * 3)})
    whole = pa.concat_tables([table.slice(0, 4), table.slice(4)])
    write_table(tmp_path / "t.parquet", whole)
    assert read_table(tmp_path / "t.parquet").equals(table)
