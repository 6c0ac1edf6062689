"""Rows found by their hash: a dictionary is what they must equal."""

from __future__ import annotations

import numpy as np
import pytest

from models.fraud.label_rows import HashedRows

ROW = np.dtype([("time", "i8"), ("fraud", "?")])


def rows_of(values: list[int]) -> np.ndarray:
    return np.array([(value, value % 2 == 1) for value in values], ROW)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_a_dictionary(seed: int) -> None:
    draw = np.random.default_rng(seed)
    table, expected = HashedRows(ROW), dict[int, int]()
    hashes = np.append(draw.integers(0, 2**64, 300, np.uint64), np.array([0, 2**64 - 1], np.uint64))
    for _ in range(60):
        chosen = draw.permutation(hashes)[: draw.integers(0, 40)]
        values = draw.integers(0, 1000, len(chosen)).tolist()
        table.put(chosen, rows_of(values))
        expected |= dict(zip(chosen.tolist(), values, strict=True))
        if draw.random() < 0.1:
            limit = int(draw.integers(0, 300))
            dropped = table.drop(lambda rows, limit=limit: rows["time"] >= limit)  # type: ignore[misc]
            assert sorted(dropped.tolist()) == sorted(key for key, value in expected.items() if value < limit)
            expected = {key: value for key, value in expected.items() if value >= limit}
        held, rows = table.find(hashes)
        assert held.tolist() == [key in expected for key in hashes.tolist()]
        assert rows["time"].tolist() == [expected.get(key, 0) for key in hashes.tolist()]
        assert len(table) == len(expected)
        assert sum(len(run.hashes) for run in table.runs()) == len(expected)


def test_runs_stay_few_and_small() -> None:
    table, draw = HashedRows(ROW), np.random.default_rng(0)
    for _ in range(300):
        table.put(draw.integers(0, 2**64, 100, np.uint64), np.zeros(100, ROW))
    assert len(list(table.runs())) <= 10
    assert table.nbytes == 30_000 * (8 + ROW.itemsize)
