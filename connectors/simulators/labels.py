"""Simulated labels: what the simulated transactions turn out to be, some days later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectors.columns import Field
from connectors.simulators.transactions import TransactionBlock

FIELDS = (
    Field("transaction_id", "string"),
    Field("card_id", "string"),
    Field("terminal_id", "string"),
    Field("fraud", "boolean"),
    Field("event_time", "time"),
    Field("label_time", "time"),
    Field("amount", "number", required=False),
)
"""What an event of the topic `fraud.labels` holds; the simulator writes all of them."""

_RECORD = (
    b'{"transaction_id":"t%09d","card_id":"c%07d","terminal_id":"m%07d","fraud":%s,'
    b'"event_time":%d,"label_time":%d,"amount":%d.%02d}'
)


def records(
    block: TransactionBlock, delay_ms: int, *, genuine: bool
) -> tuple[list[bytes], list[bytes], NDArray[np.int64]]:
    """The labels of a block's transactions, in the order of their label times.

    Args:
        delay_ms: From the event time of a transaction to its label's time.
        genuine: Whether genuine transactions have labels, too; otherwise fraud alone has, as by chargebacks.

    Returns:
        n keys (card ids), JSON values as the topic `fraud.labels` carries them, and label times in ms.
    """
    chosen = np.flatnonzero(block.fraud | genuine)
    units, cents = np.divmod(np.rint(block.amount[chosen] * 100).astype(np.int64), 100)
    times = block.event_time_ms[chosen]
    ids, cards, terminals = (
        column[chosen].tolist() for column in (block.transaction_id, block.customer, block.terminal)
    )
    verdicts = [b"true" if fraud else b"false" for fraud in block.fraud[chosen].tolist()]
    rows = zip(
        ids, cards, terminals, verdicts, times.tolist(), (times + delay_ms).tolist(), units.tolist(), cents.tolist(),
        strict=True,
    )  # fmt: skip
    return [b"c%07d" % card for card in cards], [_RECORD % row for row in rows], times + delay_ms
