from __future__ import annotations

import doctest
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engine import TensorSpec
from models.engines import sizes
from models.engines.sizes import fixed_sizes, infer_in_slots, profile_of, profiles

X, Y = TensorSpec("x", "float32", (None, 4)), TensorSpec("y", "float64", (None,))


class Summing:
    """A slot that sums rows, and remembers how often it ran and on what."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.inputs: Mapping[str, NDArray[Any]] = {"x": np.full((rows, 4), np.nan, np.float32)}
        self.outputs: Mapping[str, NDArray[Any]] = {"y": np.full(rows, np.nan)}
        self.seen: list[NDArray[Any]] = []

    def run(self) -> None:
        self.seen.append(self.inputs["x"].copy())
        self.outputs["y"][:] = self.inputs["x"].sum(axis=1)


def test_examples() -> None:
    assert doctest.testmod(sizes).failed == 0


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 1024, 1025, 16384])
def test_every_size_has_a_slot_and_a_profile(largest: int) -> None:
    found, ranges = fixed_sizes(largest), profiles(largest)
    assert found == tuple(sorted(set(found)))
    assert found[0] == 1
    assert found[-1] == ranges[-1].largest == largest
    assert all(after <= 2 * before for before, after in itertools.pairwise(found))
    rows = [row for each in ranges for row in range(each.smallest, each.largest + 1)]
    assert rows == list(range(1, largest + 1))  # no gap, no overlap
    for size in found:
        each = ranges[profile_of(size, ranges)]
        assert each.smallest <= size <= each.largest
        assert each.smallest <= each.best <= each.largest


@pytest.mark.parametrize("largest", [0, -1])
def test_a_largest_batch_of_nothing_is_refused(largest: int) -> None:
    with pytest.raises(ValueError, match=f"expected a largest batch of 1 row or more, got {largest}"):
        fixed_sizes(largest)
    with pytest.raises(ValueError, match="expected a largest batch"):
        profiles(largest)


def test_rows_beyond_every_profile_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 8 rows, got 9"):
        profile_of(9, profiles(8))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 8, 9, 16, 21])
def test_a_batch_of_any_size_is_cut_padded_and_cut_down(rows: int) -> None:
    slots = [Summing(size) for size in fixed_sizes(8)]
    batch = np.random.default_rng(rows).random((rows, 4), dtype=np.float32)
    found = infer_in_slots(slots, {"x": batch}, (Y,))
    assert found["y"].shape == (rows,)
    assert found["y"].dtype == np.float64
    np.testing.assert_allclose(found["y"], batch.sum(axis=1))
    runs = [seen for slot in slots for seen in slot.seen]
    assert len(runs) == -(-rows // 8)
    assert all(not np.isnan(seen).any() for seen in runs)


def test_the_smallest_slot_that_fits_runs_and_what_it_held_before_is_gone() -> None:
    slots = [Summing(size) for size in fixed_sizes(8)]
    infer_in_slots(slots, {"x": np.ones((8, 4), np.float32)}, (Y,))
    infer_in_slots(slots, {"x": np.ones((5, 4), np.float32)}, (Y,))
    assert [len(slot.seen) for slot in slots] == [0, 0, 0, 2]
    np.testing.assert_array_equal(slots[3].seen[1].sum(axis=1), [4, 4, 4, 4, 4, 0, 0, 0])


def test_answers_outlive_the_next_batch() -> None:
    slots = [Summing(size) for size in fixed_sizes(4)]
    first = infer_in_slots(slots, {"x": np.ones((3, 4), np.float32)}, (Y,))["y"]
    infer_in_slots(slots, {"x": np.zeros((3, 4), np.float32)}, (Y,))
    np.testing.assert_array_equal(first, [4, 4, 4])
