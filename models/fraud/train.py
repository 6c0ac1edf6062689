"""Train the fraud network. Needs torch (extra `train`); what serves needs only the ONNX file that comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.engine import TensorSpec, TrainingFailed
from models.engines.onnx import OnnxEngine
from models.fraud import evaluate
from models.fraud.features import FEATURES
from models.fraud.fitting import deterministic
from models.fraud.network import FraudNetwork, to_onnx
from models.golden import GoldenBatch

INPUT = TensorSpec("features", "float32", (None, len(FEATURES)))
OUTPUT = TensorSpec("score", "float32", (None,))
GOLDEN_ROWS = 256
PARITY = 1e-5  # torch and ONNX Runtime sum in another order; scores lie in [0, 1]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Args:
        seed: Weights and the order of the rows.
        epochs: Passes over the training rows; the best one on the validation rows is kept.
        batch_rows: Rows per step.
        learning_rate: Adam's first step size; it falls to zero along a cosine.
        validation_share: Of the rows, by time after the training rows: they choose the epoch and the thresholds.
        test_share: Of the rows, the last by time: nothing is chosen on them, the quality is theirs.
        flag_precision: Share of true frauds among the flagged; sets the thresholds flag and review.
        decline_precision: The same among the declined.
    """

    seed: int = 0
    epochs: int = 30
    batch_rows: int = 2048
    learning_rate: float = 3e-3
    validation_share: float = 0.15
    test_share: float = 0.15
    flag_precision: float = 0.8
    decline_precision: float = 0.95


@dataclass(frozen=True)
class Epoch:
    """Where a training stands: epoch from 1, mean loss over it, average precision on the validation rows."""

    number: int
    of: int
    loss: float
    average_precision: float


@dataclass(frozen=True, eq=False)
class TrainedFraudModel:
    """What a training gives: the file, what goes into its manifest, and the scores of the test rows, the last."""

    onnx: bytes
    golden: GoldenBatch
    thresholds: dict[str, float]
    baseline: dict[str, float]
    quality: dict[str, float]
    test_scores: NDArray[np.float32]


def train(
    features: NDArray[np.float32],
    labels: NDArray[np.bool_],
    settings: TrainingSettings | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainedFraudModel:
    """Fit the network to labelled transactions and export it.

    Training, validation and test rows are split by time, never at random: a random split would let the network see a
    stolen card's other transactions. The same rows and settings give the same bytes on one machine and torch version.

    Args:
        features: float32 [n, 13], FEATURES, in the order of event time.
        labels: bool [n], True for fraud.
        settings: How to train.
        on_epoch: Called after each epoch.

    Raises:
        TrainingFailed: The rows are malformed or hold one class only; the thresholds' precisions are out of reach;
            or ONNX Runtime scores differ from torch's.
    """
    settings = settings or TrainingSettings()
    _check(features, labels)
    past, choice, test = _split(features, labels, settings)
    with deterministic(settings.seed):
        network = _fit(past, choice, settings, on_epoch)
        onnx = to_onnx(network)
        scores = network.score(test.features)
        thresholds = _thresholds(network.score(choice.features), choice.labels, settings)
        golden = _golden(network, test)
    _check_parity(onnx, test.features, scores)
    genuine = np.median(past.features[~past.labels], axis=0)
    return TrainedFraudModel(
        onnx=onnx,
        golden=golden,
        thresholds=thresholds,
        baseline={name: round(value, 4) for name, value in zip(FEATURES, genuine.tolist(), strict=True)},
        quality=evaluate.quality(scores, test.labels, thresholds["flag"]),
        test_scores=scores,
    )


class Rows(NamedTuple):
    """Consecutive labelled transactions: features float32 [n, 13], labels bool [n]."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]


def _split(features: NDArray[np.float32], labels: NDArray[np.bool_], settings: TrainingSettings) -> list[Rows]:
    tested = len(features) - round(len(features) * settings.test_share)
    chosen = tested - round(len(features) * settings.validation_share)
    cuts = {"training": slice(0, chosen), "validation": slice(chosen, tested), "test": slice(tested, None)}
    for kind, cut in cuts.items():
        if labels[cut].all() or not labels[cut].any():
            raise TrainingFailed(
                f"training the fraud network: expected fraud and genuine ones among {len(labels[cut])} {kind} rows, "
                "got only one kind; train on more days"
            )
    return [Rows(features[cut], labels[cut]) for cut in cuts.values()]


def _thresholds(scores: NDArray[np.float32], labels: NDArray[np.bool_], settings: TrainingSettings) -> dict[str, float]:
    flag = round(evaluate.threshold_at_precision(scores, labels, settings.flag_precision), 6)
    decline = round(evaluate.threshold_at_precision(scores, labels, settings.decline_precision), 6)
    return {"flag": flag, "review": flag, "decline": max(flag, decline)}


def _fit(past: Rows, choice: Rows, settings: TrainingSettings, on_epoch: Callable[[Epoch], None]) -> FraudNetwork:
    features, labels = torch.from_numpy(past.features), torch.from_numpy(past.labels).float()
    network = FraudNetwork()
    network.standardise_on(features)
    weight = math.sqrt((1 - labels.mean().item()) / labels.mean().item())
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    best, kept = -1.0, network.state_dict()
    for number in range(1, settings.epochs + 1):
        loss = _epoch(network, features, labels, loss_of, optimiser, settings.batch_rows)
        schedule.step()
        reached = evaluate.average_precision(network.score(choice.features), choice.labels)
        on_epoch(Epoch(number, settings.epochs, loss, reached))
        if reached > best:
            best, kept = reached, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(kept)
    _undo_weight(network, weight)
    return network


def _epoch(
    network: FraudNetwork,
    features: Tensor,
    labels: Tensor,
    loss_of: nn.BCEWithLogitsLoss,
    optimiser: torch.optim.Optimizer,
    batch_rows: int,
) -> float:
    network.train()
    total = 0.0
    for rows in torch.split(torch.randperm(len(features)), batch_rows):
        optimiser.zero_grad()
        loss = loss_of(network.logits(features[rows]), labels[rows])
        loss.backward()
        optimiser.step()
        total += loss.item() * len(rows)
    network.eval()
    return total / len(features)


@torch.no_grad()
def _undo_weight(network: FraudNetwork, weight: float) -> None:
    """Frauds counted `weight` times, so the odds came out `weight` times too high: scores are probabilities again.

    References: C. Elkan: The Foundations of Cost-Sensitive Learning. IJCAI 2001, theorem 2.
    """
    last = network.layers[-1]
    if isinstance(last, nn.Linear):
        last.bias.sub_(math.log(weight))


def _golden(network: FraudNetwork, test: Rows) -> GoldenBatch:
    """Half frauds (or as many as there are), half genuine, evenly over time; expected scores are torch's."""
    chosen = []
    for kind in (test.labels, ~test.labels):
        rows = np.flatnonzero(kind)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS // 2, len(rows))).astype(np.int64)])
    batch = test.features[np.sort(np.concatenate(chosen))]
    return GoldenBatch({INPUT.name: batch}, {OUTPUT.name: network.score(batch)})


def _check_parity(onnx: bytes, features: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    engine = OnnxEngine()
    engine.load_bytes(onnx, "the exported fraud network")
    off = float(np.abs(engine.infer({INPUT.name: features})[OUTPUT.name] - expected).max())
    engine.close()
    if not off <= PARITY:
        raise TrainingFailed(
            f"exporting the fraud network: expected ONNX Runtime within {PARITY:g} of torch on {len(features)} rows, "
            f"got {off:.3g} off; no model was made"
        )


def _check(features: NDArray[np.float32], labels: NDArray[np.bool_]) -> None:
    if features.dtype != np.float32 or features.shape != (len(labels), len(FEATURES)) or labels.dtype != np.bool_:
        raise TrainingFailed(
            f"training the fraud network: expected float32 [n, {len(FEATURES)}] and bool [n], got "
            f"{features.dtype} {list(features.shape)} and {labels.dtype} {list(labels.shape)}"
        )
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise TrainingFailed(f"training the fraud network: expected finite features, got {features[row]} in row {row}")
