from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra `optimise`")

from onnx import helper, numpy_helper  # noqa: E402 - after the skip

from models.engine import DerivationFailed, ModelCorrupt  # noqa: E402
from models.precision.int8 import Target, to_int8  # noqa: E402
from models.precision.stepwise import Stepwise, parse  # noqa: E402
from models.repository import Repository  # noqa: E402
from tests.models import precision_networks as networks  # noqa: E402

ROWS = networks.rows().tensors
OTHERS = networks.rows(seed=2).tensors["x"]


def constants(network: bytes) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in parse(network, "by hand").graph.initializer}


def product(weight: np.ndarray) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Neg", ["p"], ["y"])]
    return networks.build(nodes, {"w": weight})


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_product_is_the_one_of_rounded_factors(target: Target) -> None:
    """Worked out here: a scale for the inputs, one for each column of the weights, and rounding half to even; for a
    CPU one for the outputs, too.
    """
    weight = np.float32([[1, -20, 0.3, 4], [2, 5, -0.1, 4], [-3, 7, 0.2, 4], [0.5, 1, 0.7, 4]])
    quantised = to_int8(product(weight), ROWS, target)
    held = constants(quantised.network)
    scale = np.abs(weight).max(axis=0) / 127
    np.testing.assert_allclose(held["w_scale"], scale, rtol=1e-6)
    rounded_weight = np.clip(np.round(weight / scale), -127, 127)
    np.testing.assert_array_equal(held["w_quantized"], rounded_weight)
    assert held["x_zero_point"].dtype == (np.uint8 if target == "cpu" else np.int8)
    expected = rounded(OTHERS, held, "x", target) @ (rounded_weight * scale)
    step = 1e-5
    if target == "cpu":
        expected = rounded(expected, held, "p", target)
        step = held["p_scale"] * 1.001  # a value in the middle of two may be rounded either way
    for got in (networks.run(quantised.network, OTHERS), Stepwise(quantised.network, "").infer({"x": OTHERS})["y"]):
        np.testing.assert_allclose(-got, expected, rtol=1e-5, atol=step)
        assert (np.abs(-got - expected) < 1e-3).mean() > 0.99


def rounded(values: np.ndarray, held: dict[str, np.ndarray], name: str, target: Target) -> np.ndarray:
    zero, step = (held[f"{name}_{each}"].astype(np.float64) for each in ("zero_point", "scale"))
    low, high = (0, 255) if target == "cpu" else (-128, 127)
    return (np.clip(np.round(values / step) + zero, low, high) - zero) * step


def test_for_a_gpu_all_is_symmetric_and_no_bias_is_an_integer() -> None:
    held = constants(to_int8(networks.layers(), ROWS, "gpu").network)
    zeros = {name: values for name, values in held.items() if name.endswith("zero_point")}
    assert {values.dtype.name for values in zeros.values()} == {"int8"}
    assert not any(values.any() for values in zeros.values())
    assert not [name for name, values in held.items() if values.dtype == np.int32]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_layers_are_close_to_what_they_were_and_a_quarter_of_the_size(target: Target) -> None:
    network = networks.layers()
    quantised = to_int8(network, ROWS, target)
    assert quantised.products == ("Gemm_0", "Gemm_2")  # the last one gives the output
    expected, got = networks.run(network, OTHERS), networks.run(quantised.network, OTHERS)
    assert np.abs(got - expected).mean() < 0.05 * expected.std()
    held = constants(quantised.network)
    assert [held[f"{name}_quantized"].dtype.name for name in ("w1", "w2")] == ["int8", "int8"]
    assert len(quantised.network) < 0.6 * len(network)


def test_the_encoding_of_raw_inputs_and_the_last_sum_of_the_fraud_model_are_left_alone() -> None:
    model = Repository().load("fraud", 2)
    golden = model.golden()
    quantised = to_int8(model.onnx_bytes(), golden.inputs)
    nodes = {node.name: node for node in parse(model.onnx_bytes(), "fraud/2").graph.node}
    read = {name: len(constants(model.onnx_bytes())[nodes[name].input[1]]) for name in quantised.products}
    assert sorted(read.values()) == [64, 64, 64, 64, 227, 227, 227, 227]


def test_a_convolution_of_fixed_rows_and_an_old_opset_are_quantised() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Reshape", ["x", "image"], ["i"]),
        helper.make_node("Conv", ["i", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Reshape", ["m", "flat"], ["y"]),
    ]
    weights = {
        "image": np.array([1, 1, 2, 2]),
        "flat": np.array([1, 4]),
        "w": rng.normal(0, 1, (8, 1, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 1, 8).astype(np.float32),
    }
    network = networks.build(nodes, weights, rows=1, opset=11)
    quantised = to_int8(network, ROWS)
    assert quantised.products == ("Conv_1",)
    expected = np.concatenate([networks.run(network, row[None]) for row in OTHERS])
    got = np.concatenate([networks.run(quantised.network, row[None]) for row in OTHERS])
    assert np.abs(got - expected).mean() < 0.05 * expected.std()


def test_the_same_network_and_rows_give_the_same_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = (to_int8(networks.layers(), ROWS) for _ in range(2))
    assert (first.network, first.method) == (second.network, second.method)
    assert first.network != to_int8(networks.layers(), {"x": 3 * ROWS["x"]}).network
    assert capfd.readouterr() == ("", "")  # the quantiser's own chatter is none of a command's


def test_mistakes_are_sentences() -> None:
    with pytest.raises(DerivationFailed, match=r"expected MatMul, Gemm, Conv nodes with constant weights, got none"):
        to_int8(networks.huge(), ROWS)
    with pytest.raises(ModelCorrupt, match="it is no valid ONNX model"):
        to_int8(networks.layers()[:-100], ROWS)
    with pytest.raises(ModelCorrupt, match="it is no valid ONNX model"):
        to_int8(b"", ROWS)
