"""Heads of GFL and NanoDet: in each cell, how probable each distance to each side of the box is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import Candidates, Floats, Ints, Spec, as_rows, best, corners, expect, grid, softmax


class Distances:
    """Class scores and distances to left, top, right and bottom, in strides, for the cells of each stride's grid.

    Of each stride two tensors, scores of `classes` numbers and distances of 4 * bins, as [n, cells, k], [n, k, cells]
    or [n, k, rows, columns]; or one tensor that holds both. Those of all strides may stand behind one another. A
    distance is the mean of 0, 1, … bins - 1 under the softmax of its bins.

    References: Li et al., Generalized Focal Loss, 2020; Lyu, NanoDet-Plus, 2021.
    """

    suppresses = True

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        strides = spec.head.strides
        self._levels = [grid(spec.picture, [stride], spec.head.offset) for stride in strides]
        self._all = grid(spec.picture, strides, spec.head.offset)

    def decode(self, outputs: Sequence[NDArray[Any]], floor: float) -> Candidates:
        spec = self._spec
        joined = any(len(self._all[0]) in output.shape for output in outputs)
        levels = [self._all] if joined and len(outputs) <= 2 else self._levels
        each = len(outputs) // len(levels)
        fits = each in (1, 2) and len(outputs) == each * len(levels)
        fits = fits and all(output.ndim in (3, 4) for output in outputs)
        expect(spec.head.family, f"1 or 2 tensors for each of {len(levels)} strides", fits, outputs)
        parts = [
            self._level(outputs[place * each : (place + 1) * each], points, strides, floor)
            for place, (points, strides) in enumerate(levels)
        ]
        return Candidates(*map(np.concatenate, zip(*parts, strict=True)))

    def _level(
        self, outputs: Sequence[NDArray[Any]], points: Floats, strides: Floats, floor: float
    ) -> tuple[Ints, Floats, Floats, Ints]:
        spec, rows = self._spec, [as_rows(output, len(points)) for output in outputs]
        classes = spec.fewest_columns
        scores, sides = rows if len(rows) == 2 else (rows[0][:, :, :classes], rows[0][:, :, classes:])
        fits = scores.ndim == sides.ndim == 3 and scores.shape[1] == sides.shape[1] == len(points)
        fits = fits and scores.shape[2] >= classes and sides.shape[2] >= 8 and sides.shape[2] % 4 == 0
        expect(spec.head.family, f"[n, {len(points)}, {classes}] and [n, {len(points)}, 4 * bins]", fits, outputs)
        picture, cell, score, label = best(scores, spec, floor)
        shares = softmax(sides[picture, cell].reshape(len(cell), 4, sides.shape[2] // 4))
        far = shares @ np.arange(shares.shape[2], dtype=np.float32) * strides[cell]
        boxes = np.concatenate((points[cell] - far[:, :2], points[cell] + far[:, 2:]), axis=1)
        return picture, corners(boxes, spec), score, label
