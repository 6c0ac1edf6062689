"""A network that was exported for one picture is rewritten to take any number, where its graph allows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelRefused

if TYPE_CHECKING:
    import onnx

    Constants = dict[str, NDArray[np.int64]]

BATCH = "batch"
SQUEEZES_BY_INPUT = 13  # from this opset on, the axes are a tensor


def free_batch(network: bytes, *, inner: bool = False) -> bytes | None:
    """The same network with a free first axis of its inputs and outputs; None where its graph shows no way.

    Shapes that the export froze for one picture are freed where one number can be worked out from the others: those
    of Reshape and the sizes of Resize. Whether the rewritten network computes the same is for the caller to see: rows
    alone must give what they give in a batch.

    Args:
        inner: whether a Reshape may have the batch in another axis than the first, as attention often has.

    Raises: ModelRefused where the package `onnx` is missing.
    """
    onnx = _onnx()
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(network))
        _free(model, inner)
        return bytes(model.SerializeToString())
    except (ValueError, RuntimeError, onnx.shape_inference.InferenceError):  # a graph that onnx cannot follow
        return None


def add_batch(network: bytes, name: str) -> bytes:
    """The network whose input of this name has an axis of 1 before its own.

    Raises: ModelRefused where the package `onnx` is missing.
    """
    onnx = _onnx()
    model = onnx.load_from_string(network)
    given = next(each for each in model.graph.input if each.name == name)
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    given.name = f"{name}.batch"  # what reads the input, in whatever inner graph, goes on reading its name
    given.type.tensor_type.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
    if opset < SQUEEZES_BY_INPUT:
        squeeze = onnx.helper.make_node("Squeeze", [given.name], [name], axes=[0])
    else:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), f"{name}.axis"))
        squeeze = onnx.helper.make_node("Squeeze", [given.name, f"{name}.axis"], [name])
    model.graph.node.insert(0, squeeze)
    return bytes(model.SerializeToString())


def fix_inputs(network: bytes, values: Mapping[str, NDArray[Any]]) -> bytes:
    """The network with the inputs of these names become constants, in the types that the inputs have.

    Raises: ModelRefused where the package `onnx` is missing.
    """
    onnx = _onnx()
    model = onnx.load_from_string(network)
    for name, value in values.items():
        place = next(place for place, each in enumerate(model.graph.input) if each.name == name)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[place].type.tensor_type.elem_type)
        del model.graph.input[place]
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(dtype), name))
    return bytes(model.SerializeToString())


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ModelRefused(
            "rewriting the network: importing onnx failed; install it: pip install 'headrace[vision]'"
        ) from error
    return onnx


def _free(model: onnx.ModelProto, inner: bool) -> None:
    graph = model.graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type == "Reshape":
            _reshape(graph, node, constants, shapes, inner)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            _resize(graph, node, shapes)
    _drop_unused(graph)
    weights = {each.name for each in graph.initializer}
    for value in (*(each for each in graph.input if each.name not in weights), *graph.output):
        axes = value.type.tensor_type.shape.dim
        if len(axes) and axes[0].dim_value == 1:
            axes[0].dim_param = BATCH
    del graph.value_info[:]


def _constants(graph: onnx.GraphProto) -> Constants:
    """Every constant of whole numbers, by name."""
    from onnx import TensorProto, numpy_helper

    tensors = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    return {
        name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if tensor.data_type == TensorProto.INT64
    }


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Axes; 0 where one is free."""
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, place: int, values: list[int]) -> None:
    """Give a node an input of its own in place of a constant that others may read too."""
    from onnx import numpy_helper

    name = f"{node.output[0]}.freed.{place}"
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    node.input[place] = name


def _reshape(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Constants, shapes: dict[str, list[int]], inner: bool
) -> None:
    """[1, 85, -1] becomes [-1, 85, 169], and [24, 2, 1936] becomes [-1, 2, 1936]: the batch is in the first axis.

    A shape that begins with another number than 1 and has a -1 elsewhere is left as it is: [2, -1, 24, 44, 44] has the
    batch there.
    """
    target = constants.get(node.input[1])
    if target is None or not len(target) or target[0] in (0, -1):
        return
    values, before = [int(each) for each in target], shapes.get(node.input[0], [])
    if -1 in values:
        if values[0] != 1:
            return
        known = shapes.get(node.output[0], [])
        if len(known) != len(values) or not all(known[1:]):
            return
        values = known
    if 0 in values:
        values = [before[place] if each == 0 and place < len(before) else each for place, each in enumerate(values)]
    axis = _axis_of_batch(before, values) if inner else 0
    values[axis] = -1
    _replace(graph, node, 1, values)


def _axis_of_batch(before: list[int], after: list[int]) -> int:
    """Which axis of a new shape the batch is in: [20, 1, 16] to [20, 4, 4] has it in the second, before the heads.

    It is where as many numbers stand before it as in the old shape, or where the new one has its 1.
    """
    if after[0] == 1:
        return 0
    if 1 in after:
        return after.index(1)
    if 1 in before and before[0] != 1:
        outer = math.prod(before[: before.index(1)])
        for axis in range(1, len(after)):
            if math.prod(after[:axis]) == outer:
                return axis
    return 0


def _resize(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, list[int]]) -> None:
    """Sizes of an output with a batch of 1 become the scales that give them."""
    from onnx import numpy_helper

    before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    if len(before) != len(after) or not all(before) or not all(after):
        return
    scales = np.array([new / old for old, new in zip(before, after, strict=True)], np.float32)
    name = f"{node.output[0]}.freed.2"
    graph.initializer.append(numpy_helper.from_array(scales, name))
    node.input[2] = name
    del node.input[3]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Constants that nothing reads any more; graphs inside nodes may read any."""
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
