"""What a camera adds to the light that it sees: lens blur, rain before it, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SPARE_PX = 48  # noise and rain are cut from larger sheets at another place each frame


class Sensor:
    """A lens and a chip, the same for all frames of a camera.

    Args:
        width, height: of the picture.
        rng: the camera's generator of looks; frames take their own.
    """

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self._size = width, height
        self._blur = float(rng.choice([0.0, 0.0, 0.5, 0.7, 0.9, 1.2]))
        self._grain = float(rng.uniform(0.7, 1.6))
        self._sheet = rng.standard_normal((height + _SPARE_PX, width + _SPARE_PX, 3)).astype(np.float32)
        self._sheet += 0.7 * rng.standard_normal((height + _SPARE_PX, width + _SPARE_PX, 1)).astype(np.float32)
        self._streaks = _streaks(width, height, rng)
        self._lighter = self._darker = np.zeros((0, 0, 3), np.uint8)

    def adapt(self, night: float) -> None:
        """Set the gain for the light: darkness brings noise."""
        deviation = self._grain * (2.0 + 5.5 * night)
        noise = self._sheet * deviation
        self._lighter = noise.clip(0, 255).astype(np.uint8)
        self._darker = (-noise).clip(0, 255).astype(np.uint8)

    def exposed(
        self, picture: NDArray[np.uint8], rain: float, shake_px: float, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """A frame of what is there, uint8[h, w, 3]."""
        import cv2

        if rain > 0.05:
            streaks = cv2.LUT(self._cut(self._streaks, rng), (np.arange(256) * rain).clip(0, 255).astype(np.uint8))
            picture = cv2.add(picture, cv2.merge([streaks, streaks, streaks])).astype(np.uint8)
        if self._blur:
            picture = cv2.GaussianBlur(picture, (0, 0) if self._blur > 1 else (3, 3), self._blur).astype(np.uint8)
        if shake_px > 1.5:
            picture = cv2.blur(picture, (1, round(shake_px))).astype(np.uint8)
        lit = cv2.add(picture, self._cut(self._lighter, rng))
        return cv2.subtract(lit, self._cut(self._darker, rng)).astype(np.uint8)

    def _cut(self, sheet: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        x, y = rng.integers(_SPARE_PX, size=2).tolist()
        return sheet[y : y + self._size[1], x : x + self._size[0]]


def _streaks(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drops as they fall, uint8, a little larger than the picture."""
    import cv2

    sheet = np.zeros((height + _SPARE_PX, width + _SPARE_PX), np.uint8)
    for _ in range(round(width * height / 700)):
        x, y = rng.integers(width + _SPARE_PX), rng.integers(height + _SPARE_PX)
        long = int(rng.integers(6, 22)) * height // 480
        cv2.line(
            sheet, (int(x), int(y)), (int(x) - long // 7, int(y) + long), int(rng.integers(25, 95)), 1, cv2.LINE_AA
        )
    return sheet
