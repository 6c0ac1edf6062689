"""What terminal history says, case by case: labels, offsets, runs, what expires."""

from __future__ import annotations

import numpy as np
import pytest

from models.fraud.terminals import COLUMNS, TerminalHistory
from tests.models.terminal_reckoning import DAY, START, WEEK, WILD, Transaction, apply, ask, judge, sell


def test_what_the_columns_say() -> None:
    history = TerminalHistory()
    sell(history, [START, START + DAY, START + 2 * DAY, START + 3 * DAY, START + 12 * DAY])
    judge(history, *((START + day * DAY, day, day in (0, 2, 3), START + day * DAY + WEEK) for day in range(4)))
    (row,) = ask(history, [(b"a", START + 10 * DAY)])
    assert dict(zip(COLUMNS, row.tolist(), strict=True)) == {
        "count_1d": 1, "fraud_share_1d": 1, "count_7d": 4, "fraud_share_7d": 0.75,
        "count_30d": 4, "fraud_share_30d": 0.75,
        "run": 2, "run_age_days": 8, "last_fraud_age_days": 7, "last_genuine_age_days": 9,
    }  # fmt: skip
    nothing = [0, 0, 0, 0, 0, 0, 0, 99, 99, 99]
    assert ask(history, [(b"a", START + WEEK - 1), (b"b", START)]).tolist() == [nothing, nothing]


def test_a_label_counts_from_its_own_time_on() -> None:
    history = TerminalHistory()
    sell(history, [START, START + 1])
    judge(history, (START, 0, True, START + 9 * DAY))
    shares = ask(history, [(b"a", START + 9 * DAY - 1), (b"a", START + 9 * DAY)])[:, 5]
    assert shares.tolist() == [0, 0.5]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("one", "two", "fraud"),
    [((True, 3), (False, 4), False), ((False, 3), (True, 4), True), ((True, 3), (False, 3), True)],
)
def test_of_contradicting_labels_the_later_one_counts(
    one: tuple[bool, int], two: tuple[bool, int], fraud: bool, first: bool, together: bool, swap: bool
) -> None:
    history = TerminalHistory()
    labels = [(START, 0, says, START + days * DAY) for says, days in ((two, one) if swap else (one, two))]
    if not first:
        sell(history, [START])
    if together:
        judge(history, *labels)
    else:
        judge(history, labels[0])
        judge(history, labels[1])
    if first:
        assert history.waiting == 1
        sell(history, [START])
    assert history.snapshot() == {b"a": [(START, 0, START + max(one[1], two[1]) * DAY, fraud)]}
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [1, fraud]
    assert (history.waiting, history.expired) == (0, 0)


def test_a_label_goes_to_its_own_transaction_alone() -> None:
    history = TerminalHistory()
    apply(history, ("append", [Transaction(0, i, b"a", START, i // 2) for i in range(4)]))
    judge(history, (START, 0, True, START))
    judge(history, (START, 5, True, START), (START + 1, 1, True, START))
    judge(history, (START, 1, True, START), terminal=b"b")
    assert [fraud for *_, fraud in history.snapshot()[b"a"]] == [True, True, False, False]
    assert history.waiting == 3
    apply(history, ("append", [Transaction(1, 0, b"a", START, 0), Transaction(1, 1, b"a", START, 5)]))
    assert [fraud for *_, fraud in history.snapshot()[b"a"]] == [True, True, True, False, False, True]
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [6, 4 / 6]
    judge(history, (START, 0, False, START + 1))
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [6, 1 / 6]


def test_offsets_are_of_their_source() -> None:
    history = TerminalHistory()
    sell(history, [START, START + 1], source=0)
    sell(history, [START, START + 1, START + 2], source=1)
    sell(history, [START + 5, START + 6, START + 7, START + 8], source=0)
    assert [time - START for time, *_ in history.snapshot()[b"a"]] == [0, 0, 1, 1, 2, 7, 8]
    history.append(2, np.array([5, 3, 5, 6]), [b"c"] * 4, np.array([1, 2, 3, 4]), np.zeros(4, np.int64))
    assert [time for time, *_ in history.snapshot()[b"c"]] == [1, 4]


def test_labels_that_never_meet_their_transaction_expire() -> None:
    history = TerminalHistory()
    sell(history, [START + i for i in range(16)], terminal=b"busy")
    for i in range(100):
        judge(history, (START, i, True, START + i), terminal=b"%d" % (i % 50))
    judge(history, (START, 500, True, START), terminal=b"met")
    assert (history.waiting, history.expired, len(history)) == (101, 0, 52)
    sell(history, [START], terminal=b"met", source=1, start=500)
    sell(history, [START + 38 * DAY - 1] * 16, terminal=b"busy", start=16)
    assert (history.waiting, history.expired) == (100, 0)
    sell(history, [START + 38 * DAY] * 16, terminal=b"busy", start=32)
    for i in range(10):
        sell(history, [START + 38 * DAY], terminal=b"busy", start=48 + i)
    assert (history.waiting, history.expired, len(history)) == (0, 100, 1)
    judge(history, (START, 0, True, START), (START + 1, 0, True, START), terminal=b"x")
    assert (history.waiting, history.expired, len(history)) == (1, 101, 2)


def test_a_run_is_followed_for_64_transactions() -> None:
    history = TerminalHistory()
    sell(history, [START + i * 1000 for i in range(100)])
    judge(history, *((START + i * 1000, i, i >= 10, START) for i in range(100)))
    t = START + 99_000 + WEEK
    assert ask(history, [(b"a", t)])[0, 6:10].tolist() == [64, (t - START - 36_000) / DAY, 7, 99]
    judge(history, (START + 36_000, 36, False, START + 1))
    assert ask(history, [(b"a", t)])[0, 6:10].tolist() == [
        63,
        (t - START - 37_000) / DAY,
        7,
        (t - START - 36_000) / DAY,
    ]


def test_fifteen_wild_times_expire_nothing_and_sixteen_do() -> None:
    history = TerminalHistory()
    sell(history, [START] * 100)
    sell(history, [WILD] * 15, terminal=b"b", start=100)
    assert (len(history), len(history.snapshot()[b"a"])) == (2, 100)
    assert ask(history, [(b"a", START + WEEK)])[0, 0] == 100
    sell(history, [WILD], terminal=b"b", start=115)
    assert (len(history), list(history.snapshot())) == (1, [b"b"])
    assert ask(history, [(b"a", START + WEEK)])[0, 0] == 0
    sell(history, [START], start=116)
    assert len(history) == 1


def test_any_time_and_any_key_are_answered() -> None:
    limit = 1 << 60
    history = TerminalHistory()
    times = [-limit, -1, 0, 1, limit]
    sell(history, times, terminal=b"")
    judge(history, *((time, i, True, lag) for i, time in enumerate(times) for lag in (-limit, limit)), terminal=b"")
    rows = ask(history, [(b"", time) for time in times])
    assert rows[-1, 8] == 99
    assert ask(history, [(b"", WEEK)])[0, :6].tolist() == [2, 0, 2, 0, 2, 0]
    assert [fraud for *_, fraud in history.snapshot()[b""]] == [True] * 5
