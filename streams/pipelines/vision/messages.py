"""What is said of a frame, as the message that leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streams.clock import rfc3339
from streams.pipelines.vision.camera import Frame, Seen
from streams.pipelines.vision.objects import PIXEL_DIGITS, SCORE_DIGITS
from streams.schemas import DetectedObject, VideoDetections


def detections(frame: Frame, seen: Seen, labels: Sequence[str], model: str, least_score: float) -> VideoDetections:
    """A frame's objects: those that are followed, and those with at least this score.

    Args:
        labels: names of the classes.
        least_score: below it lie boxes that served to go on with tracks.
    """
    boxes = np.round(np.asarray(frame.boxes, np.float64), PIXEL_DIGITS).tolist()
    scores = np.round(np.asarray(frame.scores, np.float64), SCORE_DIGITS).tolist()
    rows = zip(frame.classes.tolist(), scores, boxes, seen.ids.tolist(), seen.zones, strict=True)
    objects = [
        DetectedObject(
            labels[number] if 0 <= number < len(labels) else str(number), score, tuple(box),
            track_id if track_id > 0 else None, zones,
        )
        for number, score, box, track_id, zones in rows
        if (track_id > 0 or score >= least_score) and all(map(math.isfinite, box))
    ]  # fmt: skip
    return VideoDetections(
        frame.camera_id, frame.number, rfc3339(frame.event_time_ms / 1000), frame.width, frame.height, objects, model
    )
