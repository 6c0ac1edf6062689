"""Tracks through the whole pipeline on simulated cameras that the detector has not seen, by an independent library."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.jpeg import encode_jpeg
from connectors.simulators.camera import Frame, Site
from streams.pipelines.vision.pipeline import VisionPipeline
from streams.replay import Replay
from streams.settings import Vision
from tests.models.track_quality import distances

SEED, FRAMES, FPS = 77, 200, 10.0
CLEAR, SMALLEST_PX = 0.5, 16  # of what is less to be seen nobody can demand to follow it


def _boxes(boxes: list[list[float]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _clear(frame: Frame) -> dict[int, tuple[int, ...]]:
    return {
        each.track: each.box
        for each in frame.truth
        if each.visibility >= CLEAR and min(each.box[2] - each.box[0], each.box[3] - each.box[1]) >= SMALLEST_PX
    }


def test_objects_keep_their_ids_on_cameras_that_nobody_has_seen() -> None:
    motmetrics = pytest.importorskip("motmetrics")
    site, judged = Site(seed=SEED, cameras=3, fps=FPS), []
    pipeline = VisionPipeline(Vision())
    for number in range(site.cameras):
        camera = site.camera(number)
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        replay = Replay(pipeline)
        for frame in islice(camera, FRAMES):
            headers = [[("event-time", str(frame.event_time_ms).encode())]]
            replayed = replay.process([camera.camera_id.encode()], [encode_jpeg(frame.picture)], headers)
            assert not replayed.dead_letters
            seen = [each for each in json.loads(replayed.values[0] or b"")["objects"] if each["track_id"]]
            clear, present = _clear(frame), {each.track: each.box for each in frame.truth}
            found = _boxes([each["box"] for each in seen])
            # What follows an object that is hardly to be seen is neither right nor wrong.
            hardly = _boxes([list(box) for track, box in present.items() if track not in clear])
            kept = ~(np.isfinite(distances(hardly, found)).any(axis=0) if len(hardly) else np.zeros(len(found), bool))
            kept |= np.isfinite(distances(_boxes([list(box) for box in clear.values()]), found)).any(axis=0)
            ids = [each["track_id"] for each, keep in zip(seen, kept.tolist(), strict=True) if keep]
            accumulator.update(list(clear), ids, distances(_boxes([list(box) for box in clear.values()]), found[kept]))
        judged.append(accumulator)
    pipeline.close()
    metrics = ["idf1", "num_switches", "num_unique_objects", "mota"]
    found = motmetrics.metrics.create().compute_many(judged, metrics=metrics, generate_overall=True).loc["OVERALL"]
    assert found["num_unique_objects"] > 20
    assert found["idf1"] > 0.8, found
    assert found["num_switches"] <= found["num_unique_objects"] / 2, found
