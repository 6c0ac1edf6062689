"""What the fraud network sees of a transaction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS, WINDOWS_MS

WINDOW_FEATURES = tuple(f"{what}_{window // DAY_MS}d" for window in WINDOWS_MS for what in ("count", "sum", "mean"))
FEATURES: tuple[str, ...] = ("amount", "weekend", "night", *WINDOW_FEATURES, "amount_ratio")

HOUR_MS = 3_600_000
NIGHT_ENDS = 7  # a night is hours 0 to 6, as in the public simulators of card fraud
THURSDAY = 3  # 1970-01-01, counted from Monday
SATURDAY = 5


def features(
    amount: NDArray[np.float64], event_time_ms: NDArray[np.int64], windows: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The network's inputs, raw, in the order of `FEATURES`.

    `weekend` is 1 on Saturday and Sunday, `night` in the hours 0 to 6, both UTC. `amount_ratio` is the amount by the
    card's mean over 30 days, itself included, and 1 where that mean is 0. Amounts, sums and means are in the
    transaction's currency.

    Args:
        amount: float64 [n].
        event_time_ms: int64 [n], ms since the epoch, before it too.
        windows: float64 [n, 9], from `CardHistory.update`.

    Returns:
        float32 [n, 13].
    """
    rows = np.empty((len(amount), len(FEATURES)), np.float32)
    day, in_day = np.divmod(event_time_ms, DAY_MS)
    mean = windows[:, 8]
    rows[:, 0] = amount
    rows[:, 1] = (day + THURSDAY) % 7 >= SATURDAY
    rows[:, 2] = in_day < NIGHT_ENDS * HOUR_MS
    rows[:, 3:12] = windows
    rows[:, 12] = np.divide(amount, mean, out=np.ones(len(amount)), where=mean != 0)
    return rows
