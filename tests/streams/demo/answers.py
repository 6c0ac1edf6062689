"""Frames and what a worker says of them, as the demo gets them back."""

from __future__ import annotations

import numpy as np

from connectors.jpeg import encode_jpeg
from streams.demo.cameras import CameraView, SiteView
from streams.schemas import DetectedObject, VideoDetections, VideoEvent

WIDTH, HEIGHT = 160, 120
BOX = (40.0, 50.0, 80.0, 110.0)
GREY = encode_jpeg(np.full((HEIGHT, WIDTH, 3), 120, np.uint8))


def found(camera: str, frame: int | None, *objects: DetectedObject) -> VideoDetections:
    """What there is in a frame."""
    return VideoDetections(camera, frame, "2026-01-02T03:04:05.000Z", WIDTH, HEIGHT, list(objects), "vision/1")


def thing(label: str, track_id: int | None = None) -> DetectedObject:
    """An object in BOX."""
    return DetectedObject(label, 0.9, BOX, track_id, [])


def event(kind: str, **fields: object) -> VideoEvent:
    """Something about person #3 before camera `gate`."""
    basis = {"frame": 7, "event_time": "2026-01-02T03:04:05.000Z", "track_id": 3, "label": "person", "score": 0.9}
    rest = {"box": BOX, "zones": [], "first_seen": "2026-01-02T03:04:01.000Z"}
    return VideoEvent(kind=kind, camera_id="gate", **{**basis, **rest, **fields})  # type: ignore[arg-type]


def site(*names: str) -> SiteView:
    """Cameras that look at a yard."""
    return SiteView([CameraView(name, "yard") for name in names])
