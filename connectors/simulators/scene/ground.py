"""The ground and the backdrop of a simulated site, before anything stands on it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.solids import Colour
from connectors.simulators.scene.vehicles import pick
from connectors.simulators.scene.viewpoint import Viewpoint

WAREHOUSE, YARD, SITE = "warehouse", "yard", "site"
STYLES = (YARD, WAREHOUSE, SITE)

_METRES, _PX_PER_M = 56.0, 20  # the ground's texture: a square ahead of the camera
_BASE: dict[str, tuple[Colour, ...]] = {
    YARD: ((104, 104, 106), (128, 130, 132), (92, 94, 98)),
    WAREHOUSE: ((142, 146, 148), (150, 148, 140), (128, 134, 132)),
    SITE: ((88, 118, 146), (104, 128, 148), (96, 112, 124)),
}
_PAINT: tuple[Colour, ...] = ((225, 228, 228), (60, 195, 225))


def ground(view: Viewpoint, style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The ground as the camera sees it, uint8[h, w, 3], in even light; what lies above the horizon is arbitrary."""
    import cv2

    texture = _texture(style, rng)
    # Texture pixel to ground metres: x from the middle, y from the far edge on.
    scale = 1 / _PX_PER_M
    to_ground = np.array([[scale, 0, -_METRES / 2], [0, -scale, _METRES], [0, 0, 1]])
    to_pixel = view.matrix[:, [0, 1, 3]] @ to_ground
    return cv2.warpPerspective(
        texture, to_pixel, (view.width, view.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    ).astype(np.uint8)


def clouded(rng: np.random.Generator, height: int, width: int, octaves: tuple[int, ...]) -> NDArray[np.float32]:
    """Smooth noise float32[h, w] of standard deviation about 1; each octave is the size of its blots in pixels."""
    import cv2

    total = np.zeros((height, width), np.float32)
    for size in octaves:
        coarse = rng.standard_normal((max(2, height // size + 2), max(2, width // size + 2))).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / math.sqrt(len(octaves))


def _texture(style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    size = int(_METRES * _PX_PER_M)
    base = np.array(pick(rng, _BASE[style], 2.5), np.float32) * float(rng.uniform(0.88, 1.12))
    rough = {YARD: 0.045, WAREHOUSE: 0.025, SITE: 0.085}[style]
    blots = 1 + rough * clouded(rng, size, size, (160, 40)) + 0.8 * rough * clouded(rng, size, size, (6, 2))
    texture = (base * blots[:, :, None]).clip(0, 255).astype(np.uint8)
    {YARD: _yard, WAREHOUSE: _hall, SITE: _dirt}[style](texture, rng)
    _stains(texture, rng)
    return texture


def _px(metres: float) -> int:
    return round(metres * _PX_PER_M)


def _yard(texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Asphalt: parking bays, a lane, arrows, manholes."""
    import cv2

    size, paint = len(texture), _PAINT[int(rng.random() < 0.3)]
    across = _px(float(rng.uniform(8, 20)))
    pitch, deep = _px(2.6), _px(5.0)
    start = int(rng.integers(pitch))
    for x in range(start, size, pitch):
        cv2.line(texture, (x, size - across), (x, size - across - deep), paint, 2, cv2.LINE_AA)
    cv2.line(texture, (0, size - across - deep), (size, size - across - deep), paint, 2, cv2.LINE_AA)
    lane = size - _px(float(rng.uniform(5, 7)))
    for x in range(0, size, _px(3)):
        cv2.line(texture, (x, lane), (x + _px(1.5), lane), paint, 3, cv2.LINE_AA)
    if rng.random() < 0.6:
        _crossing(texture, rng)
    for _ in range(int(rng.integers(1, 5))):
        place = (int(rng.integers(size)), int(rng.integers(size)))
        cv2.circle(texture, place, _px(0.35), (70, 70, 72), -1, cv2.LINE_AA)
        cv2.circle(texture, place, _px(0.35), (55, 55, 56), 1, cv2.LINE_AA)


def _crossing(texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    import cv2

    size = len(texture)
    middle, top = size // 2 + _px(float(rng.uniform(-8, 4))), size - _px(float(rng.uniform(12, 22)))
    for stripe in range(6):
        y = top + stripe * _px(0.9)
        cv2.rectangle(texture, (middle, y), (middle + _px(2.8), y + _px(0.45)), (222, 224, 224), -1)


def _hall(texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """A smooth floor: joints between slabs, yellow ways, hatched places to keep free."""
    import cv2

    size, slab = len(texture), _px(float(rng.uniform(4, 6)))
    for at in range(0, size, slab):
        cv2.line(texture, (at, 0), (at, size), (112, 114, 114), 1)
        cv2.line(texture, (0, at), (size, at), (112, 114, 114), 1)
    way = size // 2 + _px(float(rng.uniform(-6, 3)))
    for x in (way, way + _px(3.2)):
        cv2.line(texture, (x, 0), (x, size), _PAINT[1], 3, cv2.LINE_AA)
    if rng.random() < 0.5:
        y = size - _px(float(rng.uniform(9, 16)))
        for line in (y, y - _px(2.5)):
            cv2.line(texture, (0, line), (size, line), _PAINT[1], 3, cv2.LINE_AA)
    left, top = int(rng.integers(size - _px(5))), size - _px(float(rng.uniform(8, 24)))
    for step in range(0, _px(4), _px(0.4)):
        cv2.line(texture, (left + step, top), (left + step - _px(0.8), top + _px(1.6)), _PAINT[1], 2, cv2.LINE_AA)
    cv2.rectangle(texture, (left - _px(0.8), top), (left + _px(4), top + _px(1.6)), _PAINT[1], 2)


def _dirt(texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Earth with the tracks of wheels."""
    import cv2

    size = len(texture)
    shade = texture.copy()
    for _ in range(int(rng.integers(4, 9))):
        angle, along = float(rng.uniform(0, math.pi)), np.linspace(-1, 1, 40)
        bend = float(rng.uniform(-0.4, 0.4))
        middle = rng.uniform(0.2, 0.9, 2) * size
        line = np.stack([along * size, bend * along**2 * size], axis=1)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        for side in (-_px(0.9), _px(0.9)):
            points = ((line + np.array([0, side])) @ turn.T + middle).astype(np.int32)
            cv2.polylines(shade, [points], False, (62, 82, 100), _px(0.45), cv2.LINE_AA)
    cv2.addWeighted(shade, 0.4, texture, 0.6, 0, dst=texture)


def _stains(texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Oil, patches and puddles that show the sky."""
    import cv2

    size, layer = len(texture), texture.copy()
    for _ in range(int(rng.integers(4, 14))):
        place = (int(rng.integers(size)), size - int(rng.integers(_px(32))))
        axes = (_px(float(rng.uniform(0.3, 1.6))), _px(float(rng.uniform(0.2, 0.9))))
        colour: Colour = (205, 190, 178) if rng.random() < 0.3 else (70, 72, 74)
        cv2.ellipse(layer, place, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    cv2.addWeighted(layer, 0.45, texture, 0.55, 0, dst=texture)
