"""How good a fraud score is: ranking figures, and what a threshold catches and costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engine import TrainingFailed

Scores = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.bool_]


def roc_auc(scores: Scores, labels: Labels) -> float:
    """The chance that a fraud scores above a genuine transaction, ties counted half.

    Args: scores and labels of shape [n], fraud is True.
    Raises: TrainingFailed where only one class is there.

    References: J. A. Hanley, B. J. McNeil: The Meaning and Use of the Area under a ROC Curve. Radiology 143, 1982.
    """
    _check(scores, labels)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # of tied scores: the mean of their ranks, from 1
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Scores, labels: Labels) -> float:
    """The precision-recall curve's mean precision, each step weighted by the recall it gains; no interpolation.

    Args: scores and labels of shape [n], fraud is True.
    Raises: TrainingFailed where only one class is there.

    References: C. D. Manning, P. Raghavan, H. Schütze: Introduction to Information Retrieval. 2008, section 8.4.
    """
    _, caught, flagged = _by_threshold(scores, labels)
    gained = np.diff(caught, prepend=0) / caught[-1]
    return float((gained * caught / flagged).sum())


def threshold_at_precision(scores: Scores, labels: Labels, precision: float) -> float:
    """The lowest threshold at and above which at least this share of the transactions is fraud.

    Raises: TrainingFailed where no threshold reaches it.
    """
    thresholds, caught, flagged = _by_threshold(scores, labels)
    reached = np.flatnonzero(caught / flagged >= precision)
    if not len(reached):
        best = float((caught / flagged).max())
        raise TrainingFailed(
            f"choosing a threshold: expected one with a precision of {precision:.2f}, got {best:.2f} at best; "
            "train on more days or ask for less"
        )
    return float(thresholds[reached[-1]])


def at_threshold(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """What flagging every score >= threshold gives: precision, recall, and the share that is flagged."""
    flagged = scores >= threshold
    caught = int((flagged & labels).sum())
    return {
        "precision": caught / max(1, int(flagged.sum())),
        "recall": caught / max(1, int(labels.sum())),
        "flagged_share": float(flagged.mean()),
    }


def calibration_error(scores: Scores, labels: Labels, bins: int = 20) -> float:
    """Expected calibration error: how far a bin's mean score is from its share of fraud, weighted by its transactions.

    Bins hold about as many transactions each, by rank; equal scores are never parted, so that the order of the
    transactions does not matter. Where fraud is rare, bins of equal width would leave nearly all in the first.

    Args: scores and labels of shape [n], n > 0, fraud is True.

    References: M. P. Naeini, G. F. Cooper, M. Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian
    Binning. AAAI 2015. J. Nixon, M. Dusenberry, G. Jerfel, T. Nguyen, J. Liu, L. Zhang, D. Tran: Measuring Calibration
    in Deep Learning. CVPR Workshops 2019 (bins of equal mass).
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = 2 * np.cumsum(counts) - counts  # twice the mean rank of equal scores
    bin_of = (bins * middle // (2 * len(scores)))[inverse]
    excess = np.bincount(bin_of, scores.astype(np.float64) - labels)
    return float(np.abs(excess).sum() / len(scores))


def quality(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """The figures that a manifest states: roc_auc, average_precision, calibration_error, fraud_share, and precision,
    recall and flagged_share at `threshold`.
    """
    figures = {"roc_auc": roc_auc(scores, labels), "average_precision": average_precision(scores, labels)}
    figures |= at_threshold(scores, labels, threshold)
    figures["calibration_error"] = calibration_error(scores, labels)
    figures["fraud_share"] = float(labels.mean())
    return {name: round(value, 6) for name, value in figures.items()}


def _by_threshold(scores: Scores, labels: Labels) -> tuple[Scores, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores, descending, with how many frauds and how many transactions are at or above each."""
    _check(scores, labels)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    return scores[ends], np.cumsum(labels[order], dtype=np.int64)[ends], (ends + 1).astype(np.int64)


def _check(scores: Scores, labels: Labels) -> None:
    if scores.shape != labels.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise TrainingFailed(
            f"evaluating scores: expected finite scores and labels of one shape [n], "
            f"got {list(scores.shape)} and {list(labels.shape)}"
        )
    if labels.all() or not labels.any():
        raise TrainingFailed(f"evaluating {len(labels)} scores: expected fraud and genuine ones, got only one kind")
