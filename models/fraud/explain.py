"""Reasons for a fraud score: what each feature added to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.fraud.features import FEATURES

Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [n, 13] -> float32 [n]"""


class Reason(NamedTuple):
    """One feature of one transaction, and by how much the score would be lower were it typical."""

    feature: str
    value: float
    contribution: float


def reasons(
    score: Score,
    features: NDArray[np.float32],
    scores: NDArray[np.float32],
    baseline: NDArray[np.float32],
    top: int = 3,
) -> list[list[Reason]]:
    """The features that raise each row's score most: at most `top`, largest first, positive ones only.

    The contribution of a feature is score(x) - score(x with that feature at its baseline), in units of the score
    (a probability). It is local and leaves one feature out at a time: windows overlap, so features that say the same
    share what they say, contributions do not add up to the score, and a row may have none.

    One call of `score` with 13 rows for each row here; for the flagged rows, not for all.

    Args:
        score: The network, e.g. `lambda rows: engine.infer({"features": rows})["score"]`.
        features: float32 [k, 13], raw, in the order of FEATURES.
        scores: float32 [k], what the network gave for them.
        baseline: float32 [13], typical values: the manifest's table.
        top: How many reasons at most.

    References:
        M. Robnik-Sikonja, I. Kononenko: Explaining Classifications for Individual Instances. IEEE TKDE 20(5), 2008.
        M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014 (occlusion).
    """
    rows, width = features.shape
    if not rows:
        return []
    occluded = np.repeat(features, width, axis=0).reshape(rows, width, width)
    each = np.arange(width)
    occluded[:, each, each] = baseline
    without = score(occluded.reshape(rows * width, width)).reshape(rows, width)
    contributions = scores[:, None] - without
    leading = np.argsort(-contributions, axis=1, kind="stable")[:, :top]
    values = np.take_along_axis(features, leading, axis=1).tolist()
    gains = np.take_along_axis(contributions, leading, axis=1).tolist()
    return [
        [Reason(FEATURES[i], value, gain) for i, value, gain in zip(*row, strict=True) if gain > 0]
        for row in zip(leading.tolist(), values, gains, strict=True)
    ]
