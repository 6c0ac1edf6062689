"""Objects in pixels of a network's input, put into pixels of the picture that they were seen in."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Placed(NamedTuple):
    """The objects of one picture, in its pixels: float64 [k, 4] of x1, y1, x2, y2, float64 [k], int64 [k]."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


def in_source(objects: NDArray[np.float32], placements: NDArray[np.float32], sizes: NDArray[Any]) -> list[Placed]:
    """The objects of each picture; those of which nothing lies inside it are left out.

    Args:
        objects: float32 [n, m, 6] of x1, y1, x2, y2 in pixels of the input, score and label; below 0: none.
        placements: float32 [n, 4], as `Preprocess.one` returns them.
        sizes: int [n, 2], width and height of each picture.

    Returns: n of them, boxes clipped to the picture.

    Example:
        >>> seen = np.array([[[104, 52, 208, 104, 0.9, 2], [0, 0, 0, 0, 0, -1]]], np.float32)
        >>> placed, = in_source(seen, np.array([[0.65, 0.65, 0, 0]], np.float32), np.array([[640, 480]]))
        >>> placed.boxes.tolist(), placed.scores.tolist(), placed.classes.tolist()
        ([[160.0, 80.0, 320.0, 160.0]], [0.8999999761581421], [2])
    """
    placements, sizes = np.array(placements, np.float32), np.array(sizes, np.float32)
    boxes, scores, classes, ends = _shown(np.array(objects, np.float32), placements, sizes)
    starts = [0, *ends.tolist()]
    return [Placed(boxes[at:end], scores[at:end], classes[at:end]) for at, end in itertools.pairwise(starts)]


@njit(nogil=True, cache=True, error_model="numpy")
def _shown(
    objects: NDArray[np.float32], placements: NDArray[np.float32], sizes: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """What `in_source` returns, one picture behind the other, and where each one's end: int64 [n]."""
    most = 0
    for picture in range(len(objects)):
        for each in range(objects.shape[1]):
            most += objects[picture, each, 5] >= 0
    boxes, scores, classes = np.empty((most, 4)), np.empty(most), np.empty(most, np.int64)
    ends = np.empty(len(objects), np.int64)
    row = np.empty(4, np.float32)
    count = 0
    for picture in range(len(objects)):
        for each in range(objects.shape[1]):
            if objects[picture, each, 5] >= 0:
                to_source(objects[picture, each], placements[picture], row)
                clip(row, sizes[picture])
                if row[2] > row[0] and row[3] > row[1]:
                    for side in range(4):
                        boxes[count, side] = row[side]
                    scores[count], classes[count] = objects[picture, each, 4], np.int64(objects[picture, each, 5])
                    count += 1
        ends[picture] = count
    return boxes[:count], scores[:count], classes[:count], ends


@njit(nogil=True, cache=True, error_model="numpy")
def to_source(box: NDArray[np.float32], placement: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """A box from pixels of the input to pixels of its picture, wherever that lies."""
    for axis in range(4):
        out[axis] = (box[axis] - placement[2 + axis % 2]) / placement[axis % 2]


@njit(nogil=True, cache=True, error_model="numpy")
def clip(box: NDArray[np.float32], size: NDArray[np.float32]) -> None:
    """Cut a box off where its picture ends."""
    for axis in range(4):
        box[axis] = min(max(box[axis], np.float32(0)), size[axis % 2])
