"""In which order record batches that wait are taken, by the time of their events."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from dataclasses import dataclass

from streams.stream_time import OVERTAKEN_S, in_stream_time

NOW_S = 1000.0


@dataclass(frozen=True)
class Batch:
    """What is to be known of a record batch that waits."""

    partition: int
    event_time_ms: int | None
    delivered_at: float = NOW_S


def order(*waiting: Batch) -> list[int]:
    return in_stream_time(waiting, NOW_S)


def test_the_oldest_comes_first_across_partitions() -> None:
    assert order(Batch(0, 300), Batch(1, 100), Batch(2, 200), Batch(1, 250)) == [1, 2, 3, 0]


def test_nothing_waits_for_nothing() -> None:
    assert order() == []


def test_equal_times_come_in_order_of_arrival() -> None:
    assert order(*(Batch(partition, 100) for partition in (2, 0, 1))) == [0, 1, 2]


def test_a_partition_keeps_its_order_though_its_times_do_not() -> None:
    assert order(Batch(0, 300), Batch(0, 100), Batch(1, 200)) == [2, 0, 1]


def test_a_batch_without_a_time_stays_behind_its_partitions_last_known() -> None:
    assert order(Batch(0, 300), Batch(0, None), Batch(1, 200), Batch(0, 400), Batch(1, 350)) == [2, 0, 1, 4, 3]


def test_a_batch_without_a_time_that_nothing_is_known_before_comes_first() -> None:
    assert order(Batch(0, 100), Batch(1, None), Batch(1, 50)) == [1, 2, 0]


def test_what_has_waited_long_is_not_overtaken() -> None:
    long_ago = NOW_S - OVERTAKEN_S
    assert order(Batch(0, 900, long_ago), Batch(1, 800, long_ago), Batch(2, 100)) == [0, 1, 2]
    assert order(Batch(0, 900, long_ago + 0.01), Batch(1, 800, long_ago + 0.01), Batch(2, 100)) == [2, 1, 0]


def test_what_follows_in_the_partition_of_one_that_has_waited_long_is_in_the_order_of_its_own_time() -> None:
    assert order(Batch(0, 900, NOW_S - 2 * OVERTAKEN_S), Batch(1, 500), Batch(0, 600), Batch(2, 400)) == [0, 3, 1, 2]


def drawn(seed: int) -> list[Batch]:
    """In order of arrival, over some seconds, of partitions whose times rise more or less."""
    dice = random.Random(seed)
    partitions = dice.randrange(1, 8)
    reached = [dice.randrange(10**6) for _ in range(partitions)]
    at, waiting = NOW_S - dice.random() * 3 * OVERTAKEN_S, []
    for _ in range(dice.randrange(60)):
        partition = dice.randrange(partitions)
        reached[partition] += dice.randrange(-2000, 10_000)
        waiting.append(Batch(partition, dice.choice([reached[partition]] * 4 + [None]), at))
        at = min(NOW_S, at + dice.random() * OVERTAKEN_S / 10)
    return waiting


def test_whatever_waits_each_comes_once_and_in_its_partitions_order() -> None:
    for seed in range(300):
        waiting = drawn(seed)
        places = in_stream_time(waiting, NOW_S)
        assert sorted(places) == list(range(len(waiting))), seed
        for partition in {each.partition for each in waiting}:
            own = [place for place in places if waiting[place].partition == partition]
            assert own == sorted(own), seed


def test_whatever_waits_what_has_waited_long_comes_first_and_in_order_of_arrival() -> None:
    seen = 0
    for seed in range(300):
        waiting = drawn(seed)
        late = [place for place, each in enumerate(waiting) if NOW_S - each.delivered_at >= OVERTAKEN_S]
        assert in_stream_time(waiting, NOW_S)[: len(late)] == late, seed
        seen += 0 < len(late) < len(waiting)
    assert seen > 100


def test_partitions_that_are_in_order_themselves_are_merged_in_order() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        times = sorted(dice.randrange(10**6) for _ in range(40))
        queues: dict[int, deque[Batch]] = defaultdict(deque)
        for time in times:
            partition = dice.randrange(5)
            queues[partition].append(Batch(partition, time))
        turns = [partition for partition, queue in queues.items() for _ in queue]
        dice.shuffle(turns)
        arrived = [queues[partition].popleft() for partition in turns]
        assert [arrived[place].event_time_ms for place in in_stream_time(arrived, NOW_S)] == times, seed
