"""Families whose output is one tensor with a row or a column for each place where a box may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import (
    MAX_EXPONENT,
    Candidates,
    Spec,
    corners,
    expect,
    floor_of,
    grid,
    joined,
    sigmoid,
)
from models.vision.heads.scan import scan, scan_cells

ROUNDING = 0.999  # a first look lets a little more pass than the score itself does


class Objectness:
    """YOLOX, YOLOv6 and YOLOv5, YOLOv7: float [n, boxes, 5 + classes] of cx, cy, w, h, objectness, class scores.

    The score is objectness times that of the best class. Where the network leaves the grid to its reader, as YOLOX's
    own export does, cx and cy are in strides from the cell's corner, w and h logarithms of strides. The grids may come
    apart, [n, boxes, 5 + classes] or [n, 5 + classes, rows, columns] for each stride. A box may be a column as well.

    References: Ge et al., YOLOX: Exceeding YOLO Series in 2021, section 2.1; Jocher, YOLOv5.
    """

    suppresses = True

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._grid = None if spec.head.decoded else grid(spec.picture, spec.head.strides, 0)

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        spec, output = self._spec, joined(outputs)
        output = output.swapaxes(1, 2) if spec.head.transposed and output.ndim == 3 else output
        activation = spec.head.activation
        cells = None if self._grid is None else len(self._grid[0])
        fits = output.ndim == 3 and output.shape[2] >= 5 + spec.fewest_columns and cells in (None, output.shape[1])
        expect(spec.head.family, f"[n, {cells or 'boxes'}, {5 + spec.fewest_columns}]", fits, outputs)
        # No class makes the score higher than this.
        picture, box = np.nonzero(output[:, :, 4] >= floor_of(activation, floor))
        rows = output[picture, box]
        if activation == "sigmoid":
            rows = np.concatenate((rows[:, :4], sigmoid(rows[:, 4:])), axis=1)
        classes = spec.scores(rows[:, 5:])
        label = classes.argmax(axis=1)
        score = (rows[:, 4] * classes[np.arange(len(rows)), label]).astype(np.float32)
        passing = np.flatnonzero(score >= floor)
        boxes = rows[passing, :4].astype(np.float32)
        if self._grid is not None:
            points, strides = (each[box[passing]] for each in self._grid)
            boxes[:, :2] = boxes[:, :2] * strides + points
            boxes[:, 2:] = np.exp(np.minimum(boxes[:, 2:], MAX_EXPONENT)) * strides
        return Candidates(picture[passing], corners(boxes, spec), score[passing], label[passing])


class Anchorless:
    """YOLOv8, YOLOv9, YOLO11: float [n, 4 + classes, boxes] of cx, cy, w, h and class probabilities, or transposed.

    Each stride's boxes may come apart, in either way or as [n, 4 + classes, rows, columns].

    References: Jocher et al., Ultralytics YOLO, 2023.
    """

    suppresses = True

    def __init__(self, spec: Spec) -> None:
        self._spec, self._columns = spec, spec.columns(4)
        none = np.zeros((0, 5, 5), np.float32)
        scan(none, spec.head.transposed, self._columns, 5, np.float32(0))  # compiles, if it must

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        spec, output = self._spec, joined(outputs, self._spec.head.transposed)
        axis = 2 if spec.head.transposed else 1
        fits = output.ndim == 3 and output.shape[axis] >= 4 + spec.fewest_columns
        shape = "[n, boxes, {}]" if spec.head.transposed else "[n, {}, boxes]"
        expect(spec.head.family, shape.format(4 + spec.fewest_columns), fits, outputs)
        activation = spec.head.activation
        least = np.float32(floor_of(activation, floor))
        last = 4 + spec.fewest_columns
        found, missing = scan(np.ascontiguousarray(output, np.float32), axis == 2, self._columns, last, least)
        picture, boxes, score, label = found
        score = sigmoid(score) if activation == "sigmoid" else score
        return Candidates(picture, corners(boxes, spec), score, label, missing)


class FastestDet:
    """FastestDet: float [n, 5 + classes, rows, columns] of objectness, box and class probabilities in each cell.

    The score is objectness^0.6 times the best class^0.4; tanh of the first two numbers moves the centre from the
    cell's corner, sigmoid of the others is the box's share of the picture.

    References: Ma, FastestDet: ultra lightweight anchor-free real-time object detection algorithm, 2022.
    """

    suppresses = True

    def __init__(self, spec: Spec) -> None:
        self._spec, self._columns = spec, spec.columns(5)
        none = np.zeros((0, 6, 1, 1), np.float32)
        scan_cells(none, self._columns, np.float32(0), np.float32(0))  # compiles, if it must

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        spec, output = self._spec, outputs[0]
        fits = output.ndim == 4 and output.shape[1] >= 5 + spec.fewest_columns
        expect(spec.head.family, f"[n, {5 + spec.fewest_columns}, rows, columns]", fits, outputs)
        output = np.ascontiguousarray(output, np.float32)
        least = (floor * ROUNDING) ** (1 / 0.6)  # objectness, as if of the surest class
        picture, boxes, score, label = scan_cells(output, self._columns, np.float32(least), np.float32(floor))
        return Candidates(picture, corners(boxes, spec), score, label)
