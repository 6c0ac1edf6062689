"""Polygons into pixels, and which pixels belong to which thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.solids import Polygon

SHIFT = 4  # corners are drawn on a grid of 1/16 pixel
_SCALE = 1 << SHIFT
_FAR_PX = 20_000


@dataclass(frozen=True)
class Extent:
    """What of a thing is in the picture.

    Args:
        box: x1, y1, x2, y2 in pixels of what is visible; the far edges are exclusive.
        visible_px: how many of its pixels are seen.
        whole_px: how many there would be if nothing hid it and the picture had no edge.
    """

    box: tuple[int, int, int, int]
    visible_px: int
    whole_px: int

    @property
    def visibility(self) -> float:
        return min(1.0, self.visible_px / max(self.whole_px, 1))


class Painter:
    """Draws things over a picture, from far to near.

    Args:
        picture: uint8[h, w, 3], drawn into.
    """

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self.picture = picture
        self._owner = np.zeros(picture.shape[:2], np.uint8)
        self._whole: dict[int, tuple[int, tuple[int, int, int, int]]] = {}

    def paint(self, polygons: list[Polygon], thing: int) -> None:
        """Draw one thing's polygons in their order. `thing` is from 1 to 255; what is drawn later hides it."""
        import cv2

        if not polygons:
            return
        corners = [(points.clip(-_FAR_PX, _FAR_PX) * _SCALE).astype(np.int32) for points, _ in polygons]
        for points, (_, colour) in zip(corners, polygons, strict=True):
            cv2.fillPoly(self.picture, [points], colour, cv2.LINE_AA, SHIFT)
        self._own(corners, thing)

    def hide(self, mask: NDArray[np.uint8], background: NDArray[np.uint8], place: tuple[int, int, int, int]) -> None:
        """Copy what stands in the background (`mask` within `place`: x1, y1, x2, y2) in front of all drawn so far."""
        import cv2

        left, top, right, bottom = place
        cv2.copyTo(background[top:bottom, left:right], mask, self.picture[top:bottom, left:right])
        self._owner[top:bottom, left:right][mask > 127] = 0

    def extent(self, thing: int) -> Extent | None:
        """What is left to see of a thing; None where nothing is."""
        import cv2

        if thing not in self._whole:
            return None
        whole, (left, top, right, bottom) = self._whole[thing]
        own = (self._owner[top:bottom, left:right] == thing).view(np.uint8)
        x, y, width, height = cv2.boundingRect(own)
        if not width:
            return None
        box = (left + x, top + y, left + x + width, top + y + height)
        return Extent(box, int(cv2.countNonZero(own)), whole)

    def _own(self, corners: list[NDArray[np.int32]], thing: int) -> None:
        """Take the polygons' pixels, and count what they would be without the picture's edge."""
        import cv2

        every = np.concatenate(corners)
        low, high = every.min(axis=0) // _SCALE - 1, every.max(axis=0) // _SCALE + 2
        height, width = self.picture.shape[:2]
        # What is far beyond the edge is left out of the count: such a thing is hardly seen anyway.
        low, high = np.maximum(low, (-width, -height)), np.minimum(high, (2 * width, 2 * height))
        if (high <= low).any():
            return
        stencil = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        offset = (low * _SCALE).astype(np.int32)
        for points in corners:
            cv2.fillPoly(stencil, [points - offset], 255, cv2.LINE_8, SHIFT)
        left, top = max(low[0], 0), max(low[1], 0)
        right, bottom = min(high[0], width), min(high[1], height)
        if left >= right or top >= bottom:
            return
        inside = stencil[top - low[1] : bottom - low[1], left - low[0] : right - low[0]]
        self._owner[top:bottom, left:right][inside > 0] = thing
        self._whole[thing] = (int(cv2.countNonZero(stencil)), (int(left), int(top), int(right), int(bottom)))
