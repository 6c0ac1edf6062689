"""Which points of a detector learn which object. Needs torch (extra `train`).

References:
    C. Feng, Y. Zhong, Y. Gao, M. R. Scott, W. Huang: TOOD: Task-aligned One-stage Object Detection. ICCV 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.vision.boxes import overlap

SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
POINTS_PER_OBJECT = 10
NEAREST_STRIDES = 0.75  # a point so near to the middle of an object may learn it, however small the object is
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Assignment:
    """What each point is to say.

    Args:
        chosen: bool [n, p], the points that have an object.
        boxes: float32 [n, p, 4], x1, y1, x2, y2 of the object; arbitrary where there is none.
        scores: float32 [n, p, classes], from 0 to the overlap that the object's best point has.
    """

    chosen: Tensor
    boxes: Tensor
    scores: Tensor


@torch.no_grad()
def assign(
    boxes: Tensor, scores: Tensor, grid: tuple[Tensor, Tensor], objects: tuple[Tensor, Tensor, Tensor]
) -> Assignment:
    """Give each object the points whose score and overlap fit it best at the moment; a point has one object at most.

    Args:
        boxes: float32 [n, p, 4], predicted, x1, y1, x2, y2.
        scores: float32 [n, p, classes], predicted, from 0 to 1.
        grid: the points' places float32 [2, p] and strides float32 [1, p].
        objects: boxes float32 [n, m, 4], labels int64 [n, m], and which are real, bool [n, m].
    """
    true_boxes, labels, real = objects
    overlaps = overlap(true_boxes[:, :, None], boxes[:, None])  # [n, m, p]
    own = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, scores.shape[1]))
    allowed = _near(true_boxes, *grid) & real[:, :, None]
    fit = own.pow(SCORE_POWER) * overlaps.pow(OVERLAP_POWER) * allowed
    best = fit.topk(min(POINTS_PER_OBJECT, fit.shape[2]), dim=2)
    mine = torch.zeros_like(fit).scatter_(2, best.indices, (best.values > _TINY**2).float()).bool() & allowed
    mine &= _one_each(mine, overlaps)
    fit, overlaps = fit * mine, overlaps * mine
    scale = overlaps.amax(dim=2, keepdim=True) / (fit.amax(dim=2, keepdim=True) + _TINY)
    strength = (fit * scale).amax(dim=1)  # [n, p]
    which = mine.float().argmax(dim=1)  # [n, p]
    label = labels.gather(1, which)
    kinds = torch.zeros_like(scores).scatter_(2, label[:, :, None], strength[:, :, None])
    return Assignment(mine.any(dim=1), true_boxes.gather(1, which[:, :, None].expand(-1, -1, 4)), kinds)


def _near(true_boxes: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """bool [n, m, p]: the point lies in the object's box, or near to its middle."""
    middle, half = (true_boxes[..., :2] + true_boxes[..., 2:]) / 2, (true_boxes[..., 2:] - true_boxes[..., :2]) / 2
    reach = torch.maximum(half[:, :, None], NEAREST_STRIDES * strides.T[None, None])
    return ((points.T[None, None] - middle[:, :, None]).abs() < reach).all(dim=-1)


def _one_each(mine: Tensor, overlaps: Tensor) -> Tensor:
    """bool [n, m, p]: of the objects that claim a point, the one it overlaps most."""
    best = (overlaps * mine).argmax(dim=1, keepdim=True)
    return torch.zeros_like(mine).scatter_(1, best, 1)
