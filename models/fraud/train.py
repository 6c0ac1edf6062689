"""Train what serves: the fraud ensemble as an ONNX file. Needs the extra `train`; serving needs only the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.engine import TensorSpec, TrainingFailed
from models.engines.onnx import OnnxEngine
from models.fraud import evaluate
from models.fraud.ensemble import FraudEnsemble
from models.fraud.export import to_onnx
from models.fraud.fitting import FitSettings, Progress, fit
from models.fraud.inputs import INPUTS
from models.golden import GoldenBatch

INPUT = TensorSpec("features", "float32", (None, len(INPUTS)))
OUTPUT = TensorSpec("score", "float32", (None,))
GOLDEN_ROWS = 256
PARITY = 1e-5  # torch and ONNX Runtime sum in another order; scores lie in [0, 1]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Args:
        fit: How the ensemble is fitted and calibrated.
        test_share: Of the rows, the last by time: nothing is chosen on them, the quality is theirs.
        review_precision: Share of frauds among what scores the threshold `review` or more.
        block_precision: The same for the threshold `block`.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    test_share: float = 0.15
    review_precision: float = 0.8
    block_precision: float = 0.95


@dataclass(frozen=True, eq=False)
class TrainedFraudModel:
    """What a training gives.

    Args:
        onnx: the file.
        golden: test rows, frauds and genuine ones, with their scores.
        thresholds: from what score on a transaction is reviewed (`review`) and blocked (`block`).
        baseline: each input's median among the genuine rows that were trained on.
        quality: figures of the test rows.
        test_scores: float32 [m], those of the last m rows.
    """

    onnx: bytes
    golden: GoldenBatch
    thresholds: dict[str, float]
    baseline: dict[str, float]
    quality: dict[str, float]
    test_scores: NDArray[np.float32]


def train(
    inputs: NDArray[np.float32],
    labels: NDArray[np.bool_],
    settings: TrainingSettings | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
) -> TrainedFraudModel:
    """Fit the ensemble to labelled transactions and export it.

    Rows to fit, to calibrate and choose thresholds on, and to test are split by time, never at random: a random split
    would let the ensemble see a stolen card's other transactions. The same rows and settings give the same bytes on
    one machine and torch version.

    Args:
        inputs: float32 [n, 26], INPUTS, in the order of event time.
        labels: bool [n], True for fraud.
        settings: How to train.
        on_epoch: Called after each epoch.

    Raises:
        TrainingFailed: The rows are malformed or hold one class only; or ONNX Runtime's scores differ from torch's.
    """
    settings = settings or TrainingSettings()
    cut = len(labels) - round(len(labels) * settings.test_share)
    if inputs.shape != (len(labels), len(INPUTS)):
        raise TrainingFailed(
            f"training the fraud ensemble: expected inputs [{len(labels)}, {len(INPUTS)}], got {list(inputs.shape)}"
        )
    if labels[cut:].all() or not labels[cut:].any():
        raise TrainingFailed(
            f"training the fraud ensemble: expected fraud and genuine ones among {len(labels) - cut} test rows, got "
            "only one kind; train on more days"
        )
    fitted = fit(inputs[:cut], labels[:cut], settings.fit, on_epoch)
    thresholds = _thresholds(fitted.held_out, labels[cut - len(fitted.held_out) : cut], settings)
    scores = fitted.ensemble.score(inputs[cut:])
    onnx = to_onnx(fitted.ensemble)
    _check_parity(onnx, inputs[cut:], scores)
    genuine = np.median(inputs[:cut][~labels[:cut]], axis=0)
    return TrainedFraudModel(
        onnx=onnx,
        golden=_golden(fitted.ensemble, inputs[cut:], labels[cut:]),
        thresholds=thresholds,
        baseline={name: round(value, 4) for name, value in zip(INPUTS, genuine.tolist(), strict=True)},
        quality=evaluate.quality(scores, labels[cut:], thresholds["review"]),
        test_scores=scores,
    )


def _thresholds(scores: NDArray[np.float32], labels: NDArray[np.bool_], settings: TrainingSettings) -> dict[str, float]:
    review = round(_threshold(scores, labels, settings.review_precision), 6)
    block = round(_threshold(scores, labels, settings.block_precision), 6)
    return {"review": review, "block": max(review, block)}


def _threshold(scores: NDArray[np.float32], labels: NDArray[np.bool_], precision: float) -> float:
    """The lowest threshold of this precision; where none has it, the score that promises it by its calibration."""
    try:
        return evaluate.threshold_at_precision(scores, labels, precision)
    except TrainingFailed:
        return precision


def _golden(ensemble: FraudEnsemble, inputs: NDArray[np.float32], labels: NDArray[np.bool_]) -> GoldenBatch:
    """Half frauds (or as many as there are), half genuine, evenly over time; expected scores are torch's."""
    chosen = []
    for kind in (labels, ~labels):
        rows = np.flatnonzero(kind)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS // 2, len(rows))).astype(np.int64)])
    batch = inputs[np.sort(np.concatenate(chosen))]
    return GoldenBatch({INPUT.name: batch}, {OUTPUT.name: ensemble.score(batch)})


def _check_parity(onnx: bytes, inputs: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    engine = OnnxEngine()
    engine.load_bytes(onnx, "the exported fraud ensemble")
    off = float(np.abs(engine.infer({INPUT.name: inputs})[OUTPUT.name] - expected).max())
    engine.close()
    if not off <= PARITY:
        raise TrainingFailed(
            f"exporting the fraud ensemble: expected ONNX Runtime within {PARITY:g} of torch on {len(inputs)} rows, "
            f"got {off:.3g} off; no model was made"
        )
