"""What the fraud ensemble sees of a transaction: its card now, and its terminal a week ago."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud import habits
from models.fraud.blocks import DAY_MS

HOUR_MS = 3_600_000
NIGHT_ENDS = 7  # a night is hours 0 to 6, as in the public simulators of card fraud
THURSDAY = 3  # 1970-01-01, counted from Monday
SATURDAY = 5

PLAIN_FEATURES: tuple[str, ...] = (
    *("amount", "weekend", "night"),
    *("count_1d", "mean_1d", "count_7d", "mean_7d", "count_30d", "mean_30d"),
    *("terminal_count_1d", "terminal_fraud_share_1d"),
    *("terminal_count_7d", "terminal_fraud_share_7d"),
    *("terminal_count_30d", "terminal_fraud_share_30d"),
)
"""Those of the public handbook, which its own models see."""
RUN_INPUTS = ("terminal_fraud_run", "terminal_run_age_d", "terminal_last_fraud_d", "terminal_last_genuine_d")
INPUTS: tuple[str, ...] = (*PLAIN_FEATURES, *habits.COLUMNS, *RUN_INPUTS)
STATE = "card-and-terminal-history/1"
"""What inputs are computed from, as manifests name it; another one once an input means something else."""


def inputs(
    amount: NDArray[np.float64],
    event_time_ms: NDArray[np.int64],
    windows: NDArray[np.float64],
    habits_: NDArray[np.float64],
    terminals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The ensemble's inputs, raw, in the order of `INPUTS`.

    `weekend` is 1 on Saturday and Sunday, `night` in the hours 0 to 6, both UTC.

    Args:
        amount: float64 [n].
        event_time_ms: int64 [n], ms since the epoch.
        windows, habits_: float64 [n, 9] and [n, 7], from `CardHistory.update`.
        terminals: float64 [n, 10], from `TerminalHistory.windows`.

    Returns:
        float64 [n, 26].
    """
    rows = np.empty((len(amount), len(INPUTS)))
    day, in_day = np.divmod(event_time_ms, DAY_MS)
    rows[:, 0] = amount
    rows[:, 1] = (day + THURSDAY) % 7 >= SATURDAY
    rows[:, 2] = in_day < NIGHT_ENDS * HOUR_MS
    rows[:, 3:9] = windows[:, [0, 2, 3, 5, 6, 8]]
    rows[:, 9:15] = terminals[:, :6]
    rows[:, 15:22] = habits_
    rows[:, 22:] = terminals[:, 6:10]
    return rows
