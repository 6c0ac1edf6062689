"""The training sample of a fraud model: what its inputs and scores looked like, once every window was full."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS, WINDOWS_MS
from models.fraud.inputs import INPUTS
from models.fraud.protocol import LABEL_DELAY_DAYS
from models.fraud.transactions import Transactions
from models.reference import Reference

FILLING_DAYS = LABEL_DELAY_DAYS + WINDOWS_MS[-1] // DAY_MS  # 37: until a terminal's longest window is full


def training_sample(
    transactions: Transactions,
    inputs: NDArray[np.float32],
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Reference:
    """Sample the transactions that a model learnt from; no id is in it, nor a whole row.

    Those of the first 37 days are left out, since windows are still filling, which they are but once; where there are
    less than 74 days, those of the first half.

    Args:
        transactions: in the order of time.
        inputs: float32 [n, 26], theirs.
        score: float32 [m, 26] -> float32 [m], the model's.

    Raises:
        TrainingFailed: Less than 200 transactions are left.
    """
    day = transactions.day - transactions.day[0]
    first = int(np.searchsorted(day, min(FILLING_DAYS, (int(day[-1]) + 1) // 2)))
    kept = inputs[first:]
    return Reference.of(kept, score(kept), INPUTS, transactions.event_time_ms[first:], transactions.cards.codes[first:])
