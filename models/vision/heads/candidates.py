"""What every family's decoder returns, and the steps that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelIncompatible
from models.vision.specs import Activation, Head, Picture

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FAR = 1e5  # pixels: no box goes further, so that areas stay finite
MAX_EXPONENT = 16.0  # e^16 strides is beyond `FAR`


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of a batch whose score passes the floor, in no order.

    Args:
        picture: int64 [m], the row of the batch.
        boxes: float32 [m, 4] of x1, y1, x2, y2 in pixels of the network's input.
        scores: float32 [m].
        labels: int64 [m], indices of the manifest's labels.
        missing: bool [n], which pictures have NaN, or else no answer, if the decoder has looked already.
    """

    picture: Ints
    boxes: Floats
    scores: Floats
    labels: Ints
    missing: NDArray[np.bool_] | None = None


class Decoder(Protocol):
    """Reads one family's outputs."""

    suppresses: bool
    """Whether its boxes overlap, so that they need non-maximum suppression."""

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        """The boxes whose score is `floor` or more, of outputs in the order of the head's `tensors`.

        Raises: ModelIncompatible where a shape is not that of the family.
        """


@dataclass(frozen=True, slots=True)
class Spec:
    """What a decoder is made from: the manifest's tables and how many labels there are."""

    picture: Picture
    head: Head
    labels: int

    def scores(self, columns: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        """The labels' columns of a network's class scores, in the labels' order."""
        ids = self.head.ids
        if ids in ((), tuple(range(self.labels))):
            return columns[(slice(None),) * (axis % columns.ndim) + (slice(self.labels),)]
        return np.take(columns, ids, axis=axis)

    def columns(self, first: int) -> Ints:
        """Which columns of an output are the labels' scores, in the labels' order, if class scores begin at `first`."""
        return np.array(self.head.ids or range(self.labels), np.int64) + first

    @property
    def fewest_columns(self) -> int:
        """How many columns of class scores there must be."""
        return max(self.head.ids, default=self.labels - 1) + 1


def logit(probability: float) -> float:
    """The number whose sigmoid is `probability`."""
    if probability <= 0:
        return -math.inf
    return math.log(probability / (1 - probability)) if probability < 1 else math.inf


def sigmoid(values: NDArray[Any]) -> Floats:
    result: Floats = 1 / (1 + np.exp(-np.clip(values, -80, 80).astype(np.float32)))
    return result


def softmax(values: NDArray[Any]) -> Floats:
    """Over the last axis."""
    raised = np.exp(values.astype(np.float32) - values.max(axis=-1, keepdims=True))
    result: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return result


def floor_of(activation: Activation, floor: float) -> float:
    """What a raw score must reach so that its probability reaches `floor`."""
    return logit(floor) if activation == "sigmoid" else floor


def best(scores: NDArray[Any], spec: Spec, floor: float, axis: int = 2) -> tuple[Ints, Ints, Floats, Ints]:
    """Of each box its best class, where that passes the floor.

    Args:
        scores: [n, boxes, columns], or [n, columns, boxes] with `axis` 1; as the network gives them.

    Returns: int64 [m] picture, int64 [m] box, float32 [m] score, int64 [m] label.
    """
    activation = spec.head.activation
    if activation == "softmax":
        scores = softmax(scores if axis == 2 else scores.swapaxes(1, 2))
        axis = 2
    scores = spec.scores(scores, axis)
    picture, box = np.nonzero(scores.max(axis=axis) >= floor_of(activation, floor))
    found = scores[picture, box] if axis == 2 else scores[picture, :, box]
    label = found.argmax(axis=1)
    score = found[np.arange(len(label)), label]
    return picture, box, sigmoid(score) if activation == "sigmoid" else score.astype(np.float32), label


def corners(boxes: NDArray[Any], spec: Spec) -> Floats:
    """Boxes of any form as x1, y1, x2, y2 in pixels of the input, nowhere further than `FAR`; float32 [m, 4]."""
    boxes = boxes.astype(np.float32)
    if spec.head.boxes == "cxcywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)
    elif spec.head.boxes == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if spec.head.normalised:
        boxes = boxes * np.array([spec.picture.width, spec.picture.height] * 2, np.float32)
    held: Floats = np.clip(boxes, -FAR, FAR)
    return held


def grid(picture: Picture, strides: Sequence[int], offset: float) -> tuple[Floats, Floats]:
    """Points and strides of the cells of all grids, row by row, in pixels: float32 [cells, 2] and [cells, 1]."""
    points, steps = [], []
    for stride in strides:
        rows, columns = -(-picture.height // stride), -(-picture.width // stride)
        y, x = np.mgrid[:rows, :columns]
        points.append((np.stack((x.ravel(), y.ravel()), axis=1) + offset) * stride)
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(steps).astype(np.float32)


def without_ones(output: NDArray[Any]) -> NDArray[Any]:
    """[n, 1, k, 7] and [n, k, 1, 4], lists of objects and boxes of any class, without the axis of 1."""
    if output.ndim == 4 and output.shape[1] == 1 and output.shape[3] == 7:
        return output[:, 0]
    return output[:, :, 0] if output.ndim == 4 and output.shape[2:] == (1, 4) else output


def as_rows(output: NDArray[Any], cells: int) -> NDArray[Any]:
    """[n, k, rows, columns] or [n, k, cells] as [n, cells, k], without a copy; what is neither stays as it is."""
    if output.ndim == 4:
        return output.reshape(*output.shape[:2], -1).swapaxes(1, 2)
    if output.ndim == 3 and output.shape[1] != cells and output.shape[2] == cells:
        return output.swapaxes(1, 2)
    return output


def joined(outputs: Sequence[NDArray[Any]], transposed: bool = True) -> NDArray[Any]:
    """Boxes of each stride behind one another: [n, boxes, k], or [n, k, boxes] if not `transposed`.

    Args:
        outputs: of one stride each, as the result, or [n, k, rows, columns].
    """
    if len(outputs) == 1:
        return outputs[0]
    columns = [each.reshape(*each.shape[:2], -1) if each.ndim == 4 else each for each in outputs]
    if transposed:
        columns = [each.swapaxes(1, 2) if own.ndim == 4 else each for each, own in zip(columns, outputs, strict=True)]
    axis = 1 if transposed else 2
    if any(each.ndim != 3 or each.shape[3 - axis] != columns[0].shape[3 - axis] for each in columns):
        return outputs[0]
    return np.concatenate(columns, axis=axis)


def expect(family: str, expected: str, fits: bool, outputs: Sequence[NDArray[Any]]) -> None:
    """Raise ModelIncompatible unless the outputs fit."""
    if not fits:
        got = ", ".join(str(list(each.shape)) for each in outputs)
        raise ModelIncompatible(f"decoding the outputs of a {family} detector: expected {expected}, got {got}")
