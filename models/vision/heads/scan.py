"""One pass over a large output: which boxes have a class that passes, and which pictures have NaN."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def scan(
    tensor: NDArray[np.float32], axis: int, first: int, last: int, floor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The boxes of which a class score is `floor` or more, and the pictures with NaN anywhere.

    Args:
        tensor: float32 [n, boxes, columns], or [n, columns, boxes] with `axis` 1; contiguous.
        first, last: which columns are class scores.

    Returns: int64 [m] picture, int64 [m] box, bool [n]. Boxes of pictures with NaN may be among them.
    """
    found = np.zeros((len(tensor), tensor.shape[3 - axis]), np.int32)
    (_columns if axis == 1 else _rows)(tensor, first, last, np.float32(floor), found)
    picture, box = np.nonzero(found)
    passing = tensor[picture, :, box] if axis == 1 else tensor[picture, box]
    missing = np.zeros(len(tensor), bool)
    missing[picture[np.isnan(passing[:, first:last]).any(axis=1)]] = True
    for part in (slice(first), slice(last, None)):
        others = tensor[:, part] if axis == 1 else tensor[:, :, part]
        missing |= np.isnan(others).any(axis=(1, 2))
    return picture, box, missing


@njit(nogil=True, cache=True, error_model="numpy")
def _rows(tensor: NDArray[np.float32], first: int, last: int, floor: float, found: NDArray[np.int32]) -> None:
    """How many scores are not below the floor, NaN among them: sums of whole numbers need no order, so the compiler
    takes many at once, which it may not with a maximum of floats."""
    for picture in range(tensor.shape[0]):
        for box in range(tensor.shape[1]):
            count = np.int32(0)
            for value in tensor[picture, box, first:last]:
                count += np.int32(0) if value < floor else np.int32(1)
            found[picture, box] = count


@njit(nogil=True, cache=True, error_model="numpy")
def _columns(tensor: NDArray[np.float32], first: int, last: int, floor: float, found: NDArray[np.int32]) -> None:
    for picture in range(tensor.shape[0]):
        flags = found[picture]
        for column in range(first, last):
            values = tensor[picture, column]
            for box in range(len(values)):
                flags[box] |= np.int32(0) if values[box] < floor else np.int32(1)
