"""What an overloaded worker leaves out: what is old and overtaken, counted, and its offsets committed all the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streams.freshness import LatestPerKey, Pace
from streams.records import RecordBatch
from streams.settings import Batch
from tests.streams.inmemory import batch
from tests.streams.runner_bench import OUT, Bench, run, until

NOW_S = 1_767_225_600.0


def _batch(keys: list[bytes | None], ages_s: list[float], start: int = 0, partition: int = 0) -> RecordBatch:
    made = batch([b"x"] * len(keys), keys=keys, start=start, partition=partition)
    made.timestamps_ms = [int((NOW_S - age) * 1000) for age in ages_s]
    return made


def test_what_is_old_and_overtaken_is_shed_and_nothing_else() -> None:
    old = _batch([b"a", b"b", b"a", None], [2.0, 2.0, 1.5, 2.0])
    new = _batch([b"a", b"a", b"c"], [0.1, 0.0, 3.0], start=4)
    first, second = LatestPerKey(0.5).shed([old, new], NOW_S)
    assert (first.offsets, first.shed) == ([1, 3], Counter({b"a": 2}))
    assert second is new


def test_a_record_batch_that_is_shed_whole_still_stands_for_its_offsets() -> None:
    first, second = LatestPerKey(0.5).shed(
        [_batch([b"a"] * 3, [3, 2, 1], start=7), _batch([b"a"], [0], start=10)], NOW_S
    )
    assert (len(first), first.first_offset, first.next_offset, first.shed) == (0, 7, 10, Counter({b"a": 3}))
    joined = RecordBatch.joined([first, second])
    assert (joined.offsets, joined.first_offset, joined.next_offset) == ([10], 7, 11)
    assert joined.shed == Counter({b"a": 3})


def test_a_key_of_another_partition_is_the_same_key() -> None:
    first, _ = LatestPerKey(0.5).shed([_batch([b"a"], [2.0], partition=1), _batch([b"a"], [1.0], partition=2)], NOW_S)
    assert not len(first)


def test_a_camera_whose_clock_is_ahead_shows_its_present_too() -> None:
    hour = 3600.0
    waiting = _batch([b"a", b"b", b"a", b"a", b"a"], [-hour, 0.1, -hour - 0.5, -hour - 1.6, -hour - 2.0])
    kept, *_ = LatestPerKey(0.5).shed([waiting], NOW_S)
    assert (kept.offsets, kept.shed) == ([1, 3, 4], Counter({b"a": 2}))


def test_records_without_a_timestamp_are_kept() -> None:
    odd = _batch([b"a", b"a"], [2.0, 1.0])
    odd.timestamps_ms = [-1, -1]
    assert len(LatestPerKey(0.5).shed([odd], NOW_S)[0]) == 2


def test_what_would_be_old_when_it_is_served_is_shed_with_what_is_old() -> None:
    waiting = [_batch([b"a", b"b", b"a", b"b", b"a", b"b"], [0.3] * 6)]
    assert LatestPerKey(0.5, 2).shed(waiting, NOW_S, 0.1)[0].offsets == [0, 1, 4, 5], "the third micro-batch is late"
    assert LatestPerKey(0.5, 4).shed(waiting, NOW_S, 0.1)[0].offsets == [4, 5], "none is done before 0.7 s"
    assert LatestPerKey(0.5, 16).shed(waiting, NOW_S, 0.03)[0].offsets == [0, 1, 2, 3, 4, 5], "six are done at 0.48 s"


@pytest.mark.parametrize("each_s", [0.02, 0.01, 0.005])
def test_at_three_times_the_load_nothing_is_published_older_than_the_bound(each_s: float) -> None:
    bound_s, keys, interval_s, at_once = 0.25, [b"%d" % number for number in range(8)], each_s / 3, 16
    policy, served, arrived, waiting, now_s = LatestPerKey(bound_s, at_once), Counter[bytes | None](), 0, [], 0.0
    while now_s < 5:
        while arrived * interval_s <= now_s:
            key = keys[arrived % len(keys)]
            waiting.append(_batch([key], [-arrived * interval_s], start=arrived))
            arrived += 1
        left = [each for each in policy.shed(waiting, NOW_S + now_s, each_s) if len(each)]
        taken, waiting = left[:at_once], left[at_once:]
        now_s += each_s * len(taken)
        for each in taken:
            assert now_s - each.offsets[0] * interval_s <= bound_s + 0.002
            served[each.keys[0]] += 1
    assert sum(served.values()) * each_s == pytest.approx(5, rel=0.1), "a worker that is behind is never idle"
    assert min(served[key] for key in keys) > 0.5 * max(served.values())


def test_the_pace_is_that_of_the_latest_records() -> None:
    pace = Pace()
    assert pace.seconds_each == 0
    pace.served(16, 1.6)
    assert pace.seconds_each == pytest.approx(0.1)
    pace.served(16, 4.8)
    assert pace.seconds_each == pytest.approx(0.2)
    for _ in range(40):
        pace.served(16, 0.16)
    assert pace.seconds_each == pytest.approx(0.01, rel=0.01)
    pace.served(1, 1.0)
    assert pace.seconds_each < 0.03, "one that stalls is not the pace"
    pace.served(0, 5.0)
    assert pace.seconds_each < 0.03


def test_the_pace_of_several_at_once_is_as_many_times_as_fast() -> None:
    pace = Pace(instances=4)
    pace.served(16, 1.6)
    assert pace.seconds_each == pytest.approx(0.025)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_waits_every_key_keeps_its_newest_and_order_and_sums_hold(seed: int) -> None:
    dice = random.Random(seed)
    batches, offset = [], 0
    for _ in range(dice.randint(1, 6)):
        count = dice.randint(1, 9)
        keys: list[bytes | None] = [dice.choice([b"a", b"b", b"c", None]) for _ in range(count)]
        batches.append(_batch(keys, [dice.uniform(0, 2) for _ in range(count)], start=offset))
        offset += count
    policy = LatestPerKey(1.0)
    kept = policy.shed(batches, NOW_S)
    again = policy.shed(kept, NOW_S)
    assert [each.offsets for each in again] == [each.offsets for each in kept], "shedding twice sheds more"
    last = {key: at for each in batches for key, at in zip(each.keys, each.offsets, strict=True)}
    left = [at for each in kept for at in each.offsets]
    assert left == sorted(left)
    assert {at for key, at in last.items() if key is not None} <= set(left)
    assert sum(len(each) + each.shed.total() for each in kept) == offset
    young = {
        at
        for each in batches
        for at, time in zip(each.offsets, each.timestamps_ms, strict=True)
        if time >= (NOW_S - 1.0) * 1000
    }
    assert young <= set(left)


def test_a_worker_that_falls_behind_serves_the_newest_of_each_key_commits_everything_and_counts() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=4, max_queue_size=64), freshness=LatestPerKey(0.5))
        async with bench.running():
            bench.pipeline.go.clear()
            await bench.deliver([b"held"], start=0)
            await until(bench.pipeline.inferring.is_set)
            for start in range(1, 31, 3):
                await bench.deliver([b"x"] * 3, start=start)
            bench.pipeline.go.set()
            await until(lambda: bench.mark() == 31)
            assert bench.offsets() == [0, 30]
            assert bench.metric("headrace_records_dropped_total") == 29
            assert bench.metric("headrace_records_in_total") == 31
            assert bench.metric("headrace_records_out_total") == 2 == len(bench.log.of(OUT))

    run(scenario)


def test_the_drops_of_many_keys_are_told_apart_up_to_a_bound() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=4, max_queue_size=4096), freshness=LatestPerKey(0.5))
        keys: list[bytes | None] = [f"k{number}".encode() for number in range(300)]
        async with bench.running():
            bench.pipeline.go.clear()
            await bench.deliver([b"held"], start=0)
            await until(bench.pipeline.inferring.is_set)
            for start in (1, 301):
                message = bench.consumer.deliver(batch([b"x"] * 300, keys=keys, start=start))
                await bench.runner.offer(message, bench.consumer)
            bench.pipeline.go.set()
            await until(lambda: bench.mark() == 601)
        page = bench.telemetry.expose().decode()
        lines = [line for line in page.splitlines() if line.startswith("headrace_records_dropped_total{")]
        assert len(lines) == 100
        assert bench.metric("headrace_records_dropped_total") == 300

    run(scenario)
