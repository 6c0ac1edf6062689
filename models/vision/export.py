"""A trained detector as an ONNX file. Needs torch and onnx (extra `train`)."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

from models.vision.network import DetectorNetwork

OPSET = 18
INPUT, OUTPUT = "images", "output"


def to_onnx(network: DetectorNetwork) -> bytes:
    """`images` float32 [n, 3, h, w], red, green, blue from 0 to 255, to `output` float32 [n, 4 + classes, points].

    The batch axis is free. The same weights give the same bytes on one machine, torch and onnx version.
    """
    shape = network.shape
    example = torch.zeros(1, 3, shape.height, shape.width)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing is deprecated; it is the one that needs no further package.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (example,),
            buffer,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
        )
    model = onnx.load_from_string(buffer.getvalue())
    _declare(model, (4 + shape.classes, network.points.shape[1]))
    model.producer_name, model.producer_version = "headrace", ""
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _declare(model: onnx.ModelProto, rows: tuple[int, int]) -> None:
    """Write the output's sizes beside the batch, which the exporter leaves open."""
    for axis, size in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], rows, strict=True):
        axis.dim_value = size
