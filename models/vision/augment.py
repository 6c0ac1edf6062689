"""Pictures as another camera, lens or light would have shown them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vision.scenes import FILL

SMALLEST_PX = 4.0
KEPT_SHARE = 0.35  # of an object's area; one of which less is left inside the picture is not asked for

Picture = NDArray[np.uint8]
Objects = tuple[NDArray[np.float32], NDArray[np.int64]]


def augmented(picture: Picture, objects: Objects, rng: np.random.Generator) -> tuple[Picture, Objects]:
    """Mirrored, scaled, moved and recoloured, each by chance.

    Args:
        picture: uint8[h, w, 3], red, green, blue.
        objects: boxes float32[k, 4], x1, y1, x2, y2, and labels int64[k].
    """
    if rng.random() < 0.5:
        picture, objects = _mirrored(picture, objects)
    if rng.random() < 0.6:
        picture, objects = _moved(picture, objects, rng)
    return _recoloured(picture, rng), objects


def _mirrored(picture: Picture, objects: Objects) -> tuple[Picture, Objects]:
    boxes, labels = objects
    turned = boxes.copy()
    turned[:, [0, 2]] = picture.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(picture[:, ::-1]), (turned, labels)


def _moved(picture: Picture, objects: Objects, rng: np.random.Generator) -> tuple[Picture, Objects]:
    import cv2

    boxes, labels = objects
    height, width = picture.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.75), np.log(1.4))))
    # A larger picture is cut anywhere, a smaller one is put anywhere.
    left, top = rng.random(2) * (np.array([width, height]) * (1 - scale))
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    fill = (FILL, FILL, FILL)
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill).astype(np.uint8)
    whole = boxes * scale + np.array([left, top, left, top], np.float32)
    cut = np.clip(whole, 0, np.array([width, height, width, height])).astype(np.float32)
    size = cut[:, 2:] - cut[:, :2]
    kept = (size.min(axis=1, initial=np.inf) >= SMALLEST_PX) & (size.prod(axis=1) >= KEPT_SHARE * _areas(whole))
    return moved, (cut[kept], labels[kept])


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas


def _recoloured(picture: Picture, rng: np.random.Generator) -> Picture:
    """Another exposure, contrast and white balance."""
    import cv2

    gain = float(rng.uniform(0.7, 1.3)) * rng.uniform(0.92, 1.08, 3)
    gamma = float(rng.uniform(0.8, 1.25))
    levels = (np.arange(256) / 255) ** gamma * 255
    table = (levels[:, None] * gain + float(rng.uniform(-12, 12))).clip(0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[None]).astype(np.uint8)
