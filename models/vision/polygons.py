"""Which points lie in which polygons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vision.association import Float64, Int64, kernel


@kernel
def inside(points: Float64, corners: Float64, ends: Int64) -> NDArray[np.bool_]:
    """Whether each of n points lies in each of m polygons, by the rule of crossings.

    Of two polygons that share an edge, a point on it lies in one.

    Args:
        points: [n, 2].
        corners: [c, 2], of all polygons one behind the other.
        ends: [m], where each one's corners end.

    Returns:
        [n, m].
    """
    found = np.zeros((len(points), len(ends)), np.bool_)
    for i in range(len(points)):
        x, y = points[i, 0], points[i, 1]
        start = 0
        for j in range(len(ends)):
            before = ends[j] - 1
            for at in range(start, ends[j]):
                x1, y1, x2, y2 = corners[before, 0], corners[before, 1], corners[at, 0], corners[at, 1]
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    found[i, j] = not found[i, j]
                before = at
            start = ends[j]
    return found
