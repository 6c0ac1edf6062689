"""Trackers over the same boxes, judged by an independent library.

`python -m tests.models.track_quality` prints the comparison.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.models.moving_boxes import Observed, watch

Ids = NDArray[np.int64]
Update = Callable[[Observed], tuple[Ids, NDArray[np.float32]]]
"""Track ids [m], and the boxes [m, 4] that they belong to."""


class Quality(NamedTuple):
    idf1: float
    switches: int
    microseconds: float


def judge(frames: Sequence[Observed], update: Update) -> Quality:
    """IDF1, identity switches, and processor time a frame."""
    import motmetrics

    judged = motmetrics.MOTAccumulator(auto_id=True)
    seconds = 0.0
    for frame in frames:
        started = time.process_time()
        ids, boxes = update(frame)
        seconds += time.process_time() - started
        judged.update(frame.ids, ids, distances(frame.truth, boxes))
    found = motmetrics.metrics.create().compute(judged, metrics=["idf1", "num_switches"], name="all")
    return Quality(float(found["idf1"]["all"]), int(found["num_switches"]["all"]), 1e6 * seconds / len(frames))


def distances(truth: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - IoU; NaN where it is above 0.6, no match. (Those of `motmetrics` fail with NumPy 2.)"""
    a, b = truth[:, None].astype(np.float64), boxes[None].astype(np.float64)
    both = np.prod((np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0), 2)
    areas = [np.prod(each[..., 2:] - each[..., :2], 2) for each in (a, b)]
    distances = 1 - both / np.maximum(areas[0] + areas[1] - both, 1e-9)
    return np.where(distances <= 0.6, distances, np.nan)


def library(name: str, fps: float) -> Update:
    """A tracker of the package `trackers`, two seconds of memory like ours."""
    import supervision
    import trackers

    tracker = getattr(trackers, name)(frame_rate=fps, lost_track_buffer=60)

    def update(frame: Observed) -> tuple[Ids, NDArray[np.float32]]:
        found = tracker.update(supervision.Detections(frame.boxes, confidence=frame.scores, class_id=frame.classes))
        known = found.tracker_id >= 0
        return found.tracker_id[known], found.xyxy[known]

    return update


def ours() -> Update:
    from models.vision.tracking import Tracker, warm_up

    tracker = Tracker()
    warm_up()

    def update(frame: Observed) -> tuple[Ids, NDArray[np.float32]]:
        ids = tracker.update(frame.boxes, frame.scores, frame.classes, frame.time_ms)
        return ids[ids > 0], frame.boxes[ids > 0]

    return update


def main() -> None:
    names = sys.argv[1:] or [
        "ours",
        "ByteTrackTracker",
        "OCSORTTracker",
        "SORTTracker",
        "CBIoUTracker",
        "BoTSORTTracker",
    ]
    for fps in (25.0, 8.0):
        for objects in (5, 10, 30):
            for name in names:
                runs = [
                    judge(watch(objects, int(24 * fps), seed, fps), ours() if name == "ours" else library(name, fps))
                    for seed in range(40, 44)
                ]
                idf1, switches, cost = np.mean(np.array(runs), 0)
                what = f"{fps:4.0f} fps {objects:3} objects {name:18}"
                sys.stdout.write(f"{what} IDF1 {idf1:.3f} switches {switches:6.1f} {cost:7.0f} us\n")


if __name__ == "__main__":
    main()
