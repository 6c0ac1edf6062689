"""Networks that a lower precision breaks in a known way; x and y are float32 [n, 4] unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.engines.onnx import OnnxEngine
from models.golden import GoldenBatch
from models.manifest import TensorEntry
from models.precision.rows import Rows
from models.repository import Model, Repository
from tests.models import networks

WIDTH = 4


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    rows: int | str = "n",
    out: Sequence[int | str] | None = None,
    opset: int = 17,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "precision",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, WIDTH] if out is None else out)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def layers(seed: int = 0, rows: int | str = "n", opset: int = 17) -> bytes:
    """Two layers of 64 with a bias each, by Gemm, the second with its weight transposed, then a sum to four."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["h2"], transB=1),
        helper.make_node("Tanh", ["h2"], ["t2"]),
        helper.make_node("MatMul", ["t2", "w3"], ["y"]),
    ]
    shapes = {"w1": (WIDTH, 64), "b1": (64,), "w2": (64, 64), "b2": (64,), "w3": (64, WIDTH)}
    scale = {"w1": 0.5, "w2": 0.2, "w3": 0.1}
    weights = {name: rng.normal(0, scale.get(name, 0.1), shape).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, weights, rows=rows, opset=opset)


def huge() -> bytes:
    """tanh(|x * 2^20| * 2^-20): beyond 65504 in between; what follows is harmless."""
    nodes = [
        helper.make_node("Mul", ["x", "up"], ["big"]),
        helper.make_node("Abs", ["big"], ["size"]),
        helper.make_node("Mul", ["size", "down"], ["back"]),
        helper.make_node("Tanh", ["back"], ["y"]),
    ]
    return build(nodes, {"up": np.float32(2**20), "down": np.float32(2**-20)})


def cancelling() -> bytes:
    """tanh((x + 4096) - 4096): float16 has steps of 4 there."""
    nodes = [
        helper.make_node("Add", ["x", "far"], ["there"]),
        helper.make_node("Sub", ["there", "far"], ["back"]),
        helper.make_node("Tanh", ["back"], ["y"]),
    ]
    return build(nodes, {"far": np.float32(4096)})


def shared() -> bytes:
    """(1e6 x - 1e6) / (1e6 x + 1e6), plus one, by two: what is too large for float16 goes to two nodes."""
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["big"]),
        helper.make_node("Sub", ["big", "k"], ["a"]),
        helper.make_node("Add", ["big", "k"], ["b"]),
        helper.make_node("Div", ["a", "b"], ["c"]),
        helper.make_node("Add", ["c", "one"], ["d"]),
        helper.make_node("Div", ["d", "k_small"], ["y"]),
    ]
    return build(nodes, {"k": np.float32(1e6), "one": np.float32(1), "k_small": np.float32(2)})


def outlying() -> bytes:
    """One of 64 inner values is a million times the others, and a later layer takes it away again: int8 has no room."""
    rng = np.random.default_rng(5)
    w1 = rng.normal(0, 0.5, (WIDTH, 64)).astype(np.float32)
    w1[:, 0] = 1e6
    w2 = rng.normal(0, 0.2, (64, 64)).astype(np.float32)
    w2[0] = 0
    w3 = rng.normal(0, 0.2, (64, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"]),
        helper.make_node("MatMul", ["h1", "w2"], ["h2"]),
        helper.make_node("MatMul", ["h2", "w3"], ["y"]),
    ]
    return build(nodes, {"w1": w1, "w2": w2, "w3": w3})


def rows(count: int = 400, seed: int = 1) -> Rows:
    values = np.random.default_rng(seed).normal(0, 1, (count, WIDTH)).astype(np.float32)
    return Rows(f"{count} rows of seed {seed}", {"x": values})


def run(network: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    engine = OnnxEngine()
    engine.load_bytes(network, "by hand")
    return engine.infer({"x": values})["y"]


def entry(name: str, rows: int = -1) -> tuple[TensorEntry, ...]:
    return (TensorEntry(name, "float32", (rows, WIDTH)),)


def save(root: Path, network: bytes, values: NDArray[np.float32] | None = None, **changes: object) -> Model:
    """As the next version of `scaling`, without thresholds; `values` are those of its golden batch."""
    if values is None:
        values = np.asarray(rows(32, seed=9).tensors["x"])
    version = Repository([root]).next_version("scaling")
    manifest = networks.manifest(version, **({"thresholds": {}, "outputs": entry("y")} | changes))
    return Repository([root]).save(network, manifest, GoldenBatch({"x": values}, {"y": run(network, values)}))
