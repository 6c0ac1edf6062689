"""An ONNX graph as torch calls: the operators of the bundled networks and of what is derived from them.

A reading of our own, so that a network's answers can be compared with a second, independent implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import numpy_helper

from models.engine import EngineUnavailable
from models.engines.torch_operators import OPERATORS, Call

OPSETS = range(13, 24)  # from 13 on, Squeeze and its like take their axes as an input


class TorchGraph:
    """The nodes of an ONNX graph, in order; what depends on no input is computed once, at the start.

    Args:
        proto: the network; its nodes are in topological order, as ONNX demands.
        device: where torch computes.

    Raises: EngineUnavailable where an operator is not known here; it is named.
    """

    def __init__(self, proto: onnx.ModelProto, device: torch.device) -> None:
        graph = proto.graph
        _check(proto)
        self._device = device
        self._outputs = [each.name for each in graph.output]
        self._steps: list[tuple[Call, list[str], str]] = []
        self._constants: dict[str, torch.Tensor | None] = {"": None}  # an optional input that a node leaves out
        for tensor in graph.initializer:
            self._constants[tensor.name] = self._on_device(numpy_helper.to_array(tensor))
        for node in graph.node:
            call = OPERATORS[node.op_type](_attributes(node, self._on_device))
            if all(name in self._constants for name in node.input):
                self._constants[node.output[0]] = call(*(self._constants[name] for name in node.input))
            else:
                self._steps.append((call, list(node.input), node.output[0]))

    def run(self, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """The outputs, in the graph's order, for inputs that are on the device."""
        values: dict[str, torch.Tensor | None] = self._constants | dict(tensors)
        for call, inputs, output in self._steps:
            values[output] = call(*(values[name] for name in inputs))
        return [each for each in map(values.get, self._outputs) if each is not None]

    def _on_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


def _check(proto: onnx.ModelProto) -> None:
    opset = max((each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")), default=0)
    unknown = sorted(
        {
            f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
            for node in proto.graph.node
            if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS or len(node.output) != 1
        }
    )
    if unknown or opset not in OPSETS:
        what = f"the operators {unknown}" if unknown else f"operator set {opset}"
        raise EngineUnavailable(f"it does not know {what}; another engine may serve it")


def _attributes(node: onnx.NodeProto, on_device: Callable[[Any], torch.Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = on_device(numpy_helper.to_array(value))
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            value = list(value)
        found[attribute.name] = value
    return found
