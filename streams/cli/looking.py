"""A detector and a tracker over the frames of one camera, as `headrace predict vision` runs them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.vision.detector import Detector
from models.vision.pictures import Picture, PictureError, decode
from models.vision.preprocess import Preprocess
from streams.pipelines.vision.camera import Frame
from streams.pipelines.vision.cameras import Cameras, Sites
from streams.pipelines.vision.messages import detections
from streams.settings import Vision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from connectors.video import VideoFrame
    from models.engine import Engine
    from models.repository import Model
    from streams.schemas import VideoDetections

THREADS = 4


@dataclass(frozen=True)
class Look:
    """One frame that was looked at: its picture and its message, or why it is a dead letter."""

    frame: VideoFrame
    pixels: NDArray[np.uint8] | None = None
    message: VideoDetections | None = None
    stage: str = ""
    kind: str = ""
    reason: str = ""


class Eye:
    """A detector and, where it follows, a tracker.

    Raises: ModelIncompatible where the model is no detector. While looking: ModelError.
    """

    def __init__(self, model: Model, engine: Engine, camera: str, score: float | None, *, follows: bool) -> None:
        self._engine, self._camera, self._follows = engine, camera, follows
        self._preprocess = Preprocess(model.manifest)
        known = Detector(model.manifest)
        self._least = known.score if score is None else score
        settings = Vision()
        self._detector = Detector(
            model.manifest, score=min(self._least, settings.low_score) if follows else self._least
        )
        self._sites = Sites(settings)
        self._cameras = Cameras(self._sites)
        self._reference = model.reference
        self._pool = ThreadPoolExecutor(THREADS, "decode")

    def __enter__(self) -> Eye:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def look(self, frames: list[VideoFrame]) -> list[Look]:
        """At several frames, in order."""
        pictures = list(self._pool.map(self._decode, frames))
        seen = [each for each in pictures if not isinstance(each, Look)]
        batch = self._preprocess.batch(len(seen))
        if not seen:
            return [each for each in pictures if isinstance(each, Look)]
        rows = zip(seen, batch, strict=True)
        placements = np.stack(list(self._pool.map(lambda row: self._preprocess.one(row[0].pixels, row[1]), rows)))
        sizes = np.array([(each.width, each.height) for each in seen])
        found = iter(self._detector.decode(self._engine.infer({self._preprocess.name: batch}), placements, sizes))
        return [
            each if isinstance(each, Look) else self._told(frame, each, next(found))
            for frame, each in zip(frames, pictures, strict=True)
        ]

    def _decode(self, frame: VideoFrame) -> Picture | Look:
        try:
            return decode(frame.value)
        except PictureError as error:
            return Look(frame, stage="decode", kind=error.kind, reason=error.message)

    def _told(self, frame: VideoFrame, picture: Picture, rows: NDArray[np.float32]) -> Look:
        if np.isnan(rows).any():
            return Look(frame, stage="infer", kind="NotANumber", reason=f"{self._reference} gave NaN for this frame")
        rows = rows[rows[:, 5] >= 0]
        shown = Frame(
            self._camera, frame.frame, frame.frame, frame.event_time_ms, picture.width, picture.height,
            rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64),
        )  # fmt: skip
        cameras = self._cameras if self._follows else Cameras(self._sites)
        (seen,) = cameras.apply([shown], self._detector.labels, frame.event_time_ms)
        message = detections(shown, seen, self._detector.labels, self._reference, self._least)
        return Look(frame, picture.pixels, message)
