"""ONNX operators of networks that see pictures as torch functions; `torch_operators` has the others.

References: ONNX Operators, ai.onnx, sets 13 to 23 (semantics, defaults).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.engine import EngineUnavailable

Call = Callable[..., Tensor]


def _padded(x: Tensor, attributes: Mapping[str, Any], value: float) -> Tensor:
    """ONNX names all the beginnings, then all the ends; torch the last axis first, its beginning and its end."""
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise EngineUnavailable(f"it does not know padding {attributes['auto_pad']!r}; another engine may do")
    axes = x.ndim - 2
    pads = attributes.get("pads") or [0] * 2 * axes
    if not any(pads):
        return x
    turned = [size for axis in reversed(range(axes)) for size in (pads[axis], pads[axes + axis])]
    return functional.pad(x, turned, value=value)


def _conv(attributes: Mapping[str, Any]) -> Call:
    convolutions = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}

    def call(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ones = [1] * (x.ndim - 2)
        stride, dilation = attributes.get("strides") or ones, attributes.get("dilations") or ones
        return convolutions[x.ndim](
            _padded(x, attributes, 0.0), weight, bias, stride, 0, dilation, attributes.get("group", 1)
        )

    return call


def _max_pool(attributes: Mapping[str, Any]) -> Call:
    pools = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}
    if attributes.get("ceil_mode", 0):
        raise EngineUnavailable("it does not know `MaxPool` with ceil_mode; another engine may do")

    def call(x: Tensor) -> Tensor:
        ones = [1] * (x.ndim - 2)
        stride, dilation = attributes.get("strides") or ones, attributes.get("dilations") or ones
        padded = _padded(x, attributes, float("-inf"))
        pooled: Tensor = pools[x.ndim](padded, attributes["kernel_shape"], stride, 0, dilation)
        return pooled

    return call


def _resize(attributes: Mapping[str, Any]) -> Call:
    known = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    defaults = {
        "mode": b"nearest",
        "coordinate_transformation_mode": b"half_pixel",
        "nearest_mode": b"round_prefer_floor",
    }
    got = {name: attributes.get(name, default) for name, default in defaults.items()}
    if got != known or attributes.get("axes"):
        raise EngineUnavailable(f"it knows `Resize` of {known} alone, got {got}; another engine may do")

    def call(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        if scales is None or not scales.numel():
            if sizes is None:
                raise EngineUnavailable("it found neither scales nor sizes for `Resize`; another engine may do")
            factors = [size / axis for size, axis in zip(sizes.tolist(), x.shape, strict=True)]
        else:
            factors = scales.tolist()
        for axis, factor in enumerate(factors):
            if factor != 1:
                places = torch.arange(int(x.shape[axis] * factor), device=x.device)
                x = x.index_select(axis, (places / factor).floor().long().clamp(max=x.shape[axis] - 1))
        return x

    return call


def _shape(attributes: Mapping[str, Any]) -> Call:
    start, end = attributes.get("start", 0), attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


def _slice(attributes: Mapping[str, Any]) -> Call:
    def call(
        x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        along = range(len(starts)) if axes is None else axes.tolist()
        strides = [1] * len(starts) if steps is None else steps.tolist()
        for start, end, axis, step in zip(starts.tolist(), ends.tolist(), along, strides, strict=True):
            places = range(*slice(start, end, step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
        return x

    return call


OPERATORS: dict[str, Callable[[Mapping[str, Any]], Call]] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
}
