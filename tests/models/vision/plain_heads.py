"""Every family's outputs read box by box and class by class, as its authors describe it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.models.vision.plain import Box, centred, sigmoid, softmax

Picture = tuple[np.ndarray, ...]


def yolox(outputs: Picture, floor: float, size: tuple[int, int], strides: tuple[int, ...] = ()) -> list[Box]:
    """With strides the grid is added here: cells row by row, stride by stride."""
    cells = [(x, y, s) for s in strides for y in range(math.ceil(size[1] / s)) for x in range(math.ceil(size[0] / s))]
    found = []
    for place, row in enumerate(outputs[0].tolist()):
        cx, cy, w, h, objectness, *classes = row
        if strides:
            x, y, s = cells[place]
            cx, cy, w, h = (cx + x) * s, (cy + y) * s, math.exp(w) * s, math.exp(h) * s
        label = classes.index(max(classes))
        if objectness * classes[label] >= floor:
            found.append((*centred(cx, cy, w, h), objectness * classes[label], label))
    return found


def yolov8(outputs: Picture, floor: float) -> list[Box]:
    found = []
    for cx, cy, w, h, *classes in outputs[0].T.tolist():
        label = classes.index(max(classes))
        if classes[label] >= floor:
            found.append((*centred(cx, cy, w, h), classes[label], label))
    return found


def fastestdet(outputs: Picture, floor: float, size: tuple[int, int]) -> list[Box]:
    found = []
    _, rows, columns = outputs[0].shape
    for y in range(rows):
        for x in range(columns):
            objectness, dx, dy, w, h, *classes = outputs[0][:, y, x].tolist()
            label = classes.index(max(classes))
            score = objectness**0.6 * classes[label] ** 0.4
            if score >= floor:
                cx, cy = (x + math.tanh(dx)) / columns * size[0], (y + math.tanh(dy)) / rows * size[1]
                found.append((*centred(cx, cy, sigmoid(w) * size[0], sigmoid(h) * size[1]), score, label))
    return found


def detr(outputs: Picture, floor: float, size: tuple[int, int]) -> list[Box]:
    found = []
    for logits, (cx, cy, w, h) in zip(outputs[0].tolist(), outputs[1].tolist(), strict=True):
        *classes, _ = softmax(logits)
        label = classes.index(max(classes))
        if classes[label] >= floor:
            box = centred(cx * size[0], cy * size[1], w * size[0], h * size[1])
            found.append((*box, classes[label], label))
    return found


def rtdetr(outputs: Picture, floor: float, size: tuple[int, int]) -> list[Box]:
    found = []
    for logits, (cx, cy, w, h) in zip(outputs[0].tolist(), outputs[1].tolist(), strict=True):
        for label, logit in enumerate(logits):
            if sigmoid(logit) >= floor:
                box = centred(cx * size[0], cy * size[1], w * size[0], h * size[1])
                found.append((*box, sigmoid(logit), label))
    return found


def end2end(outputs: Picture, floor: float) -> list[Box]:
    rows = outputs[0].tolist()
    if len(rows[0]) == 7:
        rows = [[x1, y1, x2, y2, score, label] for _, x1, y1, x2, y2, label, score in rows]
    return [(x1, y1, x2, y2, score, int(label)) for x1, y1, x2, y2, score, label in rows if score >= floor]


def ssd(outputs: Picture, floor: float, first: int) -> list[Box]:
    boxes, labels, scores = (each.tolist() for each in outputs)
    return [
        (*box, score, int(label) - first)
        for box, label, score in zip(boxes, labels, scores, strict=True)
        if score >= floor and int(label) >= first
    ]


def dense(outputs: Picture, floor: float, size: tuple[int, int]) -> list[Box]:
    """Column 0 is background; boxes are two corners in shares."""
    found = []
    for (_, *classes), (x1, y1, x2, y2) in zip(outputs[0].tolist(), outputs[1].tolist(), strict=True):
        label = classes.index(max(classes))
        if classes[label] >= floor:
            found.append((x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1], classes[label], label))
    return found


def gfl(
    outputs: Picture, floor: float, size: tuple[int, int], strides: tuple[int, ...], offset: float,
    squash: Callable[[float], float] = lambda x: x,
) -> list[Box]:  # fmt: skip
    """For each stride class scores [cells, classes] and distances [cells, 4 * bins]."""
    found = []
    for level, stride in enumerate(strides):
        scores, sides = outputs[2 * level].tolist(), outputs[2 * level + 1].tolist()
        columns = math.ceil(size[0] / stride)
        for cell, (classes, bins) in enumerate(zip(scores, sides, strict=True)):
            label = classes.index(max(classes))
            score = squash(classes[label])
            if score < floor:
                continue
            x, y = (cell % columns + offset) * stride, (cell // columns + offset) * stride
            count = len(bins) // 4
            far = []
            for side in range(4):
                shares = softmax(bins[side * count : (side + 1) * count])
                far.append(sum(place * share for place, share in enumerate(shares)) * stride)
            found.append((x - far[0], y - far[1], x + far[2], y + far[3], score, label))
    return found
