"""Video frames in; objects with tracks out, and what an operator wants to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from models.repository import Model
from models.vision.placement import in_source
from streams.clock import Clock, SystemClock
from streams.errors import SettingsError
from streams.freshness import LatestPerKey
from streams.pipeline import Beside, Decoded, Rows
from streams.pipelines.vision.camera import Frame
from streams.pipelines.vision.cameras import Cameras, Sites, warm_up
from streams.pipelines.vision.frames import FrameDecoder, Frames, Sighting
from streams.pipelines.vision.served import MAX_OBJECTS, VisionModel, instances, threads
from streams.records import RecordBatch
from streams.settings import Models, Vision
from streams.sites import check_scenes
from streams.versions import Versions


class VisionPipeline:
    """The vision domain, as `streams.pipeline.Following` asks for it; `FrameDecoder` says what is poison."""

    name = "vision"
    table = None
    comparable = False
    prediction_shape = (MAX_OBJECTS, 6)

    def __init__(self, settings: Vision, models: Models | None = None, clock: Clock | None = None) -> None:
        self._settings = settings
        self._versions = Versions((models or Models()).repository(), self.name, settings.model, settings.version)
        self.rollout_of = settings.model
        self.served = self._serve(self._versions.first())
        self.input_topic, self.output_topic = settings.input, settings.output
        self.topics_beside = (settings.events,)
        self.max_message_bytes = settings.max_message_bytes
        self.batch = settings.batch
        latest = settings.freshness == "latest-per-key"
        self.freshness = LatestPerKey(settings.staleness_bound_s, settings.max_batch_size) if latest else None
        self.instances = instances(settings, self.served.engine)
        each = threads(settings) // self.instances
        self._threads = ThreadPoolExecutor(threads(settings), "vision-decode") if each > 1 else None
        self._sites = Sites(settings)
        self._clock = clock or SystemClock()
        self._encode = msgspec.json.Encoder().encode
        self._decoder = FrameDecoder(settings, lambda: self.served.preprocess, self._threads, self._clock)

    def open(self, version: int, sha256: str) -> VisionModel:
        """Make another version ready, as `streams.serving` asks for it; from any thread.

        Raises:
            ModelError, SettingsError: it must not serve.
        """
        return self._serve(self._versions.asked(version, sha256))

    def _serve(self, loaded: Model) -> VisionModel:
        try:
            check_scenes(self._settings, loaded.manifest.labels)
        except ValueError as error:
            raise SettingsError(f"vision.{error} (model {loaded.reference})") from None
        return VisionModel(loaded, self._settings)

    def warm_up(self) -> None:
        # Frames are shared among threads of the pipeline's own; OpenCV's would contend with them within each resize.
        cv2.setNumThreads(1)
        warm_up()
        self.served.infer(np.zeros_like(self.served.preprocess.batch(1)))  # the detector's kernel, too

    def new_store(self) -> Cameras:
        return Cameras(self._sites)

    def decode(self, batch: RecordBatch) -> Decoded[Frames]:
        return self._decoder(batch)

    def features(self, columns: Frames, store: Cameras) -> NDArray[Any]:
        return columns.tensor

    def conclude(self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: Cameras) -> None:
        found = in_source(predictions[rows], columns.placements[rows], columns.sizes[rows])
        picked = rows.tolist()
        frames = [_frame(columns, row, objects) for row, objects in zip(picked, found, strict=True)]
        seen = store.apply(frames, self.served.labels, int(self._clock.time() * 1000))
        for row, sighting in zip(picked, map(Sighting, frames, seen), strict=True):
            columns.seen[row] = sighting

    def beside(self, columns: Frames) -> Sequence[Beside]:
        return [
            Beside(self._settings.events, place, self._encode(event))
            for place, sighting in enumerate(columns.seen)
            if sighting is not None
            for event in sighting.seen.events
        ]

    def close(self) -> None:
        """Release the model and the threads."""
        self.served.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _frame(columns: Frames, row: int, objects: NDArray[np.float32]) -> Frame:
    """One frame's detections: float32 [k, 6] of box in pixels, score and class."""
    width, height = columns.sizes[row].tolist()
    return Frame(
        columns.cameras[row],
        int(columns.offset[row]),
        int(columns.frame[row]),
        int(columns.event_time_ms[row]),
        width,
        height,
        objects[:, :4],
        objects[:, 4],
        objects[:, 5].astype(np.int64),
    )
