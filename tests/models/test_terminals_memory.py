"""What terminal history holds in memory, while terminals come, go and grow quiet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.fraud.terminals import TerminalHistory
from tests.models.terminal_reckoning import DAY, START, WEEK


def trade(history: TerminalHistory, days: range, terminals: Callable[[int], bytes]) -> None:
    """A thousand transactions a day, all labelled a week later, a tenth of them fraud."""
    for day in days:
        names = [terminals(1000 * day + i) for i in range(1000)]
        times, hashes = START + day * DAY + np.arange(1000) * 1000, np.arange(1000)
        history.append(0, 1000 * day + hashes, names, times, hashes)
        if day >= 7:
            names = [terminals(1000 * day - 7000 + i) for i in range(1000)]
            history.label(names, times - WEEK, hashes, hashes % 10 == 0, times)


def test_memory_stops_growing_where_terminals_come_and_go() -> None:
    history = TerminalHistory()
    trade(history, range(80), lambda i: b"%d" % (i // 3))
    terminals, size = len(history), history.nbytes
    trade(history, range(80, 240), lambda i: b"%d" % (i // 3))
    assert 38_000 / 3 <= min(terminals, len(history)) <= max(terminals, len(history)) <= 1.5 * 38_000 / 3
    assert history.nbytes <= 1.2 * size
    assert (history.waiting, history.expired) == (0, 0)


def test_memory_of_a_terminal_that_grows_quiet_is_given_back() -> None:
    history = TerminalHistory()
    trade(history, range(40), lambda _: b"busy")
    size = history.nbytes
    trade(history, range(40, 150), lambda i: b"busy" if i % 1000 == 0 else b"%d" % (i % 100))
    assert len(history) == 101
    assert len(history.snapshot()[b"busy"]) == 38
    trade(history, range(150, 200), lambda _: b"last")
    assert len(history) == 1
    assert history.nbytes <= 1.5 * size


def test_what_is_held_takes_less_than_twice_the_24_bytes_of_an_entry() -> None:
    history = TerminalHistory()
    for day in range(60):
        trade(history, range(day, day + 1), lambda i: b"%d" % (i % 100))
        if day > 10:
            assert history.nbytes < 48 * sum(map(len, history.snapshot().values())) + 20_000
