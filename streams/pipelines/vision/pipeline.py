"""Video frames in; out comes what the model's task makes of them: objects with tracks and events, or classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from models.engine import ModelError, ModelIncompatible
from models.repository import Model
from streams.clock import Clock, SystemClock
from streams.freshness import LatestPerKey
from streams.malloc import keep_large_blocks
from streams.pipeline import Beside, Decoded, Rows
from streams.pipelines.vision.classified import Classified
from streams.pipelines.vision.frames import FrameDecoder, Frames
from streams.pipelines.vision.served import Seeing, instances, threads
from streams.pipelines.vision.tracked import Tracked
from streams.records import RecordBatch
from streams.settings import Models, Vision
from streams.versions import Versions


class Task(Protocol):
    """What is done with frames, by what the model's manifest says that its network does with a picture.

    Its methods are those of `streams.pipeline.Following`, and called as those are.
    """

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Of one frame's prediction, whatever version serves."""

    @property
    def topics_beside(self) -> tuple[str, ...]:
        """What it writes to beside detections."""

    def serve(self, loaded: Model) -> Seeing:
        """Make a version ready. Raises: ModelError, SettingsError: it must not serve."""

    def warm_up(self) -> None:
        """Compile what is not the model's."""

    def new_store(self) -> Any:
        """An empty store for one partition, or None."""

    def conclude(
        self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: Any, served: Seeing
    ) -> None:
        """Apply the predictions of these rows."""

    def beside(self, columns: Frames) -> Sequence[Beside]:
        """Records for `topics_beside`."""


TASKS: Mapping[str, Callable[[Vision, Clock], Task]] = {"detect": Tracked, "classify": Classified}


class VisionPipeline:
    """The vision domain, as `streams.pipeline.Following` asks for it; `FrameDecoder` says what is poison."""

    name = "vision"
    table = None
    comparable = False

    def __init__(self, settings: Vision, models: Models | None = None, clock: Clock | None = None) -> None:
        self._versions = Versions((models or Models()).repository(), self.name, settings.model, settings.version)
        self.rollout_of = settings.model
        clock = clock or SystemClock()
        first = self._versions.first()
        self._task_name, self._task = first.manifest.task, _task_of(first)(settings, clock)
        self.served = self._task.serve(first)
        self.prediction_shape, self.topics_beside = self._task.prediction_shape, self._task.topics_beside
        self.input_topic, self.output_topic = settings.input, settings.output
        self.max_message_bytes = settings.max_message_bytes
        at_once = self.served.frames_at_once
        self.batch = msgspec.structs.replace(settings.batch, max_batch_size=at_once)
        self.instances = instances(settings, self.served.engine)
        latest = settings.freshness == "latest-per-key"
        self.freshness = LatestPerKey(settings.staleness_bound_s, at_once * self.instances) if latest else None
        each = threads(settings) // self.instances
        self._threads = ThreadPoolExecutor(threads(settings), "vision-decode") if each > 1 else None
        self._decoder = FrameDecoder(settings, lambda: self.served.fit, self._threads, clock)

    def open(self, version: int, sha256: str) -> Seeing:
        """Make another version ready, as `streams.serving` asks for it; from any thread.

        Raises:
            ModelError, SettingsError: it must not serve.
        """
        loaded = self._versions.asked(version, sha256)
        if loaded.manifest.task != self._task_name:
            raise ModelIncompatible(
                f"serving {loaded.reference} in the place of {self.served.model}: expected the same task, "
                f"{self._task_name!r}, got {loaded.manifest.task!r}; add it under a name of its own, and set "
                "vision.model to that"
            )
        return self._task.serve(loaded)

    def warm_up(self) -> None:
        # Frames are shared among threads of the pipeline's own; OpenCV's would contend with them within each resize.
        cv2.setNumThreads(1)
        keep_large_blocks()  # pictures and tensors: a thirtieth of the CPU
        self._task.warm_up()
        fit = self.served.fit
        row = fit.batch(1)
        fit.one(np.zeros((8, 8, 3), np.uint8), row[0])
        with suppress(ModelError):  # some networks refuse a blank picture: the first frame compiles the rest then
            self.served.infer(row)  # what reads its outputs, too

    def new_store(self) -> Any:
        return self._task.new_store()

    def decode(self, batch: RecordBatch) -> Decoded[Frames]:
        return self._decoder(batch)

    def features(self, columns: Frames, store: Any) -> NDArray[Any]:
        return columns.tensor

    def conclude(
        self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: Any, served: Seeing
    ) -> None:
        self._task.conclude(columns, rows, predictions, store, served)

    def beside(self, columns: Frames) -> Sequence[Beside]:
        return self._task.beside(columns)

    def close(self) -> None:
        """Release the model and the threads."""
        self.served.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _task_of(loaded: Model) -> Callable[[Vision, Clock], Task]:
    """Raises: ModelIncompatible where the model has none of them."""
    task = TASKS.get(loaded.manifest.task)
    if task is None:
        raise ModelIncompatible(
            f"serving {loaded.reference} on video frames: expected the task 'detect' or 'classify' in its manifest, "
            f"got {loaded.manifest.task!r}; add it with --task detect or --task classify"
        )
    return task
