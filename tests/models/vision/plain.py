"""Detection as one would write it on paper: one anchor, one box, one pair after the other, in Python's own numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float, float, int]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def suppress(boxes: Sequence[Box], limit: float) -> list[Box]:
    """Every pair is compared, best first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda each: -each[4]):
        if all(box[5] != other[5] or iou(box, other) <= limit for other in kept):
            kept.append(box)
    return kept


def clip(boxes: Sequence[Box], width: float, height: float) -> list[Box]:
    found = []
    for x1, y1, x2, y2, score, label in boxes:
        x1, x2 = (min(max(x, 0.0), width) for x in (x1, x2))
        y1, y2 = (min(max(y, 0.0), height) for y in (y1, y2))
        found.append((x1, y1, x2, y2, score, label))
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: Sequence[float]) -> list[float]:
    top = max(row)
    raised = [math.exp(each - top) for each in row]
    return [each / sum(raised) for each in raised]


def centred(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
