"""Whether a network scales pixels itself: what its graph does to them first tells what it takes them to be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.onnx_file import CHILDREN, DIMS, OP_TYPE, TENSOR_NAME, Field, fields, parts, text

Floats = NDArray[np.float64]

GRAPH = next(number for number, kind in CHILDREN["model"].items() if kind == "graph")
NODE, INITIALIZER = 1, 5  # of GraphProto
INPUT, OUTPUT, ATTRIBUTE = 1, 2, 5  # of NodeProto
VALUE = 5  # of AttributeProto, where it is a tensor
TYPE, FLOATS, RAW = 2, 4, 9  # of TensorProto
DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
COUNTS = (1, 3)  # of numbers: one for all channels, or each its own

PASSING = ("Cast", "Identity", "Transpose", "Squeeze", "Unsqueeze")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
BYTES: dict[str, Any] = {"scale": 1.0, "mean": (), "std": ()}
SHARES: dict[str, Any] = {"scale": 1 / 255, "mean": (), "std": ()}


def pixels(onnx: bytes, name: str) -> dict[str, Any]:
    """Fields of `Picture` for a network whose graph begins with a scaling of its input; none where it does not.

    What is divided by some 50 or more, or less the mean of bytes, is bytes; what is less the mean of shares, or becomes
    255 times as much, is shares of 255.

    Args:
        name: that of the input.
    """
    by, more = _affine(onnx, name)
    if by <= 1 / 40 or (by == 1 and -160 < more < -80):
        return BYTES
    if by >= 200 or (1 <= by < 10 and -5 < more < 0):
        return SHARES
    return {}


def _affine(onnx: bytes, name: str) -> tuple[float, float]:
    """What the graph first makes of the input, input * by + more, of the channels the largest; 1 and 0 for nothing."""
    graph = next(parts(memoryview(onnx), GRAPH), memoryview(b""))
    nodes = [_Node(message) for message in parts(graph, NODE)]
    weights = {called: message for message in parts(graph, INITIALIZER) if (called := text(message, TENSOR_NAME))}
    weights |= {node.outputs[0]: value for node in nodes if (value := node.constant) is not None}
    by, more = np.ones(1), np.zeros(1)
    while True:
        reading = [node for node in nodes if name in node.inputs and node.operator != "Shape"]
        if len(reading) != 1:
            break
        (node,) = reading
        if node.operator in ARITHMETIC and len(node.inputs) == 2:
            other = node.inputs[1 - node.inputs.index(name)]
            number = _few(weights[other]) if other in weights else None
            if number is None or (node.operator in ("Sub", "Div") and node.inputs[0] != name):
                break
            if node.operator in ("Mul", "Div"):
                if not number.all():
                    break
                factor = number if node.operator == "Mul" else 1 / number
                by, more = by * factor, more * factor
            else:
                more = more + (number if node.operator == "Add" else -number)
        elif node.operator not in PASSING:
            break
        name = node.outputs[0]
    return float(np.abs(by).max()), float(more.min())


class _Node:
    """What of a node is looked at."""

    def __init__(self, message: memoryview) -> None:
        self.operator = text(message, OP_TYPE)
        self.inputs = [bytes(each).decode() for each in parts(message, INPUT)]
        self.outputs = [bytes(each).decode() for each in parts(message, OUTPUT)]
        self._message = message

    @property
    def constant(self) -> memoryview | None:
        """The tensor that it is, if it is one."""
        if self.operator != "Constant":
            return None
        tensors = (tensor for each in parts(self._message, ATTRIBUTE) for tensor in parts(each, VALUE))
        return next(tensors, None)


def _few(tensor: memoryview) -> Floats | None:
    """The numbers of a tensor of floats that has one, or one a channel."""
    read: dict[int, Field] = {field.number: field for field in fields(tensor) if field.number != DIMS}
    kind, data = read.get(TYPE), read.get(RAW) or read.get(FLOATS)
    dtype = DTYPES.get(kind.value) if kind is not None and isinstance(kind.value, int) else None
    if dtype is None or data is None or isinstance(data.value, int):
        return None
    size = np.dtype(dtype).itemsize
    if len(data.value) not in {size * count for count in COUNTS}:
        return None
    numbers: Floats = np.frombuffer(data.value, dtype).astype(np.float64)
    return numbers if all(map(math.isfinite, numbers)) else None
