"""Pictures with known boxes, kept as a detector's input takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engine import TrainingFailed

FILL = 114


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture and what is in it.

    Args:
        picture: uint8[h, w, 3], blue, green, red.
        boxes: float32[k, 4], x1, y1, x2, y2 in pixels.
        labels: int64[k], the classes' numbers.
    """

    picture: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes at a detector's input size.

    Args:
        pictures: uint8[n, h, w, 3], red, green, blue.
        boxes: n times float32[k, 4], x1, y1, x2, y2 in pixels of the input.
        labels: n times int64[k].
    """

    pictures: NDArray[np.uint8]
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.boxes)


def collect(scenes: Iterable[Scene], count: int, width: int, height: int) -> SceneSet:
    """The first `count` scenes, scaled to fit into width and height, from the top left corner, the rest grey.

    Raises:
        TrainingFailed: There are fewer, or a scene's boxes and labels do not belong together.
    """
    pictures = np.full((count, height, width, 3), FILL, np.uint8)
    boxes: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    for scene in scenes:
        if len(boxes) == count:
            break
        if scene.boxes.shape != (len(scene.labels), 4) or scene.picture.ndim != 3 or scene.picture.shape[2] != 3:
            raise TrainingFailed(
                f"collecting scene {len(boxes)}: expected a picture [h, w, 3] and boxes [k, 4] with k labels, got "
                f"{list(scene.picture.shape)}, {list(scene.boxes.shape)} and {len(scene.labels)}"
            )
        scale = place(scene.picture, pictures[len(boxes)])
        boxes.append((scene.boxes * scale).astype(np.float32))
        labels.append(scene.labels)
    if len(boxes) < count or not count:
        raise TrainingFailed(f"collecting scenes: expected {max(count, 1)}, got {len(boxes)}")
    return SceneSet(pictures, boxes, labels)


def place(picture: NDArray[np.uint8], out: NDArray[np.uint8]) -> float:
    """Write a picture, blue first, into the top left of `out`, red first, as large as fits; returns the scale."""
    import cv2

    scale: float = min(out.shape[1] / picture.shape[1], out.shape[0] / picture.shape[0])
    width, height = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    out[:height, :width] = resized[:, :, ::-1]
    return scale
