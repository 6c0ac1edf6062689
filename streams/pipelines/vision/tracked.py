"""What becomes of a detector's objects: tracks, lives, zones and distances of each camera."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.repository import Model
from models.vision.placement import Placed, in_source
from streams.clock import Clock
from streams.errors import SettingsError
from streams.pipeline import Beside, Rows
from streams.pipelines.vision.camera import Frame
from streams.pipelines.vision.cameras import Cameras, Sites, warm_up
from streams.pipelines.vision.frames import Frames, Sighting
from streams.pipelines.vision.served import MAX_OBJECTS, Seeing, VisionModel
from streams.settings import Vision
from streams.sites import check_scenes


class Tracked:
    """The task `detect`, as `streams.pipelines.vision.pipeline.Task` asks for it."""

    prediction_shape = (MAX_OBJECTS, 6)

    def __init__(self, settings: Vision, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._sites = Sites(settings)
        self._encode = msgspec.json.Encoder().encode
        self.topics_beside = (settings.events,)

    def serve(self, loaded: Model) -> VisionModel:
        try:
            check_scenes(self._settings, loaded.manifest.labels)
        except ValueError as error:
            raise SettingsError(f"vision.{error} (model {loaded.reference})") from None
        return VisionModel(loaded, self._settings)

    def warm_up(self) -> None:
        warm_up()
        in_source(np.zeros((1, 1, 6), np.float32), np.ones((1, 4), np.float32), np.ones((1, 2), np.int64))

    def new_store(self) -> Cameras:
        return Cameras(self._sites)

    def conclude(
        self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: Cameras, served: Seeing
    ) -> None:
        picked = rows.tolist()
        seen_in = predictions, columns.placements, columns.sizes
        found = in_source(*(seen_in if len(rows) == len(columns) else (each[rows] for each in seen_in)))
        frames = [_frame(columns, row, objects) for row, objects in zip(picked, found, strict=True)]
        seen = store.apply(frames, served.labels, int(self._clock.time() * 1000))
        for row, sighting in zip(picked, map(Sighting, frames, seen), strict=True):
            columns.seen[row] = sighting

    def beside(self, columns: Frames) -> Sequence[Beside]:
        return [
            Beside(self._settings.events, place, self._encode(event))
            for place, sighting in enumerate(columns.seen)
            if sighting is not None
            for event in sighting.seen.events
        ]


def _frame(columns: Frames, row: int, objects: Placed) -> Frame:
    """One frame's detections."""
    width, height = columns.sizes[row].tolist()
    return Frame(
        columns.cameras[row],
        int(columns.offset[row]),
        int(columns.frame[row]),
        int(columns.event_time_ms[row]),
        width,
        height,
        *objects,
    )
