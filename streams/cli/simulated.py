"""Simulated card transactions with their labels, as if they had been recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.transactions import DAY_MS, TransactionBlock, TransactionSettings, blocks
from models.fraud.transactions import Ids, Transactions


@dataclass(frozen=True, eq=False)
class Simulated:
    """Transactions, and what a recording would not say.

    Args:
        transactions: n, in the order of event time; ids are those of the topic `transactions`.
        scenario: int8 [n], 0 for a genuine one, else the kind of fraud as the simulator numbers it.
    """

    transactions: Transactions
    scenario: NDArray[np.int8]


def simulate(days: int, customers: int, seed: int, on_day: Callable[[int], None] = lambda _: None) -> Simulated:
    """The first `days` days of the simulator's default world with this many customers.

    Args:
        on_day: called with the number of days done.
    """
    settings = TransactionSettings(seed=seed, customers=customers)
    start_ms = int(settings.start.timestamp() * 1000)
    kept: list[TransactionBlock] = []
    for block in blocks(settings):
        if not len(block):
            continue
        day = int(block.event_time_ms[0] - start_ms) // DAY_MS
        on_day(min(day, days))
        if day >= days:
            break
        kept.append(block)
    customer = np.concatenate([block.customer for block in kept])
    terminal = np.concatenate([block.terminal for block in kept])
    transactions = Transactions(
        transaction_ids=[b"t%09d" % number for block in kept for number in block.transaction_id.tolist()],
        event_time_ms=np.concatenate([block.event_time_ms for block in kept]),
        cards=Ids.of([b"c%07d" % number for number in customer.tolist()]),
        terminals=Ids.of([b"m%07d" % number for number in terminal.tolist()]),
        amount=np.concatenate([block.amount for block in kept]),
        fraud=np.concatenate([block.fraud for block in kept]),
    )
    return Simulated(transactions, np.concatenate([block.scenario for block in kept]))
