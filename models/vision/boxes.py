"""Boxes as tensors: how much they overlap. Needs torch (extra `train`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TINY = 1e-7


def corners(boxes: Tensor) -> Tensor:
    """cx, cy, w, h in the last axis to x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes x1, y1, x2, y2 in the last axis; the other axes broadcast."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    return common / (_area(one) + _area(other) - common + _TINY)


def complete_overlap(one: Tensor, other: Tensor) -> Tensor:
    """CIoU: the overlap, less for centres apart and for other proportions; from -2 to 1.

    References:
        Z. Zheng et al.: Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression. AAAI 2020.
    """
    around = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    apart = (one[..., :2] + one[..., 2:] - other[..., :2] - other[..., 2:]) / 2
    distance = apart.square().sum(dim=-1) / (around.square().sum(dim=-1) + _TINY)
    found = overlap(one, other)
    proportions = (4 / math.pi**2) * (_angle(one) - _angle(other)).square()
    with torch.no_grad():
        weight = proportions / (1 - found + proportions + _TINY)
    return found - distance - weight * proportions


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _angle(boxes: Tensor) -> Tensor:
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.atan(size[..., 0] / (size[..., 1] + _TINY))
