"""A site with zones and a distance rule, and frames of moving boxes before its cameras."""

from __future__ import annotations

import numpy as np

from streams.pipelines.vision.camera import Frame
from streams.sites import Camera, UnsafeDistance, Vision, Zone
from tests.models.moving_boxes import HEIGHT, WIDTH, watch

LABELS = ("person", "forklift")
ZONES = (
    Zone("left", ((0, 0), (0.4, 0), (0.4, 1), (0, 1)), loiter_s=2.0),
    Zone("dock", ((500, 300), (900, 260), (1000, 720), (450, 720)), ("person",), inertia_frames=2),
    Zone("lane", ((0.0, 0.5), (1.0, 0.5), (1.0, 0.8), (0.0, 0.8)), ("forklift",)),
)
# 100 px are a metre, as seen from above.
FLAT_GROUND = ((0.01, 0.0, 0.0), (0.0, 0.01, 0.0), (0.0, 0.0, 1.0))
CLOSE = UnsafeDistance(("person", "forklift"), 1.5, clear_s=0.4)
SITE = Vision(
    cameras=(Camera("gate", ZONES, FLAT_GROUND), Camera("yard", ZONES)),
    unsafe_distances=(CLOSE,),
    update_interval_s=1.0,
    stationary_s=2.0,
)


def film(camera_id: str, objects: int, frames: int, seed: int, first_offset: int = 0, fps: float = 25.0) -> list[Frame]:
    """Frames of one camera with offsets and numbers from `first_offset` and 0."""
    return [
        Frame(
            camera_id, first_offset + number, number, seen.time_ms, WIDTH, HEIGHT, seen.boxes, seen.scores, seen.classes
        )
        for number, seen in enumerate(watch(objects, frames, seed, fps))
    ]


def shown(
    number: int, time_ms: int, *objects: tuple[int, float, tuple[float, float, float, float]], offset: int | None = None
) -> Frame:
    """A frame of camera `gate` with these classes, scores and boxes."""
    boxes = np.array([box for _, _, box in objects], np.float32).reshape(-1, 4)
    scores, classes = np.array([s for _, s, _ in objects], np.float32), np.array([c for c, _, _ in objects], np.int64)
    return Frame("gate", number if offset is None else offset, number, time_ms, WIDTH, HEIGHT, boxes, scores, classes)
