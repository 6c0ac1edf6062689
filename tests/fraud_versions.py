"""Versions of the fraud model for tests: the bundled one, one that scores half, and what must never serve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.golden import GoldenBatch
from models.repository import Model, Repository

GOOD = (2, 3)
BROKEN = {
    4: "cannot make a session|expected sha256",
    5: "expected sha256",
    6: r"checking the inputs.*features: float32 \[n, 26\]",
    7: "golden batch.*nan off",
    8: "golden batch.*off",
    9: "no version 9",
    10: "expects the state 'recurrent/1', the pipeline keeps 'card-and-terminal-history/1'",
}
"""Version -> what is said of it. There is no 9."""


def write_versions(root: Path) -> Path:
    """Fill a repository with them."""
    bundled = Repository().load("fraud", 2)
    batch, network = bundled.golden(), onnx.load_from_string(bundled.onnx_bytes())
    halves = GoldenBatch(batch.inputs, {"score": batch.outputs["score"] / 2})
    _save(root, bundled, 2, network, batch)
    _save(root, bundled, 3, _scaled(network, 0.5), halves)
    truncated = _save(root, bundled, 4, _scaled(network, 0.4), batch)
    truncated.onnx_path.write_bytes(truncated.onnx_path.read_bytes()[:-1000])
    replaced = _save(root, bundled, 5, _scaled(network, 0.3), batch)
    replaced.onnx_path.write_bytes(bundled.onnx_bytes())
    _save(root, bundled, 6, _narrow(), batch)
    _save(root, bundled, 7, _scaled(network, np.nan), batch)
    _save(root, bundled, 8, _scaled(network, 0.5), batch)
    _save(root, bundled, 10, _scaled(network, 0.5), halves, state="recurrent/1")
    return root


def _save(
    root: Path, like: Model, version: int, network: onnx.ModelProto, golden: GoldenBatch, **changes: str
) -> Model:
    own = msgspec.structs.replace(like.manifest, version=version, **changes)
    return Repository([root]).save(network.SerializeToString(), own, golden)


def _scaled(network: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(network)
    for node in changed.graph.node:
        node.output[:] = ["unscaled" if name == "score" else name for name in node.output]
    changed.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    changed.graph.node.append(helper.make_node("Mul", ["unscaled", "factor"], ["score"]))
    return changed


def _narrow() -> onnx.ModelProto:
    """A network of 25 inputs under a manifest that says 26."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["features"], ["score"], axes=[1], keepdims=0)],
        "narrow",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 25])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
