"""The fraud ensemble as an ONNX file. Needs torch and onnx (extra `train`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.fraud.ensemble import FraudEnsemble

OPSET, IR_VERSION = 18, 8  # what ONNX Runtime has read since 1.14


def to_onnx(ensemble: FraudEnsemble) -> bytes:
    """The ensemble as one ONNX file with a free batch axis: `features` float32 [n, d] to `score` float32 [n].

    The same weights give the same bytes on one machine and onnx version. What is constant is folded into the
    layers next to it (standardisation into the first, the members' mean and the calibration into the last), and every
    layer of every member is one Gemm, which ONNX Runtime fuses with its bias and ReLU.
    """
    graph = _Graph()
    encoded = _encode(graph, ensemble)
    first, *deeper = zip(ensemble.weights[:-1], ensemble.biases[:-1], strict=True)
    outputs = []
    for member in range(len(first[0])):
        hidden = graph.dense(encoded, *_on_logarithms(ensemble, _array(first[0][member]), _array(first[1][member])))
        for weight, bias in deeper:
            hidden = graph.dense(hidden, _array(weight[member]), _array(bias[member]))
        outputs.append(hidden)
    weight, bias = _array(ensemble.weights[-1]), _array(ensemble.biases[-1])
    slope, shift = float(ensemble.slope), float(ensemble.shift)
    last = graph.tensor("weight", slope / len(weight) * np.concatenate(weight))
    offset = graph.tensor("bias", slope * bias.mean(axis=0).ravel() + shift)
    logit = graph.node("Gemm", graph.node("Concat", *outputs, axis=1), last, offset)
    probability = graph.node("Sigmoid", logit)
    graph.node("Squeeze", probability, graph.tensor("axis", np.array([1]), np.int64), output="score")
    return graph.encode(len(ensemble.mean))


def _encode(graph: _Graph, ensemble: FraudEnsemble) -> str:
    """sign(x) * log(1 + |x|) of each input, then how far each bin is filled."""
    one = graph.tensor("one", np.array(1.0))
    size = graph.node("Log", graph.node("Add", graph.node("Abs", "features"), one))
    compressed = graph.node("Mul", graph.node("Sign", "features"), size)
    source = graph.tensor("source", _array(ensemble.source), np.int64)
    depth = graph.tensor("depth", np.array(len(ensemble.mean)), np.int64)
    off_on = graph.tensor("off_on", np.arange(2.0))
    # ONNX Runtime makes the matrix when it loads; a product with it takes a ninth of the time that Gather takes.
    chosen = graph.node("OneHot", source, depth, off_on, axis=0)
    above = graph.node("Gemm", "features", chosen, graph.tensor("low", -_array(ensemble.low)))
    filled = graph.node("Mul", above, graph.tensor("per_width", _array(ensemble.per_width)))
    filled = graph.node("Clip", filled, graph.tensor("zero", np.array(0.0)), one)
    return graph.node("Concat", compressed, filled, axis=1)


def _on_logarithms(
    ensemble: FraudEnsemble, weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and bias that do for logarithms what these do for standardised ones."""
    mean, scale = _array(ensemble.mean), _array(ensemble.scale)
    weight = weight.copy()
    weight[: len(mean)] *= scale[:, None]
    return weight, bias - mean @ weight[: len(mean)]


class _Graph:
    """Nodes and constants, as they are added; float constants become float32."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def tensor(self, name: str, values: NDArray[Any], dtype: type[np.generic] = np.float32) -> str:
        name = name if name not in self._constants else f"{name}_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(values.astype(dtype), name)
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def dense(self, values: str, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> str:
        """relu(values @ weight + bias)"""
        layer = self.node("Gemm", values, self.tensor("weight", weight), self.tensor("bias", bias.ravel()))
        return self.node("Relu", layer)

    def encode(self, width: int) -> bytes:
        graph = helper.make_graph(
            self._nodes,
            "fraud",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="headrace")
        onnx.checker.check_model(model, full_check=True)
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised


def _array(tensor: Any) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().numpy().astype(np.float64)
    return array
