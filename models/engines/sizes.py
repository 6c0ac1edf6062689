"""Batches of any number of rows on an engine that runs a few fixed sizes: cut, pad up, cut down."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.engine import TensorSpec

PROFILE_TOPS = (64, 1024)  # rows: a single event, a light load, a heavy one want different kernels


class Profile(msgspec.Struct, frozen=True):
    """A range of batch sizes that kernels are chosen for: the best at `best`, correct for all."""

    smallest: int
    best: int
    largest: int


class Slot(Protocol):
    """One fixed batch size that is ready to run: write `inputs`, call `run`, read `outputs`.

    The arrays have `rows` rows and belong to the slot: they are written again by the next batch.
    """

    rows: int
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    def run(self) -> None:
        """Compute `outputs` from `inputs`."""


def fixed_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The powers of two below `max_batch_size`, and it itself; padding at most doubles a batch.

    >>> fixed_sizes(24)
    (1, 2, 4, 8, 16, 24)

    Raises: ValueError where it is below 1.
    """
    if max_batch_size < 1:
        raise ValueError(f"choosing batch sizes: expected a largest batch of 1 row or more, got {max_batch_size}")
    return (*(1 << power for power in range((max_batch_size - 1).bit_length())), max_batch_size)


def profiles(max_batch_size: int) -> tuple[Profile, ...]:
    """Ranges that cover 1 to `max_batch_size` without a gap, each at its best at its largest size.

    >>> profiles(256)
    (Profile(smallest=1, best=64, largest=64), Profile(smallest=65, best=256, largest=256))

    Raises: ValueError where it is below 1.
    """
    tops = (*(top for top in PROFILE_TOPS if top < max_batch_size), fixed_sizes(max_batch_size)[-1])
    return tuple(Profile(below + 1, top, top) for below, top in zip((0, *tops), tops, strict=False))


def profile_of(rows: int, ranges: Sequence[Profile]) -> int:
    """The index of the profile that `rows` fall into.

    Raises: ValueError where they fall into none.
    """
    for index, each in enumerate(ranges):
        if each.smallest <= rows <= each.largest:
            return index
    raise ValueError(f"choosing an optimisation profile: expected at most {ranges[-1].largest} rows, got {rows}")


def infer_in_slots(
    slots: Sequence[Slot], tensors: Mapping[str, NDArray[Any]], outputs: Sequence[TensorSpec]
) -> dict[str, NDArray[Any]]:
    """Run a batch of any number of rows on `slots`, which ascend by rows.

    Rows beyond the largest slot are run as further batches; a batch is padded with zeros up to the next slot, and what
    was computed of the padding is cut off. The arrays returned are the caller's own.
    """
    rows = len(next(iter(tensors.values())))
    sizes = [slot.rows for slot in slots]
    found: dict[str, NDArray[Any]] = {
        spec.name: np.empty((rows, *(axis or 0 for axis in spec.shape[1:])), spec.dtype) for spec in outputs
    }
    for start in range(0, rows, sizes[-1]):
        part = slice(start, min(start + sizes[-1], rows))
        count = part.stop - part.start
        slot = slots[bisect_left(sizes, count)]
        for name, buffer in slot.inputs.items():
            buffer[:count] = tensors[name][part]
            buffer[count:] = 0
        slot.run()
        for name, array in found.items():
            array[part] = slot.outputs[name][:count]
    return found
