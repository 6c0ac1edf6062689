"""What a training may use on some day: labels come late.

The first days, whose windows are still filling, count like the others: so do those of a new worker, whose scores would
otherwise be next to nothing for a month.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import NamedTuple

import numpy as np

from models.engine import TrainingFailed
from models.fraud.blocks import DAY_MS
from models.fraud.protocol import LABEL_DELAY_DAYS
from models.fraud.transactions import Ids, Transactions

LEAST_DAYS = 7
LEAST_FRAUDS = 30


class Known(NamedTuple):
    """What is known on a day.

    Args:
        transactions: those with a known label, in the order of time.
        day: the day, of which nothing is known yet.
    """

    transactions: Transactions
    day: date


def known_by(transactions: Transactions, until: date | None = None) -> Known:
    """The transactions whose labels are known at the beginning of a day, UTC: those more than a week old by then.

    Args:
        transactions: in the order of time.
        until: the day; None: the one after the last transaction's.

    Raises:
        TrainingFailed: `until` is not after the first day, or later than a week after the last one, when all is known;
            or fewer than 7 days, or 30 frauds, are known by then.
    """
    first, last = int(transactions.day[0]), int(transactions.day[-1])
    end = last + 1 if until is None else (until - date(1970, 1, 1)).days
    latest = last + 1 + LABEL_DELAY_DAYS
    covered = f"transactions from {_date(first)} to {_date(last)}"
    if not first < end <= latest:
        raise TrainingFailed(
            f"choosing what to train on of {covered}: expected the day by which labels are known within "
            f"{_date(first + 1)} and {_date(latest)}, got {_date(end)}; nothing was trained"
        )
    doing = f"choosing what to train on of {covered}, whose labels are known by {_date(end)}"
    days = end - LABEL_DELAY_DAYS - first
    if days < LEAST_DAYS:
        raise TrainingFailed(
            f"{doing}: expected at least {LEAST_DAYS} days, got {max(days, 0)}: a label is known {LABEL_DELAY_DAYS} "
            "days after its transaction; add files, simulate more days or choose a later day"
        )
    count = int(np.searchsorted(transactions.event_time_ms, (end - LABEL_DELAY_DAYS) * DAY_MS))
    frauds = int(np.count_nonzero(transactions.fraud[:count]))
    if frauds < LEAST_FRAUDS:
        raise TrainingFailed(
            f"{doing}: expected at least {LEAST_FRAUDS} frauds, got {frauds} among {count} transactions; "
            "add files, simulate more customers or choose a later day"
        )
    return Known(_first(transactions, count), _date(end))


def _first(transactions: Transactions, count: int) -> Transactions:
    rows = slice(count)
    cards, terminals = (Ids(ids.codes[rows], ids.names) for ids in (transactions.cards, transactions.terminals))
    return replace(
        transactions,
        transaction_ids=transactions.transaction_ids[rows],
        event_time_ms=transactions.event_time_ms[rows],
        cards=cards,
        terminals=terminals,
        amount=transactions.amount[rows],
        fraud=transactions.fraud[rows],
    )


def _date(day: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day)
