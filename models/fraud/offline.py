"""The features of recorded transactions: the same code as in the stream, without a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.fraud.features import features
from models.fraud.history import CardHistory

CHUNK = 8_192


def offline_features(
    keys: Sequence[bytes], event_time_ms: NDArray[np.int64], amount: NDArray[np.float64]
) -> NDArray[np.float32]:
    """float32 [n, 13] in the order of FEATURES, each row as of its own event, given in the order of arrival.

    Every card starts without a history, as it does for a new worker: the first rows' windows are still filling.
    """
    history = CardHistory()
    offsets = np.arange(len(keys), dtype=np.int64)
    parts = []
    for start in range(0, len(keys), CHUNK):
        rows = slice(start, start + CHUNK)
        windows = history.update(keys[rows], event_time_ms[rows], amount[rows], offsets[rows])
        history.changes()  # no changelog here; taking them keeps them from piling up
        parts.append(features(amount[rows], event_time_ms[rows], windows))
    return np.concatenate(parts) if parts else features(amount, event_time_ms, np.empty((0, 9)))
