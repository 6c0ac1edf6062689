"""A detector's points to separate objects, for judging what was trained: one picture at a time, nothing hurried."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vision.average_precision import Found, overlaps

LEAST_SCORE, MOST_OVERLAP, MOST_POINTS = 0.01, 0.6, 1_000


def separate(output: NDArray[np.float32], score: float = LEAST_SCORE, overlap: float = MOST_OVERLAP) -> Found:
    """The boxes that no better one of their class covers; best score first.

    Args:
        output: of one picture, float32[4 + classes, points]: cx, cy, w, h and probabilities.
        score: below this nothing is found.
        overlap: above this two boxes are the same object.
    """
    kind, point = np.nonzero(output[4:] >= score)
    scores = output[4:][kind, point]
    best = np.argsort(-scores, kind="stable")[:MOST_POINTS]
    kind, point, scores = kind[best], point[best], scores[best]
    cx, cy, width, height = output[:4, point]
    boxes = np.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], axis=1)
    kept: list[int] = []
    left = np.arange(len(scores))
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        covered = overlaps(boxes[first : first + 1], boxes[left])[0] > overlap
        left = left[~(covered & (kind[left] == kind[first]))]
    return boxes[kept], scores[kept], kind[kept].astype(np.int64)
