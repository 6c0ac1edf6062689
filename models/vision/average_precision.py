"""How well boxes are found: average precision as COCO counts it, in numpy.

References:
    T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014; its evaluation: precision at 101 recalls,
        overlaps from .50 to .95.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)

Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Of one picture: boxes float32[k, 4] x1, y1, x2, y2, scores float32[k], labels int64[k]."""
Truth = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Of one picture: boxes float32[m, 4] and labels int64[m]."""


def average_precision(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> NDArray[np.float64]:
    """Each class's average precision at each overlap, float64[classes, 10]; NaN for a class that is in no picture.

    Args:
        found: what was found in each picture; at most 100 objects of a picture count.
        truth: each picture's boxes float32[k, 4] and labels int64[k].
    """
    table = np.full((classes, len(OVERLAPS)), np.nan)
    best = [_best(each) for each in found]
    for label in range(classes):
        total = sum(int((labels == label).sum()) for _, labels in truth)
        if not total:
            continue
        matches = [
            _matched(boxes[kinds == label], scores[kinds == label], real[labels == label])
            for (boxes, scores, kinds), (real, labels) in zip(best, truth, strict=True)
        ]
        scores = np.concatenate([score for score, _ in matches])
        order = np.argsort(-scores, kind="stable")
        hits = np.concatenate([hit for _, hit in matches], axis=1)[:, order]
        table[label] = [_area(hit, total) for hit in hits]
    return table


def _best(found: Found) -> Found:
    boxes, scores, labels = found
    order = np.argsort(-scores, kind="stable")[:100]
    return boxes[order], scores[order], labels[order]


def _matched(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], real: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores, and at each overlap which boxes hit: each takes the free object it overlaps most, best score first."""
    hits = np.zeros((len(OVERLAPS), len(boxes)), np.bool_)
    shares = overlaps(boxes, real)
    for level, least in enumerate(OVERLAPS):
        free = np.ones(len(real), np.bool_)
        for row in range(len(boxes)):
            open_overlaps = np.where(free, shares[row], -1.0)
            if len(real) and open_overlaps.max() >= least - 1e-10:
                # Of equal overlaps COCO's evaluation takes the last.
                chosen = len(real) - 1 - int(open_overlaps[::-1].argmax())
                hits[level, row], free[chosen] = True, False
    return scores, hits


def overlaps(boxes: NDArray[np.float32], real: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of boxes float32[k, 4] and float32[m, 4], float64[k, m]."""
    one, other = boxes[:, None].astype(np.float64), real[None].astype(np.float64)
    common = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(0).prod(axis=2)
    areas = (one[..., 2:] - one[..., :2]).prod(axis=2) + (other[..., 2:] - other[..., :2]).prod(axis=2)
    shares: NDArray[np.float64] = common / np.maximum(areas - common, 1e-12)
    return shares


def _area(hits: NDArray[np.bool_], total: int) -> float:
    """The mean over RECALLS of the best precision at that recall or a higher one."""
    right = np.cumsum(hits)
    recall, precision = right / total, right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    reached = place < len(hits)
    return float(
        np.where(reached, precision[np.minimum(place, max(len(hits) - 1, 0))] if len(hits) else 0.0, 0.0).mean()
    )
