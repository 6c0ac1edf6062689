"""Recorded transactions through the stores of the stream: the inputs that they would have had, had they just come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.fraud import habits
from models.fraud.blocks import DAY_MS
from models.fraud.hashes import transaction_hashes
from models.fraud.history import CardHistory
from models.fraud.inputs import INPUTS, inputs
from models.fraud.protocol import LABEL_DELAY_DAYS
from models.fraud.terminals import TerminalHistory
from models.fraud.transactions import Transactions

CHUNK = 8_192
LATENESS_MS = DAY_MS


def recorded_inputs(transactions: Transactions, on_rows: Callable[[int], None] = lambda _: None) -> NDArray[np.float64]:
    """float64 [n, 26] in the order of `INPUTS`, each row as of its own event; labels come a week after it.

    Stores begin empty, as they do for a new worker: windows of the first rows are still filling.

    Args:
        transactions: in the order of time.
        on_rows: called with the number of rows done.
    """
    cards, terminals = CardHistory(LATENESS_MS), TerminalHistory(LABEL_DELAY_DAYS * DAY_MS, LATENESS_MS)
    card_keys, terminal_keys = transactions.cards.keys, transactions.terminals.keys
    offsets = np.arange(len(transactions))
    rows = np.empty((len(transactions), len(INPUTS)))
    start = 0
    while start < len(rows):
        # No chunk is longer than stores wait for the late: its end must not make them forget what its beginning needs.
        day_later = transactions.event_time_ms[start] + LATENESS_MS
        part = slice(start, min(start + CHUNK, int(np.searchsorted(transactions.event_time_ms, day_later))))
        time, amount = transactions.event_time_ms[part], transactions.amount[part]
        hashes = transaction_hashes(transactions.transaction_ids[part], card_keys[part])
        known = np.empty((len(time), len(habits.COLUMNS)))
        windows = cards.update(card_keys[part], time, amount, offsets[part], known)
        cards.changes()  # no changelog here; taking them keeps them from piling up
        terminals.append(0, offsets[part], terminal_keys[part], time, hashes)
        label_time = time + LABEL_DELAY_DAYS * DAY_MS
        terminals.label(terminal_keys[part], time, hashes, transactions.fraud[part], label_time)
        rows[part] = inputs(amount, time, windows, known, terminals.windows(terminal_keys[part], time))
        start = part.stop
        on_rows(start)
    return rows
