"""The operators beside the ONNX project's own reference evaluator, and what the torch engine refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")

from onnx.reference import ReferenceEvaluator

from models.engine import EngineUnavailable, InferenceFailed, ModelCorrupt
from models.engines import torch as torch_engine
from models.engines.torch import TorchEngine, why_no_torch
from tests.models import networks

RNG = np.random.default_rng(5)
X = RNG.normal(0, 3, (7, 4)).astype(np.float32)
MATRIX = RNG.normal(size=(4, 3)).astype(np.float32)
ROW = RNG.normal(size=3).astype(np.float32)
PICTURE = RNG.normal(0, 3, (2, 2, 7, 6)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 2, 3, 2)).astype(np.float32)
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
HALVES = (np.arange(28, dtype=np.float32).reshape(7, 4) - 14) / 2


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def scalar(value: float, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
    return np.array(value, dtype)


CASES: list[tuple[str, NDArray[Any], list[NDArray[Any] | None], dict[str, Any]]] = [
    ("Abs", X, [], {}),
    ("Add", X, [floats(1, 2, 3, 4)], {}),
    ("Cast", X, [], {"to": TensorProto.INT32}),
    ("Cast", X, [], {"to": TensorProto.FLOAT16}),
    ("Clip", X, [scalar(-1), scalar(1)], {}),
    ("Clip", X, [None, scalar(1)], {}),
    ("Clip", X, [], {}),
    ("Concat", X, [X + 1], {"axis": 1}),
    ("Concat", X, [X + 1], {"axis": -2}),
    ("DequantizeLinear", (X * 9).astype(np.int8), [scalar(0.25), scalar(3, np.int8)], {}),
    ("DequantizeLinear", (X * 9).astype(np.int8), [floats(1, 2, 3, 4), np.array([0, 1, 2, 3], np.int8)], {"axis": 1}),
    ("DequantizeLinear", (X * 99).astype(np.int32), [scalar(0.5)], {}),
    ("Div", X, [floats(1, 2, 3, 4)], {}),
    ("Gemm", X, [MATRIX, ROW], {}),
    ("Gemm", X, [MATRIX], {}),
    ("Gemm", X.T.copy(), [MATRIX.T.copy(), ROW], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Log", np.abs(X) + 1, [], {}),
    ("MatMul", X, [MATRIX], {}),
    ("Mul", X, [scalar(3)], {}),
    ("OneHot", np.array([0, 3, -1, 2]), [np.array(4), floats(0, 1)], {"axis": 0}),
    ("OneHot", np.array([[0, 3], [1, 2]]), [np.array(4), floats(-1, 5)], {}),
    ("OneHot", np.array([[0, 3], [1, 2]]), [np.array(4), floats(0, 1)], {"axis": 1}),
    ("QuantizeLinear", HALVES, [scalar(1), scalar(0, np.int8)], {}),  # every other value is a half
    ("QuantizeLinear", X * 100, [scalar(0.5), scalar(7, np.uint8)], {}),  # beyond both bounds
    ("QuantizeLinear", X, [floats(1, 2, 3, 4), np.array([0, 1, -2, 3], np.int8)], {"axis": 1}),
    ("QuantizeLinear", X, [scalar(0.1)], {}),
    ("Relu", X, [], {}),
    ("Reshape", X, [np.array([2, -1])], {}),
    ("Reshape", X, [np.array([0, 2, 2])], {}),
    ("Sigmoid", X, [], {}),
    ("Sign", np.round(X), [], {}),
    ("Squeeze", X[:, :1], [np.array([1])], {}),
    ("Squeeze", X[None, :, :1], [np.array([0, -1])], {}),
    ("Squeeze", X[:, :1], [], {}),
    ("Sub", X, [floats(1, 2, 3, 4)], {}),
    ("Transpose", X, [], {}),
    ("Transpose", X[None], [], {"perm": [1, 0, 2]}),
    ("Exp", X, [], {}),
    ("Conv", PICTURE, [KERNEL], {}),
    ("Conv", PICTURE, [KERNEL, ROW], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", PICTURE, [KERNEL[:, :1].repeat(2, 0)[:4], None], {"group": 2}),
    ("MaxPool", PICTURE, [], {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 1]}),
    ("MaxPool", PICTURE, [], {"kernel_shape": [2, 2]}),
    ("Resize", PICTURE, [None, floats(1, 1, 2, 3)], NEAREST),
    ("Resize", PICTURE, [None, floats(1, 1, 0.5, 1)], NEAREST),
    ("Resize", PICTURE, [None, None, np.array([2, 2, 14, 12])], NEAREST),
    ("Shape", PICTURE, [], {}),
    ("Shape", PICTURE, [], {"start": 1, "end": -1}),
    ("Slice", X, [np.array([1]), np.array([5])], {}),
    ("Slice", X, [np.array([-2, 3]), np.array([9, 0]), np.array([0, -1]), np.array([1, -2])], {}),
]


def network(
    kind: str, given: NDArray[Any], constants: list[NDArray[Any] | None], opset: int = 19, **attributes: Any
) -> onnx.ModelProto:
    names = [f"c{index}" if array is not None else "" for index, array in enumerate(constants)]
    stored = [numpy_helper.from_array(a, n) for a, n in zip(constants, names, strict=True) if a is not None]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], ["y"], **attributes)],
        "one operator",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(given.dtype), given.shape)],
        [helper.make_empty_tensor_value_info("y")],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize(
    ("kind", "given", "constants", "attributes"), CASES, ids=[f"{index}-{case[0]}" for index, case in enumerate(CASES)]
)
def test_an_operator_does_what_the_reference_does(
    kind: str, given: NDArray[Any], constants: list[NDArray[Any] | None], attributes: dict[str, Any]
) -> None:
    model = network(kind, given, constants, **attributes)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": given})
    engine = TorchEngine()
    engine.load_bytes(model.SerializeToString(), "one/1")
    got = engine.infer({"x": given})["y"]
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_every_operator_has_a_case() -> None:
    from models.engines.torch_operators import OPERATORS

    assert set(OPERATORS) - {"Constant"} == {case[0] for case in CASES}


def test_what_depends_on_no_input_is_a_constant() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(networks.WEIGHTS)),
        helper.make_node("Add", ["c", "c"], ["twice"]),
        helper.make_node("Mul", ["x", "twice"], ["y"]),
    ]
    model = networks.scaling()
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    engine = TorchEngine()
    engine.load_bytes(model.SerializeToString(), "constant/1")
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], X * 2 * networks.WEIGHTS)


def test_an_operator_that_is_not_known_is_named() -> None:
    engine = TorchEngine()
    model = network("Erf", X, [])
    with pytest.raises(EngineUnavailable, match=r"loading erf/1 into torch-cpu: it does not know .* \['Erf'\]"):
        engine.load_bytes(model.SerializeToString(), "erf/1")
    model.graph.node[0].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    with pytest.raises(EngineUnavailable, match=r"\['com.example.Erf'\]; another engine may serve it"):
        engine.load_bytes(model.SerializeToString(), "erf/1")
    with pytest.raises(EngineUnavailable, match="not loaded"):
        engine.infer({"x": X})


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (network("Cast", X, [], to=TensorProto.BFLOAT16), "does not know `Cast` to BFLOAT16"),
        (network("Squeeze", X[:, :1], [], opset=11), "does not know operator set 11"),
    ],
)
def test_what_an_operator_does_not_do_is_named(model: onnx.ModelProto, complaint: str) -> None:
    with pytest.raises(EngineUnavailable, match=complaint):
        TorchEngine().load_bytes(model.SerializeToString(), "one/1")


@pytest.mark.parametrize("data", [b"", b"nonsense", networks.scaling().SerializeToString()[:-20]])
def test_bytes_that_are_no_network_are_corrupt(data: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="loading nonsense/1 into torch-cpu: "):
        TorchEngine().load_bytes(data, "nonsense/1")


def test_a_constant_that_cannot_be_computed_is_corrupt() -> None:
    model = networks.scaling()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "v"))
    model.graph.node.insert(0, helper.make_node("Add", ["w", "v"], ["unused"]))
    with pytest.raises(ModelCorrupt, match=r"loading bad/1 into torch-cpu: .*must match"):
        TorchEngine().load_bytes(model.SerializeToString(), "bad/1")


def test_a_runtime_failure_names_model_and_shapes() -> None:
    engine = TorchEngine()
    engine.load_bytes(networks.folding().SerializeToString(), "folding/3")
    assert engine.infer({"x": X[:2]})["y"].shape == (2, 4)
    with pytest.raises(InferenceFailed, match=r"inferring with folding/3 on torch-cpu: .* x: float32 \[3, 4\]"):
        engine.infer({"x": X[:3]})
    assert engine.infer({"x": X[:2]})["y"].shape == (2, 4)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "find_spec", lambda name: None)
    assert why_no_torch("cpu") == "torch and onnx cannot be imported: pip install 'headrace[train]'"
    with pytest.raises(EngineUnavailable, match="loading scaling/1 into torch-cpu: torch and onnx cannot be imported"):
        TorchEngine().load_bytes(networks.scaling().SerializeToString(), "scaling/1")
