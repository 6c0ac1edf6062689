"""Card history against a plain reckoning over the whole stream."""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fraud.history import WINDOWS_MS, CardHistory, warm_up

DAY = 86_400_000
MONTH = 30 * DAY
START = 1_700_000_000_000
WILD = START + 1000 * 365 * DAY

Snapshot = dict[bytes, list[tuple[int, int, int]]]
Log = list[tuple[bytes, bytes | None]]


class Event(NamedTuple):
    """One transaction; its offset is its place in the stream."""

    card: bytes
    time: int
    amount: float


def reckon(stream: Sequence[Event], lateness: int = DAY) -> tuple[NDArray[np.float64], Snapshot]:
    """Every event's windows and what is held in the end, from all events before each, in whole millionths."""
    largest: list[int] = []
    held: Snapshot = {}
    rows = []
    horizon = -(10**30)
    for offset, (card, time, amount) in enumerate(stream):
        heapq.heappush(largest, time)
        if len(largest) > 16:
            heapq.heappop(largest)
        if len(largest) == 16:
            horizon = largest[0] - MONTH - lateness
        micro = round(amount * 1_000_000)
        entries = held.setdefault(card, [])
        row: list[float] = []
        for window in WINDOWS_MS:
            seen = [m for _, t, m in entries if max(time - window, horizon) < t <= time] + [micro]
            row += [len(seen), sum(seen) / 1e6, sum(seen) / 1e6 / len(seen)]
        rows.append(row)
        if time > horizon:
            entries.append((offset, time, micro))
    kept = {card: [entry for entry in entries if entry[1] > horizon] for card, entries in held.items()}
    return np.array(rows), {card: entries for card, entries in kept.items() if entries}


def update(history: CardHistory, stream: Sequence[Event], offsets: Sequence[int]) -> NDArray[np.float64]:
    """Apply the stream's events at these offsets as one batch."""
    chosen = [stream[offset] for offset in offsets]
    return history.update(
        [event.card for event in chosen],
        np.array([event.time for event in chosen], np.int64),
        np.array([event.amount for event in chosen], np.float64),
        np.array(offsets, np.int64),
    )


def report(history: CardHistory) -> Log:
    return list(zip(*history.changes(), strict=True))


def merge(history: CardHistory, log: Log) -> CardHistory:
    history.merge([key for key, _ in log], [value for _, value in log])
    return history


def make_stream(seed: int) -> list[Event]:
    """Events of a few cards: in order, or late by hours, days or more than a month, with a wild time now and then."""
    rng = random.Random(seed)
    cards = rng.choice([1, 4, 30])
    step = rng.choice([DAY // 50, DAY // 5, DAY])
    late = [0, DAY // 24, 3 * DAY, 40 * DAY][seed % 4]
    wild = rng.choice([0, 0.02])
    return [
        Event(
            b"card\x00%d" % rng.randrange(cards),
            WILD + i if rng.random() < wild else START + i * step - int(rng.random() ** 4 * late),
            round(rng.random() * 200, 2),
        )
        for i in range(rng.choice([150, 600]))
    ]


def cut(total: int, rng: random.Random, start: int = 0) -> list[range]:
    """Batches of any size from `start` on."""
    batches = []
    while start < total:
        end = min(total, start + rng.randrange(1, 70))
        batches.append(range(start, end))
        start = end
    return batches


@pytest.mark.parametrize("seed", range(60))
def test_windows_and_snapshot_equal_the_reckoning_however_batched(seed: int) -> None:
    rng = random.Random(seed)
    stream = make_stream(seed)
    lateness, redelivery = rng.choice([0, DAY, 5 * DAY]), rng.choice([0, 40, 65_536])
    windows, snapshot = reckon(stream, lateness)
    for _ in range(2):
        history = CardHistory(lateness, redelivery)
        got = []
        for batch in cut(len(stream), rng):
            got.append(update(history, stream, batch))
            if rng.random() < 0.7:
                history.changes()
        assert np.array_equal(np.concatenate(got), windows)
        assert history.snapshot() == snapshot


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_at_any_point_of_the_changelog_leaves_no_trace(seed: int) -> None:
    rng = random.Random(seed)
    stream = make_stream(seed)
    windows, snapshot = reckon(stream)
    history, log, reported = CardHistory(), Log(), [(0, 0)]
    for batch in cut(len(stream), rng):
        update(history, stream, batch)
        log += report(history)
        reported.append((batch.stop, len(log)))
    survived = rng.randrange(len(log))
    again = rng.choice([offset for offset, end in reported if end <= survived])

    restored = merge(CardHistory(), log[:survived])
    got = [update(restored, stream, batch) for batch in cut(len(stream), rng, again)]

    assert np.array_equal(np.concatenate(got), windows[again:])
    assert restored.snapshot() == snapshot
    assert merge(CardHistory(), log[:survived] + report(restored)).snapshot() == snapshot


@pytest.mark.parametrize("seed", range(12))
def test_the_log_restores_compacted_shuffled_stale_or_repeated(seed: int) -> None:
    rng = random.Random(seed)
    stream = make_stream(seed)
    history, log = CardHistory(redelivery=50), Log()
    for batch in cut(len(stream), rng):
        update(history, stream, batch)
        log += report(history)
    compacted = list(dict(log).items())
    shuffled = rng.sample(compacted, len(compacted))
    stale = log + [record for record in log if record[1] is not None]
    for records in (log, compacted, shuffled, stale, log + log):
        restored = CardHistory()
        at = 0
        while at < len(records):
            size = rng.randrange(1, 60)
            merge(restored, records[at : at + size])
            at += size
        assert restored.snapshot() == history.snapshot()
        assert report(restored) == []


@pytest.mark.parametrize("seed", range(12))
def test_redelivery_to_a_living_history_gives_the_same_and_is_logged_again(seed: int) -> None:
    rng = random.Random(seed)
    stream = make_stream(seed)
    windows, snapshot = reckon(stream)
    history, offset = CardHistory(), 0
    while offset < len(stream):
        batch = [offset + i for i in range(min(rng.randrange(1, 60), len(stream) - offset))]
        repeats = sorted(rng.sample(range(offset), min(offset, 5)))
        offsets = repeats + batch + batch[len(batch) // 2 :] + batch[-1:]
        assert np.array_equal(update(history, stream, offsets), windows[offsets])
        keys = [key for key, _ in report(history)]
        assert len(keys) == len(set(keys))
        offset = batch[-1] + 1
    assert history.snapshot() == snapshot

    update(history, stream, range(len(stream)))
    assert merge(CardHistory(), report(history)).snapshot() == snapshot


@pytest.mark.parametrize("start", range(700, 720))
def test_redelivery_within_its_bound_finds_what_it_saw_first(start: int) -> None:
    stream = [Event(b"%d" % (i % 3), START + i * DAY // 4, float(i)) for i in range(1100)]
    windows, snapshot = reckon(stream)
    history = CardHistory(redelivery=400)
    for offset in range(1100):
        update(history, stream, [offset])
        history.changes()
    again = range(start, 1100)
    assert np.array_equal(update(history, stream, again), windows[start:])
    assert history.snapshot() == snapshot


def test_merging_into_a_living_history_is_seen_by_the_next_event() -> None:
    stream = [Event(b"a", START + i * DAY // 10, float(i)) for i in range(60)]
    windows, snapshot = reckon(stream)
    early = CardHistory()
    update(early, stream, range(24))
    history = CardHistory()
    update(history, stream, range(24, 50))
    merge(history, report(early))
    assert np.array_equal(update(history, stream, range(50, 60)), windows[50:])
    assert history.snapshot() == snapshot


def test_older_blocks_of_a_card_come_first_even_after_a_rewind() -> None:
    stream = [Event(b"a", START + i, 1.0) for i in range(40)]
    history = CardHistory()
    update(history, stream, range(30))
    history.changes()
    update(history, stream, [*range(30, 40), *range(3, 12)])
    keys = [key for key, _ in report(history)]
    assert keys == sorted(keys)
    assert len(keys) == 4


def test_a_block_that_was_closed_early_is_restored_as_it_is() -> None:
    stream = [Event(b"a", START + i, 1.0) for i in range(12)]
    entry = [struct.pack("<3q", START + i, 1_000_000, i) for i in range(12)]
    log: Log = [
        (b"a\0" + struct.pack(">q", 5), b"".join(entry[5:9])),
        (b"a\0" + struct.pack(">q", 0), b"".join(entry[:5])),
    ]
    history = merge(CardHistory(), log)
    assert update(history, stream, range(9, 12))[:, 0].tolist() == [10, 11, 12]
    assert len(report(history)) == 1
    assert [offset for offset, _, _ in history.snapshot()[b"a"]] == list(range(12))


def churn(history: CardHistory, days: range, wild: int = 0) -> Log:
    """A hundred new cards a day, three events each, reported daily; `wild` of the first day's lie in the far future."""
    log = Log()
    offset = 300 * days.start
    for day in days:
        stream = [
            Event(b"%d-%d" % (day, i % 100), START + day * DAY + i * 1000 + (WILD if day == 0 and i < wild else 0), 1.0)
            for i in range(300)
        ]
        history.update(
            [event.card for event in stream],
            np.array([event.time for event in stream]),
            np.ones(300),
            np.arange(offset, offset + 300),
        )
        offset += 300
        log += report(history)
    return log


def test_memory_stops_growing_where_old_cards_leave() -> None:
    history = CardHistory(redelivery=1000)
    log = churn(history, range(60))
    cards, size = len(history), history.nbytes
    log += churn(history, range(60, 200))
    assert len(history) <= cards + 300 <= 4000
    assert history.nbytes <= 1.1 * size
    gone = {key for key, value in log if value is None}
    assert len(gone) > 150 * 100
    compacted = list(dict(log).items())
    assert merge(CardHistory(), compacted).snapshot() == history.snapshot()
    assert len(merge(CardHistory(), compacted)) == len(history)


def test_old_blocks_of_a_busy_card_leave_also_behind_a_wild_time() -> None:
    history = CardHistory(redelivery=1000)
    sizes = []
    for day in range(150):
        times = START + day * DAY + np.arange(200) * 1000
        if day in (20, 50):
            times[5] = WILD
        history.update([b"busy"] * 200, times, np.ones(200), np.arange(200 * day, 200 * day + 200))
        sizes.append(history.nbytes)
        history.changes()
    assert sizes[-1] == sizes[80] > sizes[5]


def test_windows_forget_what_left_while_only_wild_times_came() -> None:
    stream = [Event(b"a", time, 1.0) for time in (WILD, *range(START, START + 20 * DAY, DAY))]
    stream += [Event(b"b", START + i * DAY // 2, 1.0) for i in range(300)]
    stream += [Event(b"a", WILD + i, 1.0) for i in range(9)]
    stream += [Event(b"a", START + 150 * DAY, 1.0)]
    windows, snapshot = reckon(stream)
    history = CardHistory(redelivery=10)
    got = [update(history, stream, [offset]) for offset in range(len(stream))]
    assert np.array_equal(np.concatenate(got), windows)
    assert history.snapshot() == snapshot


def test_fifteen_wild_times_expire_nothing_and_sixteen_do() -> None:
    history = CardHistory(redelivery=0)
    churn(history, range(20), wild=15)
    assert len(history) == 2000
    assert sum(len(entries) for entries in history.snapshot().values()) == 6000
    history = CardHistory(redelivery=0)
    churn(history, range(20), wild=16)
    assert len(history.snapshot()) == 16


def test_an_event_beyond_the_lateness_sees_only_itself_and_is_not_kept() -> None:
    stream = [Event(b"a", START + i * DAY, 2.0) for i in range(60)]
    stream += [Event(b"a", START, 5.0), Event(b"new", START, 7.0), Event(b"a", START + 59 * DAY, 2.0)]
    history = CardHistory()
    windows = update(history, stream, range(len(stream)))
    assert windows[60].tolist() == [1, 5, 5] * 3
    assert windows[61].tolist() == [1, 7, 7] * 3
    assert windows[62].tolist() == [2, 4, 2, 8, 16, 2, 31, 62, 2]
    assert b"new" not in history.snapshot()


def test_sums_are_exact_in_any_order() -> None:
    amounts = [0.1] * 1000 + [1e9, 0.000001, -1e9]
    history = CardHistory()
    n = len(amounts)
    windows = history.update([b"a"] * n, np.full(n, START), np.array(amounts), np.arange(n))
    assert windows[-1, :2].tolist() == [1003, 100.000001]


def test_nothing_in_nothing_out() -> None:
    warm_up()
    history = CardHistory()
    assert update(history, [], []).shape == (0, 9)
    assert report(history) == []
    history.merge([], [])
    history.merge([b"unknown\0" + struct.pack(">q", 3)], [None])
    assert (len(history), history.snapshot()) == (0, {})
    assert (history.nbytes > 0, CardHistory().nbytes < 10_000) == (True, True)
