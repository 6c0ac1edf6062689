"""One version of a detector, ready to serve: its engine, its pre-processing; and what versions of any task share."""

from __future__ import annotations

import os
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.repository import Model
from models.selection import EngineOptions
from models.vision.detector import Detector
from models.vision.preprocess import Preprocess
from streams.engined import Engined
from streams.pipeline import Opened
from streams.pipelines.vision.frames import Fit, Frames
from streams.pipelines.vision.messages import detections
from streams.settings import Vision

MAX_OBJECTS = 300  # of one frame, the surest ones
INSTANCES_ON_CPU = 4  # where there are as many cores
INSTANCES_ON_GPU = 2  # the next micro-batch is decoded while one is on the device


def threads(settings: Vision) -> int:
    """How many threads decode, and compute where there is no GPU."""
    return settings.threads or os.cpu_count() or 1


def instances(settings: Vision, engine: str) -> int:
    """How many micro-batches are decoded and inferred at once, each by its share of the threads.

    Cores do more with frames of their own than with parts of the same ones, since they never wait for each other. But
    where there are many, a frame would take long if it had only one of them.
    """
    return threads(settings) // _threads_each(settings) if engine.endswith("-cpu") else INSTANCES_ON_GPU


def engine_options(settings: Vision) -> EngineOptions:
    """How the engine of a model of any task is made: with the threads of one instance."""
    return EngineOptions(threads=_threads_each(settings), max_batch_size=settings.max_batch_size)


def _threads_each(settings: Vision) -> int:
    return max(1, threads(settings) // INSTANCES_ON_CPU)


class Seeing(Opened[Frames], Protocol):
    """A served version of any task."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes."""

    @property
    def fit(self) -> Fit:
        """What makes its features of pictures."""

    @property
    def frames_at_once(self) -> int:
        """How many frames a micro-batch may hold."""


class VisionModel(Engined):
    """Implements `Seeing`: objects in pixels of the network's input, which do for every frame.

    Raises:
        ModelError: the version cannot be served, or not by this pipeline.
    """

    def __init__(self, loaded: Model, settings: Vision) -> None:
        self.labels = loaded.manifest.labels
        self._least_score = Detector(loaded.manifest, settings.score_threshold).score
        self._weakest = settings.weakest
        self.fit = Preprocess(loaded.manifest)
        self.frames_at_once = settings.max_batch_size
        # Boxes that are too weak to be published still carry on with a track.
        low = min(self._least_score, settings.low_score)
        self._detector = Detector(loaded.manifest, low, settings.iou_threshold, MAX_OBJECTS)
        super().__init__(loaded, settings.engine, engine_options(settings))
        self._encode = msgspec.json.Encoder().encode

    def infer(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """float32 [n, MAX_OBJECTS, 6], as `Detector.decode` returns them, in pixels of the input."""
        outputs = self._engine.infer({self.fit.name: features})
        as_it_is, whole = np.empty((len(features), 4), np.float32), np.empty((len(features), 2), np.int64)
        as_it_is[:], whole[:] = (1, 1, 0, 0), (self.fit.picture.width, self.fit.picture.height)
        return self._detector.decode(outputs, as_it_is, whole)

    def encode(self, columns: Frames, features: NDArray[Any], predictions: NDArray[np.float32]) -> list[bytes]:
        return [
            self._encode(detections(*sighting, self.labels, self.model, self._least_score, self._weakest))
            for sighting in columns.seen
            if sighting is not None
        ]
