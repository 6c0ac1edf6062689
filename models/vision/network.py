"""The bundled detector: a small anchor-free network, decoded inside its graph. Needs torch (extra `train`).

References:
    Z. Ge, S. Liu, F. Wang, Z. Li, J. Sun: YOLOX: Exceeding YOLO Series in 2021. arXiv:2107.08430. (points instead of
        anchors, decoupled heads)
    T.-Y. Lin et al.: Feature Pyramid Networks for Object Detection. CVPR 2017; S. Liu et al.: Path Aggregation Network
        for Instance Segmentation. CVPR 2018. (the neck)
    C.-Y. Wang et al.: CSPNet. CVPR Workshops 2020. (the blocks)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
MAX_LOG_SIZE = 6.0  # of a box's side in strides: e^6 strides are more than any picture


@dataclass(frozen=True)
class Shape:
    """How large the network is.

    Args:
        width, height: of its input in pixels, multiples of 32.
        classes: how many.
        channels: of the five stages, at strides 2, 4, 8, 16 and 32.
        blocks: residual blocks at strides 4, 8, 16 and 32.
        neck: channels of each level behind the backbone.
    """

    width: int = 384
    height: int = 288
    classes: int = 5
    channels: tuple[int, int, int, int, int] = (16, 32, 48, 96, 160)
    blocks: tuple[int, int, int, int] = (1, 1, 2, 1)
    neck: int = 64


class DetectorNetwork(nn.Module):
    """Pictures to boxes with a probability for each class.

    In training it gives what the loss needs; decoded, as ONNX holds it, float32 [n, 4 + classes, points]: cx, cy, w, h
    in pixels of the input, then each class's probability.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        stem, *stages = shape.channels
        self.stem = _Convolution(3, stem, 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(_Convolution(before, after, 3, 2), _Split(after, after, blocks, residual=True))
            for before, after, blocks in zip(shape.channels[:-1], stages, shape.blocks, strict=True)
        )
        self.pool = _Pool(stages[-1])
        neck = shape.neck
        self.lateral = nn.ModuleList(_Convolution(channels, neck, 1) for channels in stages[1:])
        self.up = nn.ModuleList(_Split(2 * neck, neck, 1) for _ in STRIDES[1:])
        self.shrink = nn.ModuleList(_Convolution(neck, neck, 3, 2) for _ in STRIDES[1:])
        self.down = nn.ModuleList(_Split(2 * neck, neck, 1) for _ in STRIDES[1:])
        self.heads = nn.ModuleList(_Head(neck, shape.classes) for _ in STRIDES)
        points, strides = grid(shape.width, shape.height)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """float32 [n, 3, h, w], red, green, blue from 0 to 255, to float32 [n, 4 + classes, points]."""
        boxes, logits = self.raw(pictures)
        return torch.cat([boxes, logits.sigmoid()], dim=1)

    def raw(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes float32 [n, 4, points] as cx, cy, w, h in pixels, and logits float32 [n, classes, points]."""
        levels = self._levels(pictures / 255 - 0.5)
        found = [head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)]
        every = torch.cat(found, dim=2).float()
        centre = self.points + every[:, :2] * self.strides
        size = every[:, 2:4].clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp() * self.strides
        return torch.cat([centre, size], dim=1), every[:, 4:]

    def _levels(self, pictures: Tensor) -> list[Tensor]:
        features, kept = self.stem(pictures), []
        for stage in self.stages:
            features = stage(features)
            kept.append(features)
        kept[-1] = self.pool(kept[-1])
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.lateral, kept[1:], strict=True))
        middle = self.up[0](torch.cat([middle, _doubled(coarse)], dim=1))
        fine = self.up[1](torch.cat([fine, _doubled(middle)], dim=1))
        middle = self.down[0](torch.cat([self.shrink[0](fine), middle], dim=1))
        coarse = self.down[1](torch.cat([self.shrink[1](middle), coarse], dim=1))
        return [fine, middle, coarse]


def grid(width: int, height: int) -> tuple[Tensor, Tensor]:
    """The points that predict: their places float32 [2, p] in pixels and strides float32 [1, p]."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        points.append((torch.stack([x.flatten(), y.flatten()]) + 0.5) * stride)
        strides.append(torch.full((1, x.numel()), float(stride)))
    return torch.cat(points, dim=1).float(), torch.cat(strides, dim=1)


class _Convolution(nn.Sequential):
    """Convolution, batch normalisation, ReLU: ONNX Runtime fuses the three into one operator."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(after, momentum=0.03, eps=1e-3),
            nn.ReLU(inplace=True),
        )


class _Block(nn.Module):
    def __init__(self, channels: int, *, residual: bool) -> None:
        super().__init__()
        self.first, self.second = _Convolution(channels, channels, 3), _Convolution(channels, channels, 3)
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(features))
        return features + found if self.residual else found


class _Split(nn.Module):
    """Half of the channels pass by the blocks, and what each block finds is kept."""

    def __init__(self, before: int, after: int, blocks: int, *, residual: bool = False) -> None:
        super().__init__()
        half = after // 2
        self.first, self.second = _Convolution(before, half), _Convolution(before, half)
        self.blocks = nn.ModuleList(_Block(half, residual=residual) for _ in range(blocks))
        self.join = _Convolution((2 + blocks) * half, after)

    def forward(self, features: Tensor) -> Tensor:
        kept = [self.first(features), self.second(features)]
        for block in self.blocks:
            kept.append(block(kept[-1]))
        joined: Tensor = self.join(torch.cat(kept, dim=1))
        return joined


class _Pool(nn.Module):
    """What is near, at three scales: a large thing needs to be seen as a whole."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.after = _Convolution(channels, channels // 2), _Convolution(2 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        kept = [self.before(features)]
        for _ in range(3):
            kept.append(functional.max_pool2d(kept[-1], 5, 1, 2))
        pooled: Tensor = self.after(torch.cat(kept, dim=1))
        return pooled


class _Head(nn.Module):
    """Box and classes of each point: float32 [n, 4 + classes, h, w], as offsets, logarithms of sizes, and logits."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.box = nn.Sequential(_Convolution(channels, channels // 2, 3), nn.Conv2d(channels // 2, 4, 1))
        self.kind = nn.Sequential(_Convolution(channels, channels, 3), nn.Conv2d(channels, classes, 1))
        # Few points have an object: at first each says so.
        nn.init.constant_(self.kind[1].bias, -math.log((1 - 0.01) / 0.01))
        # Most things are some strides large, and around their points.
        self.box[1].bias.data.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0]))

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.box(features), self.kind(features)], dim=1)


def _doubled(features: Tensor) -> Tensor:
    doubled: Tensor = functional.interpolate(features, scale_factor=2, mode="nearest")
    return doubled
