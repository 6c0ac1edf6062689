"""Families that answer a fixed number of queries, each with class scores and a box, and need no suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import Candidates, Spec, best, corners, expect, floor_of, sigmoid, without_ones


class Detr:
    """DETR: class logits [n, queries, classes + 1] and boxes [n, queries, 4], cx, cy, w, h in shares of the input.

    A softmax over all columns, of which the last is "no object"; a query is of its best class.

    References: Carion et al., End-to-End Object Detection with Transformers, 2020.
    """

    suppresses = False

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        scores, boxes = scores_and_boxes(self._spec, outputs)
        picture, query, score, label = best(scores, self._spec, floor)
        return Candidates(picture, corners(boxes[picture, query], self._spec), score, label)


class RtDetr:
    """RT-DETR, Deformable DETR: as DETR, with a sigmoid for each class and no column for "no object".

    A query counts once for each class that passes. One tensor [n, queries, 4 + classes] does as well. Columns that no
    label has, as RF-DETR's last, do not count.

    References: Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, 2023; Zhu et al., Deformable DETR, 2020.
    """

    suppresses = False

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        spec = self._spec
        scores, boxes = scores_and_boxes(spec, outputs)
        scores = spec.scores(scores)
        picture, query, label = np.nonzero(scores >= floor_of(spec.head.activation, floor))
        score = scores[picture, query, label].astype(np.float32)
        score = sigmoid(score) if spec.head.activation == "sigmoid" else score
        return Candidates(picture, corners(boxes[picture, query], spec), score, label)


class Dense:
    """Class scores [n, places, classes] and boxes [n, places, 4] that overlap, as face detectors often give them.

    Boxes are decoded by the network: offsets from priors that it keeps to itself cannot be read here.
    """

    suppresses = True

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        scores, boxes = scores_and_boxes(self._spec, outputs)
        picture, place, score, label = best(scores, self._spec, floor)
        return Candidates(picture, corners(boxes[picture, place], self._spec), score, label)


def scores_and_boxes(spec: Spec, outputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """[n, k, classes] and [n, k, 4] of two tensors, or of one that has the boxes in its first four columns.

    Scores may be [n, classes, k], as the head says, or [n, k] of one class.

    Raises: ModelIncompatible.
    """
    columns = spec.fewest_columns
    if len(outputs) == 1:
        output = outputs[0]
        fits = output.ndim == 3 and output.shape[2] >= 4 + columns
        expect(spec.head.family, f"[n, boxes, {4 + columns}]", fits, outputs)
        return output[:, :, 4:], output[:, :, :4]
    scores, boxes = outputs[0], without_ones(outputs[1])
    if scores.ndim == 2:  # of one class, without an axis for it
        scores = scores[:, :, None]
    scores = scores.swapaxes(1, 2) if spec.head.transposed and scores.ndim == 3 else scores
    fits = scores.ndim == boxes.ndim == 3 and scores.shape[2] >= columns
    fits = fits and boxes.shape == (*scores.shape[:2], 4)
    expect(spec.head.family, f"[n, boxes, {columns}] and [n, boxes, 4]", fits, outputs)
    return scores, boxes
