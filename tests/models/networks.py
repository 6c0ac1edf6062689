"""Small ONNX networks, made by hand, whose outputs a test can work out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.golden import GoldenBatch
from models.manifest import Manifest, TensorEntry, Trained
from models.reference import Reference
from models.repository import Model, Repository

WEIGHTS = np.array([1, 2, 3, 4], dtype=np.float32)


def scaling() -> onnx.ModelProto:
    """x float32 [n, 4] -> y = x * WEIGHTS."""
    return _proto([helper.make_node("Mul", ["x", "w"], ["y"])], [numpy_helper.from_array(WEIGHTS, "w")], ["n", 4])


def folding() -> onnx.ModelProto:
    """x float32 [n, 4] -> y [2, 4]: fails while it runs for every n but 2."""
    shape = numpy_helper.from_array(np.array([2, 4], dtype=np.int64), "shape")
    return _proto([helper.make_node("Reshape", ["x", "shape"], ["y"])], [shape], [2, 4])


def mixing() -> onnx.ModelProto:
    """x float32 [n, 4], k int64 [n, 1] -> product float32 [n, 4] = x * k, sign float32 [n] of the first column of x."""
    shape = numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat")
    nodes = [
        helper.make_node("Cast", ["k"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "factor"], ["product"]),
        helper.make_node("MatMul", ["x", "first"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["flattened"]),
        helper.make_node("Sign", ["flattened"], ["sign"]),
    ]
    first = numpy_helper.from_array(np.array([[1], [0], [0], [0]], dtype=np.float32), "first")
    graph = helper.make_graph(
        nodes,
        "mixing",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("k", TensorProto.INT64, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("product", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("sign", TensorProto.FLOAT, ["n"]),
        ],
        [first, shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save_mixing(root: Path) -> Model:
    batch = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    factor = np.arange(6, dtype=np.int64)[:, None] - 2
    outputs = {"product": batch * factor.astype(np.float32), "sign": np.sign(batch[:, 0])}
    return Repository([root]).save(
        mixing().SerializeToString(),
        manifest(
            name="mixing",
            inputs=(TensorEntry("x", "float32", (-1, 4)), TensorEntry("k", "int64", (-1, 1))),
            outputs=(TensorEntry("product", "float32", (-1, 4)), TensorEntry("sign", "float32", (-1,))),
        ),
        GoldenBatch({"x": batch, "k": factor}, outputs),
    )


def manifest(version: int = 1, **changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "scaling",
        "version": version,
        "description": "Multiplies by 1 to 4.",
        "licence": "Apache-2.0",
        "sha256": "0" * 64,
        "inputs": (TensorEntry("x", "float32", (-1, 4)),),
        "outputs": (TensorEntry("y", "float32", (-1, 4)),),
        "trained": Trained("by hand", "nothing", 0),
        "thresholds": {"flag": 0.5},
    }
    return Manifest(**(fields | changes))  # type: ignore[arg-type]


def golden(rows: int = 3) -> GoldenBatch:
    batch = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    return GoldenBatch({"x": batch}, {"y": batch * WEIGHTS})


def sample(seed: int = 0) -> Reference:
    """Of rows that the network of `scaling` may have been trained on, and of its first output as the score."""
    rows = np.random.default_rng(seed).normal(size=(400, 4))
    return Reference.of(rows, rows[:, 0], ("a", "b", "c", "d"), np.arange(400) * 3_600_000, np.arange(400))


def save(root: Path, version: int = 1, sample: Reference | None = None, **changes: object) -> Model:
    return Repository([root]).save(scaling().SerializeToString(), manifest(version, **changes), golden(), sample)


def _proto(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], out: list[int | str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "by-hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
