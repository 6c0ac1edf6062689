"""The fraud network: 13 raw features in, the probability of fraud out. Needs torch (extra `train`)."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.fraud.features import FEATURES

HIDDEN = (64, 64, 32)
OPSET, IR_VERSION = 18, 8  # what ONNX Runtime has read since 1.14


class FraudNetwork(nn.Module):
    """A multilayer perceptron on signed logarithms, standardised; everything a row needs is inside.

    Amounts, sums and counts are skewed over orders of magnitude: log1p makes them comparable, and the mean and scale
    of the training rows are buffers, so that what serves takes raw features and cannot be fed unscaled ones.

    forward: features float32 [n, 13] in the order of FEATURES -> score float32 [n], a probability.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("scale", torch.ones(len(FEATURES)))
        widths = (len(FEATURES), *HIDDEN)
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @staticmethod
    def compress(features: Tensor) -> Tensor:
        """sign(x) * log(1 + |x|)"""
        return torch.sign(features) * torch.log1p(torch.abs(features))

    def standardise_on(self, features: Tensor) -> None:
        """Take mean and scale from these rows; a feature that does not vary is left as it is."""
        compressed = self.compress(features).double()
        deviation = compressed.std(dim=0, correction=0)
        self.mean.copy_(compressed.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 1.0))

    def logits(self, features: Tensor) -> Tensor:
        """The log-odds of fraud, float32 [n]."""
        standardised = (self.compress(features) - self.mean) * self.scale
        logits: Tensor = self.layers(standardised)
        return logits.squeeze(-1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(features))

    @torch.no_grad()
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """`forward` for arrays, in slices, so that a million rows need little memory."""
        rows = torch.from_numpy(features)
        return np.concatenate([self(part).numpy() for part in torch.split(rows, 65_536)])


def to_onnx(network: FraudNetwork) -> bytes:
    """The network as one ONNX file with a free batch axis; the same weights give the same bytes.

    What torch adds about the machine that exported (stack traces with paths, versions) is removed.
    """
    example = torch.ones(2, len(FEATURES))
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=["features"],
            output_names=["score"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    exported: onnx.ModelProto = program.model_proto
    _strip(exported)
    onnx.checker.check_model(exported, full_check=True)
    serialised: bytes = exported.SerializeToString(deterministic=True)
    return serialised


def _strip(model: onnx.ModelProto) -> None:
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "headrace", ""
    model.graph.name, model.graph.doc_string, model.doc_string = "fraud", "", ""
    graph = model.graph
    del graph.value_info[:]
    parts: list[Any] = [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]
    for part in parts:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs absent packages that it does not need, and warns of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
