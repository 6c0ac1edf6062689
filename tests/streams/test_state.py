"""Keyed state: what a restore reads again, and what it must never skip. The log is a list, not Kafka."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from streams import state as state_module
from streams.clock import ManualClock
from streams.errors import StateError
from streams.settings import Kafka
from streams.state import KeyedState
from tests.counting import ENTRY, CountStore
from tests.streams.inmemory import batch

CHANGELOG = "group.changelog"


class FakeConsumer:
    """Reads `logs`: partition -> records as (key, value); None stands for a transaction marker."""

    logs: dict[int, list[tuple[bytes, bytes | None] | None]]
    begins: dict[int, int]
    per_poll = 2

    def __init__(self, *_: object, **__: object) -> None:
        self._at: dict[Any, int] = {}

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def assign(self, tps: Sequence[Any]) -> None: ...

    async def beginning_offsets(self, tps: Sequence[Any]) -> dict[Any, int]:
        return {tp: self.begins.get(tp.partition, 0) for tp in tps}

    async def end_offsets(self, tps: Sequence[Any]) -> dict[Any, int]:
        return {tp: len(self.logs.get(tp.partition, [])) for tp in tps}

    def seek(self, tp: Any, offset: int) -> None:
        self._at[tp] = offset

    async def position(self, tp: Any) -> int:
        return self._at[tp]

    async def getmany(self, *tps: Any, timeout_ms: int) -> dict[Any, list[Any]]:
        await asyncio.sleep(0)
        found: dict[Any, list[Any]] = {}
        for tp in tps:
            at = self._at[tp]
            stop = min(at + self.per_poll, len(self.logs[tp.partition]))
            rows = [(at + n, row) for n, row in enumerate(self.logs[tp.partition][at:stop]) if row is not None]
            self._at[tp] = stop
            if rows:
                found[tp] = [
                    batch(
                        [row[1] for _, row in rows],
                        keys=[row[0] for _, row in rows],
                        offsets=[offset for offset, _ in rows],
                        partition=tp.partition,
                        topic=tp.topic,
                    )
                ]
        return found


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[bytes, bytes | None] | None]]:
    FakeConsumer.logs, FakeConsumer.begins = {}, {}
    monkeypatch.setattr(state_module, "lone_consumer", FakeConsumer)
    monkeypatch.setattr(state_module, "fetch_record_batches", lambda *_: None)  # record batches are all that it has
    return FakeConsumer.logs


def _entry(key: bytes, count: int, offset: int) -> tuple[bytes, bytes]:
    return key, ENTRY.pack(count, offset)


def _restore(state: KeyedState, *partitions: int) -> int:
    return asyncio.run(asyncio.wait_for(state.restore(partitions, Kafka()), 20)).records


def test_a_restore_reads_everything_and_the_next_one_only_the_tail(logs: Any) -> None:
    logs[0] = [_entry(b"a", 1, 10), _entry(b"b", 2, 11), None, _entry(b"a", 2, 12), None]
    state = KeyedState(CHANGELOG, CountStore)
    assert _restore(state, 0) == 3
    assert state.store(0).counts == {b"a": [2, 12], b"b": [2, 11]}
    assert _restore(state, 0) == 0
    logs[0].append(_entry(b"c", 1, 13))
    assert _restore(state, 0) == 1
    assert state.store(0).counts[b"c"] == [1, 13]


def test_own_acknowledged_writes_are_not_read_again_whatever_the_order_of_acknowledgement(logs: Any) -> None:
    logs[0] = [_entry(b"a", 1, 0)]
    state = KeyedState(CHANGELOG, CountStore)
    assert _restore(state, 0) == 1
    logs[0] += [_entry(b"a", n, n) for n in range(1, 7)]
    state.wrote(0, 4, 3)  # 4, 5, 6
    state.wrote(0, 1, 3)  # 1, 2, 3
    assert _restore(state, 0) == 0


def test_records_of_another_owner_before_own_writes_are_read(logs: Any) -> None:
    logs[0] = [_entry(b"a", 1, 0)]
    state = KeyedState(CHANGELOG, CountStore)
    _restore(state, 0)
    logs[0] += [_entry(b"theirs", 5, 50), _entry(b"a", 2, 1)]
    state.wrote(0, 2, 1)  # a late write of ours lands behind what another owner wrote
    assert _restore(state, 0) == 2
    assert state.store(0).counts[b"theirs"] == [5, 50]


def test_writes_of_ours_behind_a_gap_cost_no_memory(logs: Any) -> None:
    logs[0] = []
    state = KeyedState(CHANGELOG, CountStore)
    _restore(state, 0)
    tracemalloc.start()
    try:
        for number in range(3_000):  # offset 0 belongs to somebody else
            state.wrote(0, 1 + number * 7, 7)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000


def test_a_discarded_partition_is_read_back_whole_and_the_others_are_kept(logs: Any) -> None:
    logs[0], logs[1] = [_entry(b"a", 1, 0)], [_entry(b"b", 1, 0)]
    state = KeyedState(CHANGELOG, CountStore)
    assert _restore(state, 0, 1) == 2
    state.store(0).count(b"never written", 99)
    state.discard(0)
    assert len(state.store(0)) == 0
    state.wrote(0, 1, 1)  # an acknowledgement that comes after the discard
    assert _restore(state, 0, 1) == 1
    assert state.store(0).counts == {b"a": [1, 0]}
    assert state.store(1).counts == {b"b": [1, 0]}
    assert set(state.stores()) == {0, 1}


def test_a_log_that_begins_behind_what_is_known_is_read_whole(logs: Any) -> None:
    logs[0] = [_entry(b"old", 1, 0)]
    state = KeyedState(CHANGELOG, CountStore)
    _restore(state, 0)
    logs[0] += [_entry(b"x", 1, 1), _entry(b"y", 1, 2), _entry(b"z", 1, 3)]
    FakeConsumer.begins[0] = 3
    _restore(state, 0)
    assert state.store(0).counts == {b"z": [1, 3]}


def test_a_log_that_ends_before_what_is_known_is_another_log(logs: Any) -> None:
    logs[0] = [_entry(b"old", n, n) for n in range(5)]
    state = KeyedState(CHANGELOG, CountStore)
    _restore(state, 0)
    logs[0] = [_entry(b"new", 1, 0)]  # the topic was created anew
    _restore(state, 0)
    assert state.store(0).counts == {b"new": [1, 0]}


def test_a_partition_that_was_elsewhere_for_long_is_read_whole(logs: Any) -> None:
    hour_s, clock = 3600.0, ManualClock()
    logs[0] = [_entry(b"kept", 1, 0), _entry(b"gone", 1, 1)]
    state = KeyedState(CHANGELOG, CountStore, clock)
    _restore(state, 0)
    clock.advance(11 * hour_s)
    assert _restore(state, 0) == 0
    clock.advance(11 * hour_s)
    logs[0].append(_entry(b"kept", 2, 2))
    state.wrote(0, 2, 1)
    clock.advance(11 * hour_s)
    assert _restore(state, 0) == 0, "what was written since is known"
    # Elsewhere b"gone" was deleted; compaction has dropped both the record and its tombstone.
    logs[0] = [_entry(b"kept", 1, 0), None, _entry(b"kept", 2, 2), None]
    clock.advance(13 * hour_s)
    assert _restore(state, 0) == 2
    assert state.store(0).counts == {b"kept": [2, 2]}


def test_a_corrupt_record_stops_with_its_place(logs: Any) -> None:
    logs[0] = [_entry(b"a", 1, 0), (b"b", b"rubbish")]
    with pytest.raises(StateError, match=r"group\.changelog.*0.*@0\.\.1.*b'b'"):
        _restore(KeyedState(CHANGELOG, CountStore), 0)


def test_no_partitions_no_reading(logs: Any) -> None:
    assert _restore(KeyedState(CHANGELOG, CountStore)) == 0


class SlowStore(CountStore):
    """Its merges take until they are let go, and note how many run at once."""

    entered, go = threading.Event(), threading.Event()
    running = peak = 0

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        cls = type(self)
        cls.running += 1
        cls.peak = max(cls.peak, cls.running)
        cls.entered.set()
        cls.go.wait(10)
        super().merge(keys, values)
        cls.running -= 1


def test_a_cancelled_restore_leaves_nobody_at_work_on_the_stores_and_the_next_one_completes_it(logs: Any) -> None:
    logs[0] = [_entry(b"a", n, n) for n in range(10)]
    state = KeyedState(CHANGELOG, SlowStore)

    async def scenario() -> None:
        restore = asyncio.create_task(state.restore([0], Kafka()))
        await asyncio.wait_for(asyncio.to_thread(SlowStore.entered.wait, 10), 10)
        await asyncio.sleep(0.02)  # it now waits for that merge
        restore.cancel()
        await asyncio.wait({restore}, timeout=0.1)
        merging_after_its_end = restore.done() and SlowStore.running > 0
        SlowStore.go.set()
        await asyncio.wait({restore}, timeout=10)
        assert restore.cancelled()
        assert not merging_after_its_end, "the restore has ended, and a thread still changes its store"
        await asyncio.wait_for(state.restore([0], Kafka()), 10)

    asyncio.run(scenario())
    assert state.store(0).counts == {b"a": [9, 9]}
    assert SlowStore.peak == 1
