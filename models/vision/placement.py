"""Objects in pixels of a network's input, put into pixels of the picture that they were seen in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_source(
    objects: NDArray[np.float32], placements: NDArray[np.float32], sizes: NDArray[Any]
) -> list[NDArray[np.float32]]:
    """The objects of each picture; those of which nothing lies inside it are left out.

    Args:
        objects: float32 [n, m, 6] of x1, y1, x2, y2 in pixels of the input, score and label; below 0: none.
        placements: float32 [n, 4], as `Preprocess.one` returns them.
        sizes: int [n, 2], width and height of each picture.

    Returns: n arrays float32 [k, 6], boxes clipped to the picture.

    Example:
        >>> seen = np.array([[[104, 52, 208, 104, 0.9, 2], [0, 0, 0, 0, 0, -1]]], np.float32)
        >>> in_source(seen, np.array([[0.65, 0.65, 0, 0]], np.float32), np.array([[640, 480]]))[0].tolist()
        [[160.0, 80.0, 320.0, 160.0, 0.8999999761581421, 2.0]]
    """
    used = objects[:, :, 5] >= 0
    counts = used.sum(axis=1)
    picture = np.repeat(np.arange(len(objects)), counts)
    found = objects[used]
    corners = (found[:, :4].reshape(-1, 2, 2) - placements[picture, None, 2:]) / placements[picture, None, :2]
    np.clip(corners, 0, sizes.astype(np.float32)[picture, None], out=corners)
    found[:, :4] = corners.reshape(-1, 4)
    inside = (found[:, 2:4] > found[:, :2]).all(axis=1)
    found = found[inside]
    ends = np.cumsum(np.bincount(picture[inside], minlength=len(objects))).tolist()
    return [found[start:end] for start, end in zip([0, *ends], ends, strict=False)]
