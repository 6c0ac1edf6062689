"""Small networks that look at pictures, as exports leave them: frozen to one picture, or with lists for outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Axes = Sequence[int | str]
SIDE = 64


def frozen_detector(batch: int | str = 1, labels: int = 3) -> bytes:
    """images [1, 3, 64, 64] -> rows [1, 4 + labels, 64]: YOLOv8's output, its Reshape frozen to one picture.

    A cell's box is its own eight pixels and some more; its scores are how much red, green and blue it has.
    """
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "w"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["none"]),
        helper.make_node("Slice", ["none", "start", "stop", "axis"], ["four"]),
        helper.make_node("Add", ["four", "grid"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "flat"], ["rows"], axis=1),
    ]
    weights = np.zeros((max(labels, 4), 3, 1, 1), np.float32)
    weights[:3, :3, 0, 0] = np.eye(3)
    grid = np.array([[(x + 0.5) * 8, (y + 0.5) * 8, 12, 10] for y in range(8) for x in range(8)], np.float32).T[None]
    tensors = {
        "w": weights,
        "shape": np.array([1, max(labels, 4), -1]),
        "zero": np.zeros(1, np.float32),
        "start": np.array([0]),
        "stop": np.array([4]),
        "axis": np.array([1]),
        "grid": grid,
    }
    return _model(nodes, tensors, [batch, 3, SIDE, SIDE], {"rows": (FLOAT, [batch, 4 + max(labels, 4), 64])})


def stubborn_detector() -> bytes:
    """The same, with the axis of the batch taken away and put back at the end: it works for one picture alone."""
    model = onnx.load_from_string(frozen_detector())
    model.graph.node[-1].output[0] = "joined"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node.append(helper.make_node("Squeeze", ["joined", "first"], ["lone"]))
    model.graph.node.append(helper.make_node("Unsqueeze", ["lone", "first"], ["rows"]))
    return bytes(model.SerializeToString())


def attending_detector() -> bytes:
    """The same, by way of [cells, 1, columns] and [cells, heads, columns / heads], as attention folds its heads."""
    model = onnx.load_from_string(frozen_detector())
    model.graph.node[-1].output[0] = "joined"
    folds = {"fold": np.array([64, 2, 4]), "unfold": np.array([64, 1, 8])}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in folds.items())
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["joined"], ["cells_first"], perm=[2, 0, 1]),
            helper.make_node("Reshape", ["cells_first", "fold"], ["folded"]),
            helper.make_node("Transpose", ["folded"], ["heads_first"], perm=[1, 0, 2]),
            helper.make_node("Transpose", ["heads_first"], ["again"], perm=[1, 0, 2]),
            helper.make_node("Reshape", ["again", "unfold"], ["unfolded"]),
            helper.make_node("Transpose", ["unfolded"], ["rows"], perm=[1, 2, 0]),
        ]
    )
    return bytes(model.SerializeToString())


def lists_detector(first: int = 1, share: float = 0.95) -> bytes:
    """images [1, 3, 64, 64] -> boxes [k, 4], labels [k], scores [k]: an object at each of the brightest pixels.

    Those are the pixels brighter than `share` of the brightest one's mean channel.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Reshape", ["mean", "all"], ["pixels"]),
        helper.make_node("ReduceMax", ["pixels"], ["top"], keepdims=1),
        helper.make_node("Mul", ["top", "share"], ["limit"]),
        helper.make_node("Greater", ["pixels", "limit"], ["bright"]),
        helper.make_node("NonZero", ["bright"], ["places"]),
        helper.make_node("Reshape", ["places", "all"], ["index"]),
        helper.make_node("Gather", ["pixels", "index"], ["scores"]),
        helper.make_node("Gather", ["grid", "index"], ["boxes"]),
        helper.make_node("Gather", ["kinds", "index"], ["labels"]),
    ]
    grid = np.array([[x, y, x + 6, y + 4] for y in range(SIDE) for x in range(SIDE)], np.float32)
    tensors = {
        "all": np.array([-1]),
        "share": np.array([share], np.float32),
        "grid": grid,
        "kinds": np.arange(SIDE * SIDE) % 3 + first,
    }
    outputs = {"boxes": (FLOAT, ["k", 4]), "labels": (INT64, ["k"]), "scores": (FLOAT, ["k"])}
    return _model(nodes, tensors, [1, 3, SIDE, SIDE], outputs)


def counting_detector(axes: Axes) -> bytes:
    """The lists of `lists_detector`, and how many objects there are: a float of these axes, [1] or none."""
    model = onnx.load_from_string(lists_detector())
    model.graph.node.append(helper.make_node("Size", ["scores"], ["size"]))
    model.graph.node.append(helper.make_node("Cast", ["size"], ["number"], to=FLOAT))
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "count.shape"))
    model.graph.node.append(helper.make_node("Reshape", ["number", "count.shape"], ["count"]))
    model.graph.output.append(helper.make_tensor_value_info("count", FLOAT, list(axes)))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def constant_detector(outputs: dict[str, np.ndarray]) -> bytes:
    """images [n, 3, 64, 64] -> these outputs, [n, ...], the same for every picture."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "nought"], ["zeros"]),
    ]
    tensors = {"nought": np.zeros(1, np.float32)}
    for name, array in outputs.items():
        tensors |= {f"{name}.shape": np.array([-1] + [1] * array.ndim), f"{name}.own": array[None].astype(np.float32)}
        nodes.append(helper.make_node("Reshape", ["zeros", f"{name}.shape"], [f"{name}.zeros"]))
        nodes.append(helper.make_node("Add", [f"{name}.zeros", f"{name}.own"], [name]))
    axes: dict[str, tuple[int, Axes]] = {name: (FLOAT, ["n", *array.shape]) for name, array in outputs.items()}
    return _model(nodes, tensors, ["n", 3, SIDE, SIDE], axes)


def masked_detector(outputs: dict[str, np.ndarray], kind: int, axes: Axes) -> bytes:
    """The same, with a second input `pixel_mask` of these axes: half of the pixels masked halves all numbers."""
    model = onnx.load_from_string(constant_detector({f"{name}.plain": array for name, array in outputs.items()}))
    model.graph.input.append(helper.make_tensor_value_info("pixel_mask", kind, list(axes)))
    model.graph.node.append(helper.make_node("Cast", ["pixel_mask"], ["real"], to=FLOAT))
    model.graph.node.append(helper.make_node("ReduceMean", ["real"], ["share"], axes=[1, 2], keepdims=1))
    del model.graph.output[:]
    for name, array in outputs.items():
        model.graph.node.append(helper.make_node("Mul", [f"{name}.plain", "share"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, ["n", *array.shape]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def rows_detector(limit: float, batch: int | str = 1, unit: float = 1) -> bytes:
    """images [batch, 3, 64, 64] -> rows [k, 7], as YOLOv7's export with suppression inside gives them.

    Each picture has one object where the mean of the picture exceeds `limit`. Boxes are in this many pixels.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["mean", "limit"], ["bright"]),
        helper.make_node("NonZero", ["bright"], ["places"]),
        helper.make_node("Transpose", ["places"], ["index"], perm=[1, 0]),
        helper.make_node("Cast", ["index"], ["picture"], to=FLOAT),
        helper.make_node("GatherND", ["mean", "index"], ["level"]),
        helper.make_node("Unsqueeze", ["level", "end"], ["score"]),
        helper.make_node("Mul", ["picture", "nought"], ["zeros"]),
        helper.make_node("Add", ["zeros", "object"], ["five"]),
        helper.make_node("Concat", ["picture", "five", "score"], ["rows"], axis=1),
    ]
    tensors = {
        "limit": np.array(limit, np.float32),
        "end": np.array([1]),
        "nought": np.zeros(1, np.float32),
        "object": np.array([[8 / unit, 16 / unit, 40 / unit, 32 / unit, 2]], np.float32),
    }
    return _model(nodes, tensors, [batch, 3, SIDE, SIDE], {"rows": (FLOAT, ["k", 7])})


def classifier(columns: int = 4, batch: int | str = "n", end: str = "", shape: Sequence[int] = ()) -> bytes:
    """images [n, 3, 64, 64] -> scores [n, columns], or of another shape: the mean of each channel, weighed; `end` is
    the last operator."""
    shape = shape or (columns,)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        helper.make_node(end or "Identity", ["logits"], ["rows"]),
        helper.make_node("Reshape", ["rows", "shape"], ["scores"]),
    ]
    weights = np.random.default_rng(0).normal(0, 6, (3, columns)).astype(np.float32)
    tensors = {"w": weights, "shape": np.array([-1, *shape])}
    return _model(nodes, tensors, [batch, 3, SIDE, SIDE], {"scores": (FLOAT, [batch, *shape])})


def _model(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], images: Axes, outputs: dict[str, tuple[int, Axes]]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "vision",
        [helper.make_tensor_value_info("images", FLOAT, list(images))],
        [helper.make_tensor_value_info(name, kind, list(axes)) for name, (kind, axes) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def without_batch(detector: bytes) -> bytes:
    """A detector that gives lists, with an input [3, 64, 64], as torchvision exports it."""
    model = onnx.load_from_string(detector)
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["picture", "front"], ["images"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "front"))
    del model.graph.input[0]
    model.graph.input.append(helper.make_tensor_value_info("picture", FLOAT, [3, SIDE, SIDE]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def sized_detector(means: str = "sides", wide: int = SIDE) -> bytes:
    """images [n, 3, 64, wide], sizes [n, 2] -> labels, boxes, scores [n, 2]: RT-DETR's own export in miniature.

    Args:
        means: what sizes are: `sides` (width and height, whole numbers), `turned` (height and width), `image_shape`
            (likewise, and boxes have y before x) or `scale_factor` (by which a box, in pixels of the input, is divided:
            height's first). The last two are the input's name then, too.
    """
    scaled, shaped = means == "scale_factor", means == "image_shape"
    name = means if scaled or shaped else "sizes"
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "two"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["scores"]),
        helper.make_node("Mul", ["scores", "nought"], ["zeros"]),
        helper.make_node("Cast", ["zeros"], ["whole"], to=INT64),
        helper.make_node("Add", ["whole", "kinds"], ["labels"]),
        helper.make_node("Cast", [name], ["given"], to=FLOAT),
        helper.make_node("Gather", ["given", "order"], ["ordered"], axis=1),
        helper.make_node("Div", ["input", "ordered"], ["sides"])
        if scaled
        else helper.make_node("Identity", ["ordered"], ["sides"]),
        helper.make_node("Concat", ["sides", "sides"], ["corners"], axis=1),
        helper.make_node("Unsqueeze", ["corners", "one"], ["each"]),
        helper.make_node("Unsqueeze", ["zeros", "end"], ["none"]),
        helper.make_node("Add", ["none", "shares"], ["spread"]),
        helper.make_node("Mul", ["spread", "each"], ["boxes"]),
    ]
    tensors = {
        "two": np.array([[1, 2], [0, 1], [1, 0]], np.float32),
        "nought": np.zeros(1, np.float32),
        "order": np.array([0, 1] if means == "sides" or shaped else [1, 0]),
        "input": np.array([[wide, SIDE]], np.float32),
        "kinds": np.array([0, 3]),
        "one": np.array([1]),
        "end": np.array([2]),
        "shares": np.array([[[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1.0, 0.75]]], np.float32),
    }
    if shaped:
        tensors["shares"] = tensors["shares"][..., [1, 0, 3, 2]]
    outputs: dict[str, tuple[int, Axes]] = {
        "labels": (INT64, ["n", 2]), "boxes": (FLOAT, ["n", 2, 4]), "scores": (FLOAT, ["n", 2]),
    }  # fmt: skip
    model = onnx.load_from_string(_model(nodes[:7], tensors, ["n", 3, SIDE, wide], {"labels": outputs["labels"]}))
    model.graph.input.append(helper.make_tensor_value_info(name, FLOAT if scaled else INT64, ["n", 2]))
    model.graph.node.extend(nodes[7:])
    for output in ("boxes", "scores"):
        model.graph.output.append(helper.make_tensor_value_info(output, outputs[output][0], list(outputs[output][1])))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
