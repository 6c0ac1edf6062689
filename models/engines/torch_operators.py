"""ONNX operators as torch functions: each takes a node's attributes and returns what computes the node's output.

References: ONNX Operators, ai.onnx, sets 13 to 23 (semantics, defaults, broadcasting, saturation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from models.engine import EngineUnavailable
from models.engines import torch_pictures

Call = Callable[..., Tensor]
Maker = Callable[[Mapping[str, Any]], Call]

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


def _plain(function: Callable[..., Any]) -> Maker:
    """An operator without attributes whose torch function takes the same inputs."""
    return lambda attributes: function


def _gemm(attributes: Mapping[str, Any]) -> Call:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    flip_a, flip_b = attributes.get("transA", 0), attributes.get("transB", 0)

    def call(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = (a.T if flip_a else a) @ (b.T if flip_b else b)
        product = product if alpha == 1.0 else alpha * product
        return product if c is None else product + (c if beta == 1.0 else beta * c)

    return call


def _clip(attributes: Mapping[str, Any]) -> Call:
    return lambda x, low=None, high=None: x if low is None and high is None else torch.clamp(x, low, high)


def _concat(attributes: Mapping[str, Any]) -> Call:
    axis = attributes["axis"]
    return lambda *parts: torch.cat(parts, dim=axis)


def _one_hot(attributes: Mapping[str, Any]) -> Call:
    axis = attributes.get("axis", -1)

    def call(indices: Tensor, depth: Tensor, off_on: Tensor) -> Tensor:
        size = int(depth.reshape(-1)[0])
        indices = indices.to(torch.int64)
        indices = torch.where(indices < 0, indices + size, indices).unsqueeze(axis)
        shape = [1] * indices.ndim
        shape[axis] = size
        classes = torch.arange(size, device=indices.device).reshape(shape)
        return torch.where(indices == classes, off_on[1], off_on[0])

    return call


def _squeeze(attributes: Mapping[str, Any]) -> Call:
    return lambda x, axes=None: x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def _reshape(attributes: Mapping[str, Any]) -> Call:
    keeps_zero = attributes.get("allowzero", 0)

    def call(x: Tensor, shape: Tensor) -> Tensor:
        wanted = [x.shape[axis] if size == 0 and not keeps_zero else size for axis, size in enumerate(shape.tolist())]
        return x.reshape(wanted)

    return call


def _transpose(attributes: Mapping[str, Any]) -> Call:
    order = attributes.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.ndim))))


def _cast(attributes: Mapping[str, Any]) -> Call:
    to = attributes["to"]
    if to not in DTYPES:
        raise EngineUnavailable(f"it does not know `Cast` to {TensorProto.DataType.Name(to)}; another engine may do")
    return lambda x: x.to(DTYPES[to])


def _quantize(attributes: Mapping[str, Any]) -> Call:
    axis = attributes.get("axis", 1)

    def call(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = torch.uint8 if zero is None else zero.dtype
        bounds = torch.iinfo(dtype)
        levels = torch.round(x / _along(scale, x, axis))  # half to even, as ONNX wants it
        if zero is not None:
            levels = levels + _along(zero, x, axis)
        return levels.clamp(bounds.min, bounds.max).to(dtype)

    return call


def _dequantize(attributes: Mapping[str, Any]) -> Call:
    axis = attributes.get("axis", 1)

    def call(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        levels = x.to(scale.dtype)
        if zero is not None:
            levels = levels - _along(zero, x, axis).to(scale.dtype)
        return levels * _along(scale, x, axis)

    return call


def _along(each: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scalar as it is; a vector, one value a slice of `x` along `axis`, in a shape that broadcasts."""
    if each.ndim == 0 or each.numel() == 1:
        return each.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return each.reshape(shape)


def _constant(attributes: Mapping[str, Any]) -> Call:
    if "value" not in attributes:
        raise EngineUnavailable(
            f"it knows `Constant` of a tensor alone, got {sorted(attributes)}; another engine may do"
        )
    return lambda: attributes["value"]


OPERATORS: dict[str, Maker] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "DequantizeLinear": _dequantize,
    "Div": _plain(torch.div),
    "Exp": _plain(torch.exp),
    "Gemm": _gemm,
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Mul": _plain(torch.mul),
    "OneHot": _one_hot,
    "QuantizeLinear": _quantize,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
    **torch_pictures.OPERATORS,
}
