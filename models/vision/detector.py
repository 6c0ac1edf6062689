"""A detector's outputs become objects in the source picture's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.engine import ModelIncompatible
from models.manifest import Manifest
from models.vision.heads.candidates import Floats, Ints, Spec
from models.vision.heads.families import decoder
from models.vision.nms import ranked, suppress
from models.vision.placement import clip, to_source

SCORE, IOU = 0.25, 0.45
"""Where neither the manifest nor the caller says: the least score, and the most that two boxes of a class overlap."""


class Detector:
    """Reads a detector's outputs for a whole batch: family's decoding, suppression, back into source pixels.

    Thread rule: any number of threads; nothing is kept between calls.

    Args:
        manifest: that of a model with the task `detect`.
        score: the least score of an object; default: the manifest's threshold `score`.
        iou: how much two objects of one class may overlap; default: the manifest's threshold `iou`.
        max_objects: of one picture, those with the highest scores.

    Raises: ModelIncompatible where the manifest is none of a detector's.
    """

    def __init__(
        self, manifest: Manifest, score: float | None = None, iou: float | None = None, max_objects: int = 300
    ) -> None:
        self._reference = f"{manifest.name}/{manifest.version}"
        if manifest.task != "detect" or manifest.picture is None or manifest.head is None:
            raise ModelIncompatible(
                f"reading detections of {self._reference}: expected the task 'detect' in its manifest, "
                f"got {manifest.task!r}; add it with --task detect"
            )
        self.labels = manifest.labels
        self.score = manifest.thresholds.get("score", SCORE) if score is None else score
        self.iou = manifest.thresholds.get("iou", IOU) if iou is None else iou
        self.max_objects = max_objects
        self._tensors = manifest.head.tensors or tuple(entry.name for entry in manifest.outputs)
        self._decoder = decoder(Spec(manifest.picture, manifest.head, len(manifest.labels)))
        none = np.zeros((0, 4), np.float32)  # compiles, if it must: the first picture does not wait for it
        no_labels = np.zeros(0, np.int64)
        _objects(
            no_labels, none, none[:, 0].copy(), no_labels, none, none[:, :2].copy(), self.iou, none.reshape(0, 1, 6)
        )

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], placements: NDArray[np.float32], sizes: NDArray[Any]
    ) -> NDArray[np.float32]:
        """The objects of each picture, best first.

        Args:
            outputs: what the engine returned.
            placements: float32 [n, 4], as `Preprocess.one` returns them.
            sizes: int [n, 2], width and height of each source picture.

        Returns: float32 [n, max_objects, 6] of x1, y1, x2, y2 (pixels of the source, inside it), score and label.
            Rows beyond a picture's objects are 0 with label -1. A picture for which the network gave NaN is NaN.

        Raises: ModelIncompatible where an output is not there, not of the family's shape or for other pictures.
        """
        arrays = [self._tensor(outputs, name) for name in self._tensors]
        pictures = len(placements)
        if any(each.shape[:1] != (pictures,) for each in arrays):
            got = ", ".join(str(list(each.shape)) for each in arrays)
            raise ModelIncompatible(
                f"reading detections of {self._reference}: expected outputs for {pictures} pictures, got {got}"
            )
        result = np.zeros((pictures, self.max_objects, 6), np.float32)
        result[:, :, 5] = -1
        if not pictures:
            return result
        with np.errstate(all="ignore"):  # NaN and infinity are looked for below, not warned of
            found = self._decoder.decode(arrays, self.score)
        _objects(
            np.ascontiguousarray(found.picture, np.int64),
            np.ascontiguousarray(found.boxes, np.float32),
            np.ascontiguousarray(found.scores, np.float32),
            np.ascontiguousarray(found.labels, np.int64),
            np.array(placements, np.float32),
            np.array(sizes, np.float32),
            self.iou if self._decoder.suppresses else 1.0,
            result,
        )
        for missing in map(_has_nan, arrays) if found.missing is None else (found.missing,):
            result[missing] = np.nan
        return result

    def _tensor(self, outputs: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
        if name not in outputs:
            raise ModelIncompatible(
                f"reading detections of {self._reference}: expected an output `{name}`, got {sorted(outputs)}"
            )
        return outputs[name]


@njit(nogil=True, cache=True, error_model="numpy")
def _objects(
    picture: Ints,
    boxes: Floats,
    scores: Floats,
    labels: Ints,
    placements: Floats,
    sizes: Floats,
    iou: float,
    out: Floats,
) -> None:
    """Write the candidates that stay into `out`, float32 [n, most, 6], in pixels of their pictures.

    What shows nothing of its picture goes. Suppression compares the others as the network meant them, with what lies
    outside.
    """
    order, starts = ranked(picture, scores, len(placements))
    moved, shown = np.zeros((len(order), 4), np.float32), np.empty(4, np.float32)
    ranked_scores, ranked_labels = np.empty(len(order), np.float32), np.empty(len(order), np.int64)
    for own in range(len(placements)):
        for place in range(starts[own], starts[own + 1]):
            each, row = order[place], moved[place]
            ranked_scores[place], ranked_labels[place] = scores[each], labels[each]
            to_source(boxes[each], placements[own], row)
            for axis in range(4):
                shown[axis] = row[axis]
            clip(shown, sizes[own])
            if not (shown[2] > shown[0] and shown[3] > shown[1]):
                row[2] = row[0]  # without area
    suppress(moved, ranked_scores, ranked_labels, starts, iou, out)
    for own in range(len(out)):
        for place in range(out.shape[1]):
            clip(out[own, place], sizes[own])


def _has_nan(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have NaN: bool [n]. A maximum takes NaN along and reads each number once."""
    if array.dtype.kind != "f" or not array.size:
        return np.zeros(len(array), bool)
    missing: NDArray[np.bool_] = np.isnan(array.reshape(len(array), -1).max(axis=1))
    return missing
