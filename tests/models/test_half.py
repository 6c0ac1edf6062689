from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra `optimise`")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip
from onnx.reference import ReferenceEvaluator  # noqa: E402

from models.precision.half import to_fp16  # noqa: E402
from models.precision.stepwise import Stepwise, parse  # noqa: E402
from models.repository import Repository  # noqa: E402
from tests.models import precision_networks as networks  # noqa: E402

ROWS = networks.rows().tensors
OTHERS = networks.rows(seed=2).tensors["x"]


def by_node(network: bytes) -> np.ndarray:
    return Stepwise(network, "by hand").infer({"x": OTHERS})["y"]


def dtypes(network: bytes) -> dict[str, str]:
    """What each tensor is when the network runs."""
    return {name: values.dtype.name for name, values in Stepwise(network, "by hand").tensors({"x": OTHERS}).items()}


def test_one_node_at_a_time_gives_what_a_reference_implementation_gives() -> None:
    half = to_fp16(networks.layers(), ROWS).network
    for network, atol in ((networks.layers(), 1e-5), (networks.cancelling(), 1e-6), (half, 1e-3)):
        expected = ReferenceEvaluator(onnx.load_model_from_string(network)).run(None, {"x": OTHERS})[0]
        np.testing.assert_allclose(by_node(network), expected, rtol=0, atol=atol)


def test_one_node_at_a_time_rounds_to_float16_where_the_cpu_engine_does_not() -> None:
    half = numpy_helper.from_array(np.float16(4096), "far")
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["h", "far"], ["there"]),
        helper.make_node("Sub", ["there", "far"], ["back"]),
        helper.make_node("Cast", ["back"], ["y"], to=TensorProto.FLOAT),
    ]
    network = networks.build(nodes, {"far": numpy_helper.to_array(half)})
    assert set(np.unique(by_node(network) % 2)) == {0}
    assert np.abs(networks.run(network, OTHERS) - OTHERS).max() < 0.01


def test_weights_and_tensors_become_float16_and_inputs_and_outputs_do_not() -> None:
    network = networks.layers()
    half = to_fp16(network, ROWS)
    assert half.kept == ()
    kinds = dtypes(half.network)
    assert (kinds["x"], kinds["y"]) == ("float32", "float32")
    assert {kinds[name] for name in ("h1", "r1", "h2", "t2")} == {"float16"}
    weights = parse(half.network, "by hand").graph.initializer
    assert {each.data_type for each in weights} == {TensorProto.FLOAT16}
    assert len(half.network) < 0.6 * len(network)
    off = np.abs(by_node(half.network) - networks.run(network, OTHERS)).max()
    assert 0 < off < 0.005


@pytest.mark.parametrize("network", [networks.huge(), networks.cancelling(), networks.shared()])
def test_what_float16_would_spoil_stays_in_float32(network: bytes) -> None:
    half = to_fp16(network, ROWS)
    assert half.kept
    onnx.checker.check_model(onnx.load_model_from_string(half.network), full_check=True)
    expected = networks.run(network, OTHERS)
    for got in (by_node(half.network), networks.run(half.network, OTHERS)):
        np.testing.assert_allclose(got, expected, rtol=4e-3, atol=2e-3)


@pytest.mark.parametrize(("network", "kept"), [
    (networks.huge(), {"big", "size", "back"}), (networks.cancelling(), {"there", "back"}),
])  # fmt: skip
def test_only_that_stays_in_float32(network: bytes, kept: set[str]) -> None:
    kinds = dtypes(to_fp16(network, ROWS).network)
    assert {kinds[name] for name in kept} == {"float32"}
    assert kinds["y_float16"] == "float16"


def test_a_body_sees_the_tensors_that_it_was_written_for() -> None:
    """An If takes a float32 tensor from around it, which a float16 node makes."""
    branch = [
        helper.make_graph([helper.make_node(kind, ["h"], [f"{kind}_out"])], kind, [],
                          [helper.make_tensor_value_info(f"{kind}_out", TensorProto.FLOAT, ["n", 4])])
        for kind in ("Tanh", "Neg")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["h"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=branch[0], else_branch=branch[1]),
        helper.make_node("Add", ["z", "h"], ["y"]),
    ]
    network = networks.build(nodes, {"w": np.float32([1, 2, 3, 4]), "yes": np.array(True)})
    half = to_fp16(network, ROWS).network
    np.testing.assert_allclose(networks.run(half, OTHERS), networks.run(network, OTHERS), atol=0.02)
    np.testing.assert_allclose(by_node(half), networks.run(network, OTHERS), atol=0.02)
    kinds = dtypes(half)
    assert (kinds["h"], kinds["h_float16"], kinds["z"]) == ("float32", "float16", "float32")


def test_a_network_of_fixed_rows_is_tried_with_several_calls() -> None:
    """Only the last rows overflow: a first call alone would not show it."""
    nodes = [helper.make_node("Mul", ["x", "up"], ["big"]), helper.make_node("Tanh", ["big"], ["y"])]
    network = networks.build(nodes, {"up": np.float32(8e3)}, rows=2)
    values = np.full((6, 4), 0.5, np.float32)
    values[:, 1] = -0.5
    assert to_fp16(network, {"x": values}).kept == ()
    values[5] = 9
    assert to_fp16(network, {"x": values}).kept == ("Mul_0", "Tanh_1")


def test_there_is_room_for_rows_that_are_to_come() -> None:
    """What was calibrated on 40,000 gets 80,000."""
    nodes = [
        helper.make_node("Mul", ["x", "up"], ["big"]),
        helper.make_node("Mul", ["big", "down"], ["back"]),
        helper.make_node("Tanh", ["back"], ["y"]),
    ]
    network = networks.build(nodes, {"up": np.float32(2**15), "down": np.float32(2**-15)})
    half = to_fp16(network, {"x": np.clip(ROWS["x"], -1.2, 1.2)}).network
    values = 2.4 * np.sign(OTHERS)
    expected = networks.run(network, values)
    np.testing.assert_allclose(Stepwise(half, "").infer({"x": values})["y"], expected, atol=2e-3)


def test_the_same_network_and_rows_give_the_same_bytes() -> None:
    assert to_fp16(networks.shared(), ROWS).network == to_fp16(networks.shared(), ROWS).network


def test_the_raw_inputs_of_the_fraud_model_are_encoded_in_float32() -> None:
    model = Repository().load("fraud", 2)
    golden = model.golden()
    half = to_fp16(model.onnx_bytes(), golden.inputs)
    tensors = Stepwise(half.network, "fraud/2").tensors(golden.inputs)
    kinds = {node.op_type: tensors[node.output[0]].dtype for node in parse(half.network, "fraud/2").graph.node}
    assert kinds["Log"] == kinds["Abs"] == np.float32
    assert kinds["Relu"] == kinds["Sigmoid"] == np.float16
    np.testing.assert_allclose(tensors["score"], golden.outputs["score"], atol=0.005)
