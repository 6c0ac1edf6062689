"""The fraud ensemble: raw inputs in, the probability of fraud out. Needs torch (extra `train`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SLICE_ROWS = 16_384  # scored at once: a row takes a few KiB while it is


class FraudEnsemble(nn.Module):
    """Multilayer perceptrons side by side on one encoding of raw inputs, their log-odds averaged and calibrated.

    An input is seen twice: as its signed logarithm, standardised, and piecewise linearly, as how far it reaches into
    each of its bins. Bins let few steps of training find that fraud begins at some amount, or at a share above zero.
    Everything that a row needs is inside, so that what serves takes raw inputs.

    forward: inputs float32 [n, d] -> score float32 [n], a probability.

    Args:
        edges: for each of the d inputs the ascending borders of its bins; fewer than two: no bins.
        members: how many perceptrons.
        hidden: width of their two hidden layers.
        dropout: share of the hidden units that a training step leaves out.

    References:
        Y. Gorishniy, I. Rubachev, A. Babenko: On Embeddings for Numerical Features in Tabular Deep Learning. NeurIPS
        2022 (piecewise linear encoding, section 3.2).
        B. Lakshminarayanan, A. Pritzel, C. Blundell: Simple and Scalable Predictive Uncertainty Estimation Using Deep
        Ensembles. NeurIPS 2017.
        J. Platt: Probabilistic Outputs for Support Vector Machines. 1999 (slope and shift).
    """

    mean: Tensor
    scale: Tensor
    source: Tensor
    low: Tensor
    per_width: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self, edges: Sequence[NDArray[np.float32]], members: int, hidden: int, dropout: float) -> None:
        super().__init__()
        bins = [
            (column, low, high) for column, borders in enumerate(edges) for low, high in itertools.pairwise(borders)
        ]
        self.register_buffer("mean", torch.zeros(len(edges)))
        self.register_buffer("scale", torch.ones(len(edges)))
        self.register_buffer("source", torch.tensor([column for column, _, _ in bins], dtype=torch.int64))
        self.register_buffer("low", torch.tensor([float(low) for _, low, _ in bins]))
        self.register_buffer("per_width", torch.tensor([1 / (float(high) - float(low)) for _, low, high in bins]))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.dropout = dropout
        widths = (len(edges) + len(bins), hidden, hidden, 1)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for width, following in itertools.pairwise(widths):
            bound = 1 / math.sqrt(width)
            self.weights.append(nn.Parameter(torch.empty(members, width, following).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, following)))

    def standardise_on(self, inputs: Tensor) -> None:
        """Take mean and scale from these rows; an input that does not vary is left as it is."""
        compressed = _compress(inputs).double()
        deviation = compressed.std(dim=0, correction=0)
        self.mean.copy_(compressed.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 1.0))

    def encode(self, inputs: Tensor) -> Tensor:
        """float32 [n, d + bins]: standardised logarithms, then how far each bin is filled, 0 to 1."""
        filled = ((inputs[:, self.source] - self.low) * self.per_width).clamp(0, 1)
        return torch.cat(((_compress(inputs) - self.mean) * self.scale, filled), dim=1)

    def member_logits(self, encoded: Tensor) -> Tensor:
        """Each member's log-odds, uncalibrated: float32 [members, n]."""
        hidden = encoded.unsqueeze(0)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.relu(torch.matmul(hidden, weight) + bias)
            hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        logits: Tensor = torch.matmul(hidden, self.weights[-1]) + self.biases[-1]
        return logits.squeeze(-1)

    def logits(self, inputs: Tensor) -> Tensor:
        """The calibrated log-odds of fraud, float32 [n]."""
        calibrated: Tensor = self.slope * self.member_logits(self.encode(inputs)).mean(dim=0) + self.shift
        return calibrated

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(inputs))

    @torch.no_grad()
    def score(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """`forward` for arrays, in slices, so that a million rows need little memory."""
        rows = torch.from_numpy(inputs)
        return np.concatenate([self(part).numpy() for part in torch.split(rows, SLICE_ROWS)])


def _compress(inputs: Tensor) -> Tensor:
    """sign(x) * log(1 + |x|)"""
    return torch.sign(inputs) * torch.log1p(torch.abs(inputs))
