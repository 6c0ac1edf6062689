"""A classifier whose answer a test can work out: which share each channel has in a picture's mean colour, weighed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.golden import GoldenBatch
from models.manifest import Manifest, TensorEntry
from models.repository import Model, Repository
from models.vision.specs import Head, Picture

SIDE = 16
LABELS = ("red", "green", "blue", "reddish", "any")
WEIGHTS = np.array([[8, 0, 0, 8, 1], [0, 8, 0, 2, 1], [0, 0, 8, 0, 1]], np.float32)


def network(weights: NDArray[np.float32] = WEIGHTS) -> bytes:
    """images [n, 3, 16, 16] -> logits [n, labels]; NaN for a black picture."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("ReduceSum", ["mean", "axis"], ["sum"]),
        helper.make_node("Div", ["mean", "sum"], ["shares"]),
        helper.make_node("MatMul", ["shares", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def save(root: Path, *, labels: Sequence[str] = LABELS, version: int = 1, task: str = "classify", **how: Any) -> Model:
    """The model `colours`; `how` may say `tile`, `combine` and `resize`."""
    head = Head("classify", ("logits",), activation="softmax", combine=how.pop("combine", "max"))
    weights = WEIGHTS[:, : len(labels)]
    batch = np.random.default_rng(1).integers(1, 255, (3, 3, SIDE, SIDE)).astype(np.float32)
    mean = batch.mean(axis=(2, 3), dtype=np.float64)
    logits = (mean / mean.sum(axis=1, keepdims=True) @ weights).astype(np.float32)
    manifest = Manifest(
        "colours", version, "Names colours.", "Apache-2.0", "0" * 64,
        (TensorEntry.batch("images", batch),), (TensorEntry.batch("logits", logits),),
        labels=tuple(labels), task=task, picture=Picture(SIDE, SIDE, **how), head=head,
    )  # fmt: skip
    return Repository([root]).save(network(weights), manifest, GoldenBatch({"images": batch}, {"logits": logits}))


def scores(picture: NDArray[np.uint8], labels: int = len(LABELS)) -> NDArray[np.float64]:
    """What the network says of a picture of its own size, BGR: float64 [labels]."""
    blue, green, red = picture.reshape(-1, 3).astype(np.float64).mean(axis=0)
    logits = np.array([red, green, blue]) / (red + green + blue) @ WEIGHTS[:, :labels].astype(np.float64)
    raised = np.exp(logits)
    return np.asarray(raised / raised.sum())


def noise(seed: int, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    """A picture with a tint of its own."""
    generator = np.random.default_rng(seed)
    tint = generator.uniform(0.1, 1, 3)
    return (generator.integers(0, 256, (height, width, 3)) * tint).astype(np.uint8)


def plain(red: int, green: int, blue: int, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (blue, green, red), np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])
