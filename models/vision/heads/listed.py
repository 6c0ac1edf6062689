"""Families that end with suppression of their own: each row of their outputs is an object, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import Candidates, Floats, Ints, Spec, corners, expect, without_ones
from models.vision.specs import Columns

NOTHING = -1
MOST_SCORE = 1.01  # of a probability, rounded

_PLACES: Mapping[Columns, tuple[int, int, int]] = MappingProxyType(
    {"box-score-class": (0, 4, 5), "box-class-score": (0, 5, 4), "class-score-box": (2, 1, 0)}
)
ORDERS = tuple(_PLACES)


def usual(width: int) -> Columns:
    """What rows of 6 or 7 columns hold where nothing else is said: YOLOv10's and YOLOv7's order."""
    return "box-score-class" if width == 6 else "box-class-score"


def parted(rows: NDArray[Any], columns: Columns) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Boxes [n, k, 4], classes [n, k] and scores [n, k] of rows [n, k, 6], or of 7 that begin with the picture."""
    width = rows.shape[2]
    box, score, number = (place + width - 6 for place in _PLACES[columns or usual(width)])
    return rows[:, :, box : box + 4], rows[:, :, number], rows[:, :, score]


class EndToEnd:
    """YOLOv10, YOLO26 and exports with suppression inside: float [n, objects, 6], or [n, objects, 7] as YOLOv7's.

    Six columns are x1, y1, x2, y2, score, class; seven are the picture, x1, y1, x2, y2, class, score. `head.columns`
    says another order: PaddleDetection has class, score and box, YOLO-NAS and EfficientDet the score before the class.
    Boxes of Ultralytics' RT-DETR are centres and sides.

    References: Wang et al., YOLOv10: Real-Time End-to-End Object Detection, 2024.
    """

    suppresses = False

    def __init__(self, spec: Spec) -> None:
        self._spec, self._numbers = spec, _Numbers(spec)

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        output = without_ones(outputs[0])
        fits = output.ndim == 3 and output.shape[2] in (6, 7)
        expect(self._spec.head.family, "[n, objects, 6] or [n, objects, 7]", fits, outputs)
        return listed(self._spec, self._numbers, parted(output, self._spec.head.columns), floor)


class Lists:
    """SSD, Faster R-CNN and others of torchvision and TensorFlow: boxes [n, k, 4], classes [n, k], scores [n, k].

    A fourth tensor [n] or [n, 1] says how many rows count. Boxes [n, k, 5] hold their score, and there are two tensors.
    Where the head has strides, a row is a cell of their grids with its best class: such rows overlap.

    References: Liu et al., SSD: Single Shot MultiBox Detector, 2016.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec, self._numbers = spec, _Numbers(spec)
        self.suppresses = bool(spec.head.strides)

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        boxes, classes = outputs[0], outputs[1]
        scores = outputs[2] if len(outputs) > 2 else boxes[..., 4]
        fits = boxes.ndim == 3 and boxes.shape[2] == (4 if len(outputs) > 2 else 5)
        fits = fits and classes.shape == scores.shape == boxes.shape[:2]
        expect(self._spec.head.family, "boxes [n, k, 4], classes [n, k] and scores [n, k]", fits, outputs)
        if len(outputs) > 3:
            counted = np.arange(scores.shape[1]) < outputs[3].reshape(len(scores), -1)[:, :1]
            scores = np.where(counted, scores, -1)
        return listed(self._spec, self._numbers, (boxes[:, :, :4], classes, scores), floor)


class _Numbers:
    """Which label a network's class number is."""

    def __init__(self, spec: Spec) -> None:
        ids = np.array(spec.head.ids or range(spec.labels), np.int64)
        self._labels = np.full(max(ids, default=0) + 1, NOTHING)
        self._labels[ids] = np.arange(len(ids))

    def labels(self, numbers: NDArray[Any]) -> Ints:
        """The labels' indices, -1 where a number is none's."""
        finite = np.where(np.isfinite(numbers), numbers, NOTHING)
        whole = np.clip(finite, NOTHING, len(self._labels)).astype(np.int64)
        known = (whole >= 0) & (whole < len(self._labels))
        found: Ints = np.where(known, self._labels[np.where(known, whole, 0)], NOTHING)
        return found


def listed(
    spec: Spec, numbers: _Numbers, rows: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], floor: float
) -> Candidates:
    """Boxes [n, k, 4], class numbers [n, k] and scores [n, k] whose class has a label and whose score passes.

    A picture with a score beyond 1 has no answer: its numbers are none, or are in another order than is said.
    """
    boxes, classes, scores = rows
    beyond = ((scores > MOST_SCORE) & (scores < np.inf)).any(axis=1)
    missing = None
    if beyond.any():
        missing = beyond | np.isnan(scores).any(axis=1) | np.isnan(boxes).any(axis=(1, 2))
    picture, row = np.nonzero((scores >= floor) & (scores > 0))
    labels = numbers.labels(classes[picture, row])
    known = labels >= 0
    picture, row = picture[known], row[known]
    score: Floats = scores[picture, row].astype(np.float32)
    return Candidates(picture, corners(boxes[picture, row], spec), score, labels[known], missing)
