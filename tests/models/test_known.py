from __future__ import annotations

import random
from datetime import date

import numpy as np
import pytest

from models.engine import TrainingFailed
from models.fraud.known import Known, known_by
from models.fraud.transactions import Ids, Transactions

FIRST = date(2024, 2, 1)
DAY_MS = 86_400_000


def make_transactions(days: int, fraud: float = 0.2) -> Transactions:
    """Forty transactions a day from FIRST on, one of them in the day's first millisecond."""
    dice = random.Random(5)
    start = (FIRST - date(1970, 1, 1)).days
    times = [(start + day) * DAY_MS + offset for day in range(days) for offset in (0, *dice.sample(range(DAY_MS), 39))]
    times.sort()
    count = len(times)
    return Transactions(
        transaction_ids=[b"%d" % number for number in range(count)],
        event_time_ms=np.array(times, np.int64),
        cards=Ids.of([b"c%d" % dice.randrange(20) for _ in range(count)]),
        terminals=Ids.of([b"m%d" % dice.randrange(20) for _ in range(count)]),
        amount=np.array([float(number) for number in range(count)]),
        fraud=np.array([dice.random() < fraud for _ in range(count)]),
    )


def days_of(known: Known) -> tuple[str, str]:
    """First and last day."""
    day = known.transactions.day.astype("datetime64[D]").astype(str)
    return day[0], day[-1]


def test_a_label_is_known_a_week_after_its_transaction() -> None:
    transactions = make_transactions(100)
    known = known_by(transactions, date(2024, 4, 30))
    assert days_of(known) == ("2024-02-01", "2024-04-22")
    assert known.day == date(2024, 4, 30)
    rows = [row for row, day in enumerate(transactions.day.tolist()) if day < transactions.day[0] + 89 - 7]
    assert known.transactions.transaction_ids == [transactions.transaction_ids[row] for row in rows]
    assert known.transactions.cards.keys == [transactions.cards.keys[row] for row in rows]
    assert known.transactions.terminals.keys == [transactions.terminals.keys[row] for row in rows]
    for column in ("event_time_ms", "amount", "fraud"):
        np.testing.assert_array_equal(getattr(known.transactions, column), getattr(transactions, column)[rows])


def test_without_a_day_it_is_the_one_after_the_last_transaction() -> None:
    known = known_by(make_transactions(100))
    assert known.day == date(2024, 5, 11)
    assert days_of(known)[1] == "2024-05-03"


def test_a_week_after_the_last_transaction_all_is_known() -> None:
    transactions = make_transactions(100)
    known = known_by(transactions, date(2024, 5, 18))
    assert len(known.transactions) == len(transactions)


@pytest.mark.parametrize(
    ("days", "until", "complaint"),
    [
        (30, date(2024, 2, 1), "known within 2024-02-02 and 2024-03-09, got 2024-02-01; nothing was trained"),
        (30, date(2024, 3, 10), "transactions from 2024-02-01 to 2024-03-01: .* got 2024-03-10"),
        (30, date(2024, 2, 14), "known by 2024-02-14: expected at least 7 days, got 6: a label is known 7 days after"),
        (5, None, "expected at least 7 days, got 0"),
    ],
)
def test_days_that_do_not_do_are_refused(days: int, until: date | None, complaint: str) -> None:
    with pytest.raises(TrainingFailed, match=complaint):
        known_by(make_transactions(days), until)


def test_too_few_frauds_are_refused() -> None:
    with pytest.raises(TrainingFailed, match=r"expected at least 30 frauds, got \d+ among 840 transactions"):
        known_by(make_transactions(28, fraud=0.01))
