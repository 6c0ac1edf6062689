"""One pass over a large output: which boxes have a class that passes, and which pictures have NaN.

Compiled whole: each step of numpy's would let the GIL go, and wait for it again.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.vision.heads.candidates import Floats, Ints

Found = tuple[Ints, Floats, Floats, Ints]
"""int64 [m] picture, float32 [m, 4] box as the network gives it, float32 [m] score, int64 [m] label."""


@njit(nogil=True, cache=True, error_model="numpy")
def scan(tensor: Floats, by_row: bool, labels: Ints, last: int, floor: np.float32) -> tuple[Found, NDArray[np.bool_]]:
    """The boxes of which a label's score is `floor` or more, with the best one, and the pictures with NaN anywhere.

    Args:
        tensor: float32 [n, boxes, columns] if `by_row`, or else [n, columns, boxes]: 4 of the box, then class scores;
            contiguous.
        labels: int64 [k], which column each label's score is.
        last: where class scores end; what follows is looked at for NaN only.

    Returns: what is found, and bool [n]. Boxes of pictures with NaN may be among them.
    """
    boxes, columns = (tensor.shape[1], tensor.shape[2]) if by_row else (tensor.shape[2], tensor.shape[1])
    flags, missing = np.zeros((len(tensor), boxes), np.int32), np.zeros(len(tensor), np.bool_)
    count = 0
    for picture in range(len(tensor)):
        if by_row:
            _rows(tensor[picture], last, floor, flags[picture])
        else:
            _columns(tensor[picture], last, floor, flags[picture])
        for box in range(boxes):
            count += flags[picture, box] != 0
        missing[picture] = _has_nan(tensor[picture], by_row, 0, 4) or _has_nan(tensor[picture], by_row, last, columns)
    of, found = np.empty(count, np.int64), np.empty((count, 4), np.float32)
    scores, best = np.empty(count, np.float32), np.empty(count, np.int64)
    count = 0
    for picture in range(len(tensor)):
        for box in range(boxes):
            if flags[picture, box] == 0:
                continue
            row = tensor[picture, box] if by_row else tensor[picture, :, box]
            for column in range(4, last):
                missing[picture] |= math.isnan(row[column])
            label = _best(row, labels)
            if row[labels[label]] >= floor:  # or else what passes is no label's
                for axis in range(4):
                    found[count, axis] = row[axis]
                of[count], scores[count], best[count] = picture, row[labels[label]], label
                count += 1
    return (of[:count], found[:count], scores[:count], best[:count]), missing


@njit(nogil=True, cache=True, error_model="numpy")
def scan_cells(output: Floats, labels: Ints, least: np.float32, floor: np.float32) -> Found:
    """FastestDet's boxes whose score is `floor` or more, in shares of the picture.

    Args:
        output: float32 [n, columns, rows, columns of the grid], as `anchored.FastestDet` says.
        labels: int64 [k], which column each label's score is.
        least: an objectness below this never does.
    """
    _, _, height, width = output.shape
    most = len(output) * height * width
    of, boxes = np.empty(most, np.int64), np.empty((most, 4), np.float32)
    scores, best = np.empty(most, np.float32), np.empty(most, np.int64)
    one, count = np.float32(1), 0
    for picture in range(len(output)):
        for y in range(height):
            for x in range(width):
                cell = output[picture, :, y, x]
                if not cell[0] >= least:
                    continue
                label = _best(cell, labels)
                sure, likely = max(cell[0], np.float32(0)), max(cell[labels[label]], np.float32(0))
                score = sure ** np.float32(0.6) * likely ** np.float32(0.4)
                if not score >= floor:
                    continue
                of[count], scores[count], best[count] = picture, score, label
                boxes[count, 0] = (np.float32(x) + math.tanh(cell[1])) / np.float32(width)
                boxes[count, 1] = (np.float32(y) + math.tanh(cell[2])) / np.float32(height)
                boxes[count, 2], boxes[count, 3] = one / (one + math.exp(-cell[3])), one / (one + math.exp(-cell[4]))
                count += 1
    return of[:count].copy(), boxes[:count].copy(), scores[:count].copy(), best[:count].copy()


@njit(nogil=True, cache=True, error_model="numpy")
def _best(row: Floats, labels: Ints) -> int:
    """The label with the highest score, the first of several."""
    label = 0
    for each in range(1, len(labels)):
        if row[labels[each]] > row[labels[label]]:
            label = each
    return label


@njit(nogil=True, cache=True, error_model="numpy")
def _rows(picture: Floats, last: int, floor: np.float32, flags: NDArray[np.int32]) -> None:
    """How many scores are not below the floor, NaN among them: sums of whole numbers need no order, so the compiler
    takes many at once, which it may not with a maximum of floats."""
    for box in range(len(picture)):
        count = np.int32(0)
        for value in picture[box, 4:last]:
            count += np.int32(0) if value < floor else np.int32(1)
        flags[box] = count


@njit(nogil=True, cache=True, error_model="numpy")
def _columns(picture: Floats, last: int, floor: np.float32, flags: NDArray[np.int32]) -> None:
    for column in range(4, last):
        values = picture[column]
        for box in range(len(values)):
            flags[box] |= np.int32(0) if values[box] < floor else np.int32(1)


@njit(nogil=True, cache=True, error_model="numpy")
def _has_nan(picture: Floats, by_row: bool, first: int, last: int) -> bool:
    """Whether one of these columns has NaN."""
    count = np.int32(0)
    part = picture[:, first:last] if by_row else picture[first:last]
    for values in part:
        for value in values:
            count += np.int32(value != value)
    return bool(count > 0)
