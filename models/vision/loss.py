"""What a detector is to make small. Needs torch (extra `train`)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.vision.assigner import assign
from models.vision.boxes import complete_overlap, corners

BOX_WEIGHT, CLASS_WEIGHT = 5.0, 1.0


def detection_loss(
    boxes: Tensor, logits: Tensor, grid: tuple[Tensor, Tensor], objects: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """One minus CIoU of the points that have an object, and cross entropy of all, per unit of assigned score.

    Args:
        boxes: float32 [n, 4, p], cx, cy, w, h in pixels.
        logits: float32 [n, classes, p].
        grid: the points' places float32 [2, p] and strides float32 [1, p].
        objects: boxes x1, y1, x2, y2 float32 [n, m, 4], labels int64 [n, m], and which are real, bool [n, m].
    """
    found, logits = corners(boxes.transpose(1, 2)), logits.transpose(1, 2)
    target = assign(found.detach(), logits.detach().sigmoid(), grid, objects)
    total = target.scores.sum().clamp(min=1.0)
    classes = functional.binary_cross_entropy_with_logits(logits, target.scores, reduction="sum")
    chosen = target.chosen
    weight = target.scores.sum(dim=2)[chosen]
    box = ((1 - complete_overlap(found[chosen], target.boxes[chosen])) * weight).sum()
    loss: Tensor = (BOX_WEIGHT * box + CLASS_WEIGHT * classes) / total
    return loss


def padded(boxes: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Each picture's objects as one tensor: boxes [n, m, 4], labels [n, m], and which are real, bool [n, m]."""
    most = max(1, max(len(each) for each in boxes))
    all_boxes, all_labels = torch.zeros(len(boxes), most, 4), torch.zeros(len(boxes), most, dtype=torch.int64)
    real = torch.zeros(len(boxes), most, dtype=torch.bool)
    for row, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        all_boxes[row, : len(box)], all_labels[row, : len(box)], real[row, : len(box)] = box, label, True
    return all_boxes, all_labels, real
