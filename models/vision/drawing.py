"""What a network found, drawn onto the picture for people: boxes, labels, tracks and zones, or classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2

# Of one lightness, far apart in hue, and apart from asphalt, grass and sky; BGR.
PALETTE: tuple[Colour, ...] = (
    (255, 178, 56), (60, 160, 255), (120, 214, 76), (203, 130, 255), (72, 224, 255), (214, 206, 64),
    (128, 120, 255), (255, 140, 158), (66, 232, 190), (222, 222, 222),
)  # fmt: skip
ZONE: Colour = (255, 255, 255)
DARK: Colour = (32, 26, 22)
MOST_PLATES = 60  # of the best objects; beyond that, boxes alone

_WEIGHT = 600


@dataclass(frozen=True, slots=True)
class Shown:
    """One object.

    Args:
        box: x1, y1, x2, y2 in pixels of the picture.
        zones: names of those that it is in.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    track_id: int | None = None
    zones: Sequence[str] = ()

    @property
    def drawable(self) -> bool:
        """Whether its box is one."""
        x1, y1, x2, y2 = self.box
        return all(map(math.isfinite, self.box)) and x2 > x1 and y2 > y1


@dataclass(frozen=True, slots=True)
class Outline:
    """A zone: its corners in pixels of the picture."""

    name: str
    corners: Sequence[tuple[float, float]]


class Drawing:
    """Draws onto pictures of one camera or several; a label keeps its colour. Not thread-safe."""

    def __init__(self) -> None:
        self._font = cv2.FontFace("sans")
        self._colours: dict[str, Colour] = {}

    def draw(self, pixels: Pixels, objects: Sequence[Shown], zones: Sequence[Outline] = ()) -> None:
        """Draw onto a picture, uint8 [h, w, 3] BGR, in place.

        Args:
            objects: the best ones first; they are drawn over the others. Without an area they are left out.
        """
        line = max(1, round(math.sqrt(pixels.shape[0] * pixels.shape[1]) / 320))
        for zone in zones:
            self._zone(pixels, zone, line, any(zone.name in shown.zones for shown in objects))
        shown = [each for each in objects if each.drawable]
        for each in reversed(shown):
            self._box(pixels, each, line)
        taken: list[Rect] = []
        for each in shown[:MOST_PLATES]:
            taken.append(self._plate(pixels, each, line, taken))

    def classes(self, pixels: Pixels, classes: Sequence[tuple[str, float]]) -> None:
        """Write labels and scores into the upper left corner, one below the other, as many as there is room for."""
        size = _font_px(pixels)
        left, height = size // 2, round(size * 1.5)
        room = max(1, (pixels.shape[0] - left) // height)
        for place, (label, score) in enumerate(classes[:room]):
            text, top = f"{label}  {_percent(score)}", left + place * height
            right = left + self._width(text, size) + size
            self._words(pixels, text, (left, top, right, top + height), size, self.colour(label), DARK)

    def colour(self, label: str) -> Colour:
        """A label's colour: the same in every run, unless another label has come before and has it."""
        if label not in self._colours:
            start, used = crc32(label.encode()) % len(PALETTE), set(self._colours.values())
            wheel = [PALETTE[(start + step) % len(PALETTE)] for step in range(len(PALETTE))]
            self._colours[label] = next((each for each in wheel if each not in used), wheel[0])
        return self._colours[label]

    def _box(self, pixels: Pixels, shown: Shown, line: int) -> None:
        x1, y1, x2, y2 = _inside(shown.box, pixels)
        cv2.rectangle(pixels, (x1, y1), (x2, y2), DARK, line + 2)
        cv2.rectangle(pixels, (x1, y1), (x2, y2), self.colour(shown.label), line)

    def _plate(self, pixels: Pixels, shown: Shown, line: int, taken: Sequence[Rect]) -> Rect:
        """A small plate with the words: above the box, or where else there is room."""
        size = _font_px(pixels)
        text = shown.label if shown.track_id is None else f"{shown.label} #{shown.track_id}"
        text = f"{text}  {_percent(shown.score)}"
        width, height = self._width(text, size) + size, round(size * 1.5)
        place = _free(_inside(shown.box, pixels), width, height, line, pixels, taken)
        self._words(pixels, text, place, size, self.colour(shown.label), DARK)
        return place

    def _zone(self, pixels: Pixels, zone: Outline, line: int, occupied: bool) -> None:
        corners = np.array(zone.corners, np.float64).reshape(-1, 2)
        if len(corners) < 3 or not np.isfinite(corners).all():
            return
        polygon = np.clip(corners, -1e5, 1e5).round().astype(np.int32)
        veil = pixels.copy()
        cv2.fillPoly(veil, [polygon], ZONE)
        share = 0.28 if occupied else 0.14
        cv2.addWeighted(veil, share, pixels, 1 - share, 0, dst=pixels)
        cv2.polylines(pixels, [polygon], True, ZONE, line, cv2.LINE_AA)
        size = _font_px(pixels)
        width, height = self._width(zone.name, size) + size, round(size * 1.5)
        left = min(max(round(polygon[:, 0].mean() - width / 2), 0), pixels.shape[1])
        top = min(int(polygon[:, 1].max()), pixels.shape[0]) - height - line
        self._words(pixels, zone.name, (left, top, left + width, top + height), size, DARK, ZONE)

    def _width(self, text: str, size: int) -> int:
        return int(cv2.getTextSize((0, 0), text, (0, 0), self._font, size, _WEIGHT)[2])

    def _words(self, pixels: Pixels, text: str, place: Rect, size: int, ground: Colour, ink: Colour) -> None:
        x1, y1, x2, y2 = place
        cv2.rectangle(pixels, (x1, y1), (x2, y2), ground, cv2.FILLED)
        cv2.putText(pixels, text, (x1 + size // 2, y2 - round(size * 0.42)), ink, self._font, size, _WEIGHT)


def crop(pixels: Pixels, box: Sequence[float], margin: float = 0.1) -> Pixels:
    """What a box shows, with a margin as a share of its size: a view of uint8 [h, w, 3], not of no pixels."""
    x1, y1, x2, y2 = box
    wider, taller = (x2 - x1) * margin, (y2 - y1) * margin
    height, width = pixels.shape[:2]
    left, top = (
        math.floor(min(max(each, 0), limit - 1)) for each, limit in ((x1 - wider, width), (y1 - taller, height))
    )
    right, bottom = (
        math.ceil(min(max(each, least + 1), limit))
        for each, least, limit in ((x2 + wider, left, width), (y2 + taller, top, height))
    )
    return pixels[top:bottom, left:right]


def _percent(score: float) -> str:
    return f"{min(max(score, 0.0), 1.0) * 100:.0f}%"


def _font_px(pixels: Pixels) -> int:
    return max(10, round(math.sqrt(pixels.shape[0] * pixels.shape[1]) / 42))


def _inside(box: Sequence[float], pixels: Pixels) -> Rect:
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = box
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    return left, top, min(max(round(x2), left), width - 1), min(max(round(y2), top), height - 1)


def _free(box: Rect, width: int, height: int, line: int, pixels: Pixels, taken: Sequence[Rect]) -> Rect:
    """The first place of a plate where it lies in the picture and on no other plate: above the box, below it, inside
    at its upper or lower edge; else above it, or at its upper edge."""
    x1, y1, _, y2 = box
    rows, columns = pixels.shape[:2]
    left = max(min(x1 - line // 2, columns - width - 1), 0)
    tops = (y1 - height - line // 2, y2 + line // 2, y1 + line // 2, y2 - height - line // 2)
    places = [(left, top, left + width, top + height) for top in tops if top >= 0 and top + height < rows]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    upper = (left, max(y1 - height, 0), left + width, max(y1 - height, 0) + height)
    return next(free, places[0] if places else upper)


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
