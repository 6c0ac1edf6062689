"""How good scores were, by the labels that have come since: precision, recall, average precision, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud.evaluate import Labels, Scores, average_precision, calibration_error

FIGURES = ("precision", "recall", "average_precision", "calibration_error")


def quality(scores: Scores, flagged: NDArray[np.bool_], fraud: Labels) -> dict[str, float]:
    """The figures in `FIGURES`; NaN where the transactions do not allow one: a share of nothing is not 0.

    Args:
        scores: float [n], finite.
        flagged: bool [n], which transactions were flagged; precision and recall are theirs.
        fraud: bool [n], what they turned out to be.
    """
    caught, frauds = int((flagged & fraud).sum()), int(fraud.sum())
    return {
        "precision": _share(caught, int(flagged.sum())),
        "recall": _share(caught, frauds),
        "average_precision": average_precision(scores, fraud) if 0 < frauds < len(fraud) else np.nan,
        "calibration_error": calibration_error(scores, fraud) if len(fraud) else np.nan,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
