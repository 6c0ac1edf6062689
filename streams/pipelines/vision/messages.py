"""What is said of a frame, as the message that leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.clock import rfc3339
from streams.pipelines.vision.camera import Frame, Seen
from streams.pipelines.vision.frames import Frames
from streams.pipelines.vision.objects import PIXEL_DIGITS, SCORE_DIGITS
from streams.schemas import DetectedObject, PictureClass, VideoDetections


def detections(
    frame: Frame, seen: Seen, labels: Sequence[str], model: str, least_score: float, weakest: float
) -> VideoDetections:
    """A frame's objects: those with at least this score, and weaker ones that are followed.

    Args:
        labels: names of the classes.
        least_score: of an object that is not followed.
        weakest: the least score of one that is.
    """
    boxes = np.asarray(frame.boxes, np.float64).round(PIXEL_DIGITS).tolist()
    scores = np.asarray(frame.scores, np.float64).round(SCORE_DIGITS).tolist()
    rows = zip(frame.classes.tolist(), scores, boxes, seen.ids.tolist(), seen.zones, strict=True)
    objects = [
        DetectedObject(
            labels[number] if 0 <= number < len(labels) else str(number), score, tuple(box),
            track_id if track_id > 0 else None, zones,
        )
        for number, score, box, track_id, zones in rows
        if score >= (weakest if track_id > 0 else least_score) and all(map(math.isfinite, box))
    ]  # fmt: skip
    return VideoDetections(
        frame.camera_id, frame.number, rfc3339(frame.event_time_ms / 1000), frame.width, frame.height, objects, model
    )


def classes(frames: Frames, row: int, best: NDArray[np.float32], labels: Sequence[str], model: str) -> VideoDetections:
    """What one frame shows as a whole.

    Args:
        best: float32 [k, 2] of label and score, best first; a label of -1 is none.
        labels: names of the classes.
    """
    width, height = frames.sizes[row].tolist()
    scores = np.round(best[:, 1].astype(np.float64), SCORE_DIGITS).tolist()
    numbers = best[:, 0].astype(np.int64).tolist()
    found = [PictureClass(labels[each], score) for each, score in zip(numbers, scores, strict=True) if each >= 0]
    moment = rfc3339(int(frames.event_time_ms[row]) / 1000)
    return VideoDetections(frames.cameras[row], int(frames.frame[row]), moment, width, height, [], model, classes=found)
