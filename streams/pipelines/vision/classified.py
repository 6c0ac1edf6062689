"""What a classifier makes of frames: the labels that each as a whole most probably shows, and nothing to remember."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.repository import Model
from models.vision.classifier import Classifier, filled, tiles
from models.vision.preprocess import Placement, Preprocess
from streams.clock import Clock
from streams.engined import Engined
from streams.pipeline import Beside, Rows
from streams.pipelines.vision.frames import Fit, Frames
from streams.pipelines.vision.messages import classes
from streams.pipelines.vision.served import Seeing, engine_options
from streams.settings import Vision


class Uncut:
    """Keeps pictures as they were decoded, all their pixels, for a model that sees them tile by tile.

    Pictures differ in their number of tiles, so a row holds the picture itself, uint8 [h, w, 3], as an object. Its
    tiles are views of it. As the network's input they would take many times the memory: four bytes for one, and
    what neighbours share once for each.
    """

    least = None

    def batch(self, rows: int) -> NDArray[Any]:
        return np.empty((rows, 1), object)

    def one(self, picture: NDArray[np.uint8], out: NDArray[Any]) -> Placement:
        out[0] = picture
        return np.array([1, 1, 0, 0], np.float32)


class ClassifierModel(Engined):
    """Implements `streams.pipelines.vision.served.Seeing`: the most probable labels of each frame.

    Raises:
        ModelError: the version cannot be served, or not by this pipeline.
    """

    def __init__(self, loaded: Model, settings: Vision) -> None:
        self.labels = loaded.manifest.labels
        self._top, self._most_rows = settings.top, settings.max_batch_size
        self._classifier = Classifier(loaded.manifest, settings.top)
        self._preprocess = Preprocess(loaded.manifest)
        self._tiled = self._preprocess.picture.tile
        self.fit: Fit = Uncut() if self._tiled else self._preprocess
        # Up to `worker.in_flight` micro-batches keep their pictures until it is their turn to be published, and one
        # picture may take 3 * `vision.max_pixels` bytes. Its tiles fill calls of the engine by themselves.
        self.frames_at_once = 1 if self._tiled else settings.max_batch_size
        super().__init__(loaded, settings.engine, engine_options(settings))
        self._encode = msgspec.json.Encoder().encode

    def infer(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """float32 [n, top, 2] of label and score, best first; label -1 where there are fewer. NaN as the network's."""
        scores = self._of_pictures(features) if self._tiled else self._scores(features)
        found = np.zeros((len(scores), self._top, 2), np.float32)
        found[:, :, 0] = -1
        labels, best = self._classifier.best(scores)
        found[:, : labels.shape[1], 0] = labels
        # Some networks give what is no probability; its order holds all the same.
        found[:, : labels.shape[1], 1] = np.clip(best, 0, 1)
        found[~np.isfinite(scores).all(axis=1)] = np.nan
        return found

    def encode(self, columns: Frames, features: NDArray[Any], predictions: NDArray[np.float32]) -> list[bytes]:
        return [
            self._encode(classes(columns, row, best, self.labels, self.model)) for row, best in enumerate(predictions)
        ]

    def _scores(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return self._classifier.scores(self._engine.infer({self._preprocess.name: rows}))

    def _of_pictures(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """float32 [n, labels]: one picture after the other, so that no more than its tiles' scores are kept."""
        scores, spec = np.empty((len(pictures), len(self.labels)), np.float32), self._preprocess.picture
        for row, picture in zip(scores, pictures[:, 0], strict=True):
            cut = tiles(spec, picture)
            whole = len(cut) == 1 or spec.resize != "crop"
            some = [cut[start : start + self._most_rows] for start in range(0, len(cut), self._most_rows)]
            row[:] = self._classifier.combine(np.concatenate([self._of_tiles(each, whole) for each in some]), [0])[0]
        return scores

    def _of_tiles(self, cut: Sequence[NDArray[np.uint8]], whole: bool) -> NDArray[np.float32]:
        """One call of the engine; the input of no more tiles than these is there at a time.

        Args:
            whole: they lose nothing on their way into the network.
        """
        rows = self._preprocess.batch(len(cut))
        for tile, row in zip(cut, rows, strict=True):
            self._preprocess.one(tile if whole else filled(self._preprocess.picture, tile), row)
        return self._scores(rows)


class Classified:
    """The task `classify`, as `streams.pipelines.vision.pipeline.Task` asks for it: a frame has no past."""

    topics_beside = ()

    def __init__(self, settings: Vision, clock: Clock) -> None:
        self._settings = settings
        self.prediction_shape = settings.top, 2

    def serve(self, loaded: Model) -> ClassifierModel:
        return ClassifierModel(loaded, self._settings)

    def warm_up(self) -> None:
        """There is nothing but the model."""

    def new_store(self) -> None:
        return None

    def conclude(
        self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: None, served: Seeing
    ) -> None:
        """Nothing follows from a frame's classes."""

    def beside(self, columns: Frames) -> Sequence[Beside]:
        return ()
