"""A network run one node at a time, every tensor between two nodes kept. Needs the extra `optimise`.

ONNX Runtime on a CPU computes chains of float16 nodes in float32 and rounds only at their end, at every optimisation
level, so that what a GPU would lose cannot be seen. Between nodes that are run one by one, tensors are what the file
says they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.engine import InferenceFailed, ModelCorrupt
from models.precision.rows import row_groups

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Tensors = dict[str, NDArray[Any]]
MOST_BYTES = 512 * 1024 * 1024  # of all tensors of a network, for the rows that it is tried with


class Stepwise:
    """A network as the sequence of its nodes; a node with a body, such as If, is one step.

    Outputs are those of the file's own arithmetic, without any fusion: what another engine may differ by.

    Raises: ModelCorrupt where the file is no ONNX model, or holds a node that ONNX Runtime does not know.
    """

    def __init__(self, network: bytes | onnx.ModelProto, reference: str) -> None:
        self._model = parse(network, reference) if isinstance(network, bytes) else network
        self._reference = reference
        self._constants = {each.name: each for each in self._model.graph.initializer}
        self._values = {name: numpy_helper.to_array(each) for name, each in self._constants.items()}
        self._steps: dict[str, InferenceSession] = {}
        self.fixed_rows = _fixed_rows(self._model)
        """How many rows the network takes at a time; None: any number."""

    def tensors(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Every tensor by name: inputs, constants, and what each node gives.

        Raises: ModelCorrupt; InferenceFailed where a node fails, or gives something other than tensors.
        """
        known: Tensors = self._values | dict(inputs)
        for node in self._model.graph.node:
            self._step(node, known)
        return known

    def affordable(self, rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As many of the rows, evenly taken, as leave all tensors in memory; at least those of one call.

        Raises: ModelCorrupt, InferenceFailed.
        """
        step = self.fixed_rows or 1
        count = len(next(iter(rows.values())))
        first = self.tensors({name: values[:step] for name, values in rows.items()})
        size = sum(tensor.nbytes for name, tensor in first.items() if name not in self._constants)
        groups = min(count // step, max(1, MOST_BYTES // size))
        taken = np.linspace(0, groups * step * (count // (groups * step)) - 1, groups * step).astype(np.int64)
        return {name: values[taken] for name, values in rows.items()}

    def tensors_of(self, rows: Mapping[str, NDArray[Any]]) -> Tensors:
        """`tensors` for any number of rows; where the network takes a fixed number, stacked call by call.

        Raises: ModelCorrupt, InferenceFailed.
        """
        if self.fixed_rows is None:
            return self.tensors(rows)
        calls = [self.tensors(group) for group in row_groups(rows, self.fixed_rows)]
        made = {name for node in self._model.graph.node for name in node.output if name} | set(rows)
        return self._values | {name: np.stack([call[name] for call in calls]) for name in made}

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """The network's outputs."""
        known = self.tensors(inputs)
        return {output.name: known[output.name] for output in self._model.graph.output}

    def _step(self, node: onnx.NodeProto, known: Tensors) -> None:
        fed = {name: known[name] for name in dict.fromkeys(uses(node)) if name in known and name not in self._constants}
        if node.name not in self._steps:
            self._steps[node.name] = self._session(node, fed)
        session = self._steps[node.name]
        names = [name for name in node.output if name]
        try:
            got = session.run(names, fed)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise InferenceFailed(
                f"running node {node.name} ({node.op_type}) of {self._reference} by itself: {error}"
            ) from error
        if not all(isinstance(each, np.ndarray) for each in got):
            raise InferenceFailed(
                f"running node {node.name} ({node.op_type}) of {self._reference} by itself: expected tensors, "
                "got a sequence or a map, which cannot be compared"
            )
        known |= zip(names, got, strict=True)

    def _session(self, node: onnx.NodeProto, fed: Tensors) -> InferenceSession:
        import onnxruntime

        graph = helper.make_graph(
            [node],
            "step",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
                for name, value in fed.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
            [self._constants[name] for name in dict.fromkeys(uses(node)) if name in self._constants],
        )
        model = helper.make_model(graph, functions=list(self._model.functions), ir_version=self._model.ir_version)
        del model.opset_import[:]
        model.opset_import.extend(self._model.opset_import)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # what it would log comes as an exception
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise ModelCorrupt(
                f"loading node {node.name} ({node.op_type}) of {self._reference} by itself: {error}"
            ) from error


def parse(network: bytes, reference: str) -> onnx.ModelProto:
    """The model with a distinct name for every node.

    Raises: ModelCorrupt.
    """
    try:
        model = onnx.load_model_from_string(network)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base of their own
        raise ModelCorrupt(f"reading {reference}: it is no valid ONNX model: {error}; nothing was derived") from error
    taken: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{place}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)
    return model


def serialise(model: onnx.ModelProto) -> bytes:
    """The file; equal models give equal bytes."""
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _fixed_rows(model: onnx.ModelProto) -> int | None:
    constants = {each.name for each in model.graph.initializer}
    shapes = [each.type.tensor_type.shape.dim for each in model.graph.input if each.name not in constants]
    fixed = [axes[0].dim_value for axes in shapes if axes and axes[0].HasField("dim_value")]
    return fixed[0] if fixed else None


def uses(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads: its inputs, and what its bodies take from around it."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        own = {each.name for each in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        yield from (name for inner in body.node for name in uses(inner) if name not in own)
        yield from (each.name for each in body.output if each.name not in own)


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node, such as the branches of an If."""
    inside = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return inside + [graph for attribute in node.attribute for graph in attribute.graphs]
