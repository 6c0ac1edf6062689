"""A network's products in int8, by explicit QuantizeLinear and DequantizeLinear nodes. Needs the extra `optimise`."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime import quantization

from models.engine import DerivationFailed
from models.engines.onnx import OnnxEngine
from models.precision.compare import infer_all
from models.precision.rows import row_groups
from models.precision.stepwise import Stepwise, Tensors, parse, serialise

Target = Literal["cpu", "gpu"]
PRODUCTS = ("MatMul", "Gemm", "Conv")
LEAST_SHARE = 0.01  # of all multiplications: a smaller product gains less than the rounding of its inputs takes
LEAST_OPSET = 13  # the first with a scale per channel
PERCENTILE = 99.99  # of the values of a tensor that its scale covers, where a percentile is chosen
METHODS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "percentile": quantization.CalibrationMethod.Percentile,
    "entropy": quantization.CalibrationMethod.Entropy,
}
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # without it the quantiser complains to the root logger


@dataclass(frozen=True, eq=False)
class Quantised:
    """An int8 network.

    Args:
        network: the ONNX file.
        method: how the scales of its inputs were chosen: minmax, percentile or entropy.
        products: names of the nodes that compute in int8.
    """

    network: bytes
    method: str
    products: tuple[str, ...]


def to_int8(
    network: bytes,
    calibration: Mapping[str, NDArray[Any]],
    target: Target = "cpu",
    reference: str = "the network",
) -> Quantised:
    """The network with MatMul, Gemm and Conv nodes that multiply 8-bit integers; everything else stays float32.

    Only products with constant weights are taken, and of those only what does a hundredth of the multiplications or
    more; one that gives an output of the network keeps that output's resolution. So an encoding of raw inputs and the
    last sum of a network are left alone. Weights are int8, symmetric,
    with a scale per channel. Scales of the inputs come from the rows: by their range, by percentile and by entropy,
    of which the one is taken whose outputs are closest to the original's on these rows. Equal files and rows give equal
    files.

    Args:
        network: an ONNX file.
        calibration: rows by input name.
        target: `cpu`: inputs and outputs of products are uint8 with a zero point, biases int32: then ONNX Runtime takes
            its integer kernels, and x86 multiplies uint8 by int8 in one instruction. `gpu`: inputs alone, int8 and
            symmetric, with float32 biases: the only kind that TensorRT takes; a CPU computes that in float32.
        reference: names the network in errors.

    Raises:
        DerivationFailed: the network has no products with constant weights, or cannot be quantised.
        ModelCorrupt, InferenceFailed.

    References:
        B. Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.
        CVPR 2018. S. Migacz: 8-bit Inference with TensorRT. GTC 2017 (entropy). Computed by ONNX Runtime's
        `quantize_static`.
    """
    model = _modern(parse(network, reference), reference)
    steps = Stepwise(model, reference)
    rows = steps.affordable(calibration)
    size = steps.fixed_rows or len(next(iter(rows.values())))
    products = _products(model, steps.tensors(next(row_groups(rows, size))))
    if not products:
        raise DerivationFailed(
            f"quantising {reference}: expected {', '.join(PRODUCTS)} nodes with constant weights, got none; "
            "nothing was derived"
        )
    expected = _outputs(network, rows, size, reference)
    found = [
        Quantised(_quantise(model, list(row_groups(rows, size)), products, method, target, reference), method, products)
        for method in METHODS
    ]
    return min(found, key=lambda each: _distance(expected, _outputs(each.network, rows, size, reference)))


def _modern(model: onnx.ModelProto, reference: str) -> onnx.ModelProto:
    version = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), LEAST_OPSET)
    if version >= LEAST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, LEAST_OPSET)
    except Exception as error:  # the converter's errors share no base of their own
        raise DerivationFailed(
            f"quantising {reference}: its operators are those of opset {version}, a scale per channel needs "
            f"{LEAST_OPSET}, and converting it failed: {error}; export it with opset {LEAST_OPSET} or later"
        ) from error


def _products(model: onnx.ModelProto, known: Tensors) -> tuple[str, ...]:
    """The nodes that are worth it; `known` are all tensors for some rows."""
    constants = {each.name for each in model.graph.initializer}
    results = {each.name for each in model.graph.output}
    work: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS or node.domain or node.input[1] not in constants:
            continue
        if node.output[0] in results:
            continue
        weight = known[node.input[1]]
        if weight.dtype == np.float32 and known[node.input[0]].dtype == np.float32 and weight.ndim > 1:
            summed = weight[0].size if node.op_type == "Conv" else weight.shape[-2]
            work[node.name] = summed * known[node.output[0]].size
    return tuple(name for name, count in work.items() if count >= LEAST_SHARE * sum(work.values()))


def _quantise(
    model: onnx.ModelProto,
    batches: list[dict[str, NDArray[Any]]],
    products: tuple[str, ...],
    method: str,
    target: Target,
    reference: str,
) -> bytes:
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    helper.set_model_props(prepared, dict([PREPARED]))
    symmetric = target == "gpu"
    options = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": not symmetric,
        "OpTypesToExcludeOutputQuantization": list(PRODUCTS) if symmetric else [],
        "CalibPercentile": PERCENTILE,
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        target_file = Path(folder) / "model.onnx"
        try:
            quantization.quantize_static(
                prepared,
                target_file,
                _Batches(batches),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_quantize=list(products),
                per_channel=True,
                activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=METHODS[method],
                extra_options=options,
            )
        except Exception as error:  # what the quantiser raises shares no base
            raise DerivationFailed(
                f"quantising {reference} by {method}: ONNX Runtime's quantiser failed: {error}; nothing was derived"
            ) from error
        quantised = onnx.load_model_from_string(target_file.read_bytes())
    helper.set_model_props(quantised, {each.key: each.value for each in model.metadata_props})
    return serialise(quantised)


class _Batches(quantization.CalibrationDataReader):
    """Batches of one size: histograms of batches that differ cannot be put together."""

    def __init__(self, batches: list[dict[str, NDArray[Any]]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._left, None)


def _outputs(network: bytes, rows: Mapping[str, NDArray[Any]], size: int, reference: str) -> Tensors:
    engine = OnnxEngine()
    engine.load_bytes(network, reference)
    try:
        return infer_all(engine.infer, rows, size)
    finally:
        engine.close()


def _distance(expected: Tensors, got: Tensors) -> float:
    """How far outputs are off, on average; inf where one is not finite."""
    off = [float(np.abs(expected[name].astype(np.float64) - got[name]).mean()) for name in expected]
    return sum(off) if np.isfinite(off).all() else np.inf
