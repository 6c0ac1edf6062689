"""Non-maximum suppression: of boxes of one class that overlap too much, the one with the highest score stays."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_CANDIDATES = 4096
"""The most boxes of one picture that are compared, those with the highest scores."""


@njit(nogil=True, cache=True, error_model="numpy")
def ranked(
    picture: NDArray[np.int64], scores: NDArray[np.float32], pictures: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of candidates, by picture and falling score, at most `MAX_CANDIDATES` each, and where each starts.

    Args:
        picture: int64 [m], which picture a candidate is of, in no order.
        scores: float32 [m].
        pictures: how many there are.

    Returns: int64 [k] indices, int64 [pictures + 1] where in them each picture's begin. Equal scores stay in order.
    """
    starts = np.zeros(pictures + 1, np.int64)
    for each in range(len(picture)):
        starts[picture[each] + 1] += 1
    for each in range(pictures):
        starts[each + 1] = starts[each] + min(starts[each + 1], MAX_CANDIDATES)
    order, place = np.empty(starts[pictures], np.int64), starts.copy()
    for each in np.argsort(-scores, kind="mergesort"):
        own = picture[each]
        if place[own] < starts[own + 1]:
            order[place[own]] = each
            place[own] += 1
    return order, starts


@njit(nogil=True, cache=True, error_model="numpy")
def suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    starts: NDArray[np.int64],
    iou: float,
    out: NDArray[np.float32],
) -> None:
    """Write each picture's boxes that stay into its rows of `out`, best first, until they are full.

    A box goes where its intersection over union with one of its class that stays is above `iou`, or where it has no
    area. An `iou` of 1 keeps all. It costs at most `MAX_CANDIDATES` times the rows of `out`, whatever comes.

    Args:
        boxes: float32 [m, 4] of x1, y1, x2, y2, each picture's by falling score.
        scores: float32 [m].
        classes: int64 [m].
        starts: int64 [n + 1], where each picture's boxes begin.
        out: float32 [n, max_objects, 6], changed in place: x1, y1, x2, y2, score, class.

    References: the greedy algorithm of Felzenszwalb et al., Object Detection with Discriminatively Trained Part-Based
    Models, 2010, section 5.2, with intersection over union.
    """
    most = out.shape[1]
    for picture in range(len(starts) - 1):
        kept = 0
        for each in range(starts[picture], starts[picture + 1]):
            if kept == most:
                break
            x1, y1, x2, y2 = boxes[each, 0], boxes[each, 1], boxes[each, 2], boxes[each, 3]
            stays = x2 > x1 and y2 > y1
            if stays and iou < 1:
                area = (x2 - x1) * (y2 - y1)
                for other in range(kept):
                    row = out[picture, other]
                    if row[5] != classes[each]:
                        continue
                    width = min(x2, row[2]) - max(x1, row[0])
                    height = min(y2, row[3]) - max(y1, row[1])
                    if width > 0 and height > 0:
                        shared = width * height
                        if shared > iou * (area + (row[2] - row[0]) * (row[3] - row[1]) - shared):
                            stays = False
                            break
            if stays:
                row = out[picture, kept]
                row[0], row[1], row[2], row[3] = x1, y1, x2, y2
                row[4], row[5] = scores[each], classes[each]
                kept += 1
