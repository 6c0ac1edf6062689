"""Keyed state behind a compacted changelog topic, restored before its partition flows.

A pipeline's state is one `Store` a partition. Every change is written to the changelog under the same partition number,
together with the outputs of the batch that made it, and the input is committed after both. Values carry the input
offsets that they contain, so a store skips what it has applied already: a repeated batch, a stale copy or a record
in another order does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.client import lone_consumer
from streams.clock import Clock, SystemClock
from streams.errors import StateError
from streams.fetching import fetch_record_batches
from streams.settings import Kafka

RESTORE_FETCH_BYTES = 4 << 20
RESTORE_BATCH_RECORDS = 10_000
RESTORE_POLL_MS = 20  # a transaction's marker at the end of the log is no record that a poll would return for
RESTORE_TIMEOUT_S = 45.0
RETRY_S = 0.5
# What compaction deletes, tombstones included, is gone delete.retention.ms later, a day by default: a store that has
# not seen its log for half of that is read whole.
KEPT_S = 12 * 60 * 60.0


class Store(Protocol):
    """The state of one partition. Used by one thread at a time."""

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Apply changelog records; a join: the later input offset wins, whatever the order and repetition."""

    def changes(self) -> tuple[Sequence[bytes], Sequence[bytes | None]]:
        """Changelog records for everything touched since the last call; a value of None is a tombstone."""

    def __len__(self) -> int:
        """Keys held."""

    @property
    def nbytes(self) -> int:
        """Memory held, about; asked once a second from another thread."""


@dataclass(slots=True)
class _Position:
    """How far a store knows its changelog. Own writes count only while they are contiguous with what is known."""

    offset: int = 0
    known_at_s: float = 0.0
    acknowledged: dict[int, int] = field(default_factory=dict)  # first offset -> records, runs that do not touch
    _starts: dict[int, int] = field(default_factory=dict)  # end of a run -> its first offset

    def wrote(self, base_offset: int, count: int) -> None:
        # A zombie's late write lands behind another owner's records, which it has not seen: jumping there loses them.
        if base_offset < self.offset:
            return
        # Neighbours become one run: behind a gap they would pile up.
        following = self.acknowledged.pop(base_offset + count, 0)
        before = self._starts.pop(base_offset, base_offset)
        count = base_offset - before + count + following
        self.acknowledged[before] = count
        self._starts[before + count] = before
        while self.offset in self.acknowledged:
            self.offset += self.acknowledged.pop(self.offset)
            self._starts.pop(self.offset, None)

    def forget(self) -> None:
        """What is acknowledged behind a gap will be read."""
        self.acknowledged.clear()
        self._starts.clear()


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did."""

    partitions: tuple[int, ...]
    records: int
    seconds: float


class KeyedState:
    """The stores of the partitions that this worker has, or had and may get back.

    A revoked partition's store stays with its position in the changelog, so that getting it back reads the tail only;
    `discard` drops one that is ahead of its changelog.
    """

    def __init__(self, topic: str, new_store: Callable[[], Any], clock: Clock | None = None) -> None:
        self.topic = topic
        self._new_store = new_store
        self._clock = clock or SystemClock()
        self._stores: dict[int, Any] = {}
        self._positions: dict[int, _Position] = {}
        self._restoring = asyncio.Lock()  # a cancelled restore may still be merging when the next one begins

    def store(self, partition: int) -> Any:
        """The store of a partition; an empty one where nothing was restored."""
        store = self._stores.get(partition)
        if store is None:
            store = self._stores[partition] = self._new_store()
        return store

    def stores(self) -> dict[int, Any]:
        """Partition -> store, of all that are held."""
        return dict(self._stores)

    def discard(self, partition: int) -> None:
        """Forget a partition: its store has changes that were never written, so it must be read back whole."""
        self._stores.pop(partition, None)
        self._positions.pop(partition, None)

    def wrote(self, partition: int, base_offset: int, count: int, alone: bool = False) -> None:
        """`count` changelog records of ours were acknowledged at `base_offset`.

        Args:
            alone: nobody else can have written since the restore: a gap holds transaction markers only.
        """
        position = self._positions.get(partition)
        if position is None:
            return
        position.known_at_s = self._clock.monotonic()
        if alone:
            position.offset = max(position.offset, base_offset + count)
        else:
            position.wrote(base_offset, count)

    async def restore(
        self, partitions: Sequence[int], kafka: Kafka, timeout_s: float = RESTORE_TIMEOUT_S
    ) -> RestoreReport:
        """Read the changelog of `partitions` to its end, from where it is known. May be cancelled and called again.

        Args:
            timeout_s: how long the broker may answer nothing.

        Raises:
            StateError: the changelog is missing, unreadable, or a record in it is corrupt.
        """
        started = time.monotonic()
        while True:
            consumer = lone_consumer(
                kafka, auto_offset_reset="none", max_partition_fetch_bytes=RESTORE_FETCH_BYTES, fetch_max_wait_ms=100
            )
            try:
                await consumer.start()
                fetch_record_batches(consumer, RESTORE_BATCH_RECORDS)
                async with self._restoring:
                    records = await self._read(consumer, [TopicPartition(self.topic, p) for p in partitions], timeout_s)
                return RestoreReport(tuple(partitions), records, time.monotonic() - started)
            except KafkaError as error:
                away = isinstance(error, KafkaConnectionError)  # it could not even be asked: nothing was read
                if not away or time.monotonic() - started >= timeout_s:
                    raise StateError(
                        f"restoring {self.topic}{list(partitions)}: {error!r}; the worker stops"
                    ) from error
            finally:
                await consumer.stop()
            await asyncio.sleep(RETRY_S)

    async def _read(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], timeout_s: float) -> int:
        if not tps:
            return 0
        consumer.assign(tps)
        begin, end = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        now_s = self._clock.monotonic()
        for tp in tps:
            known = self._positions.get(tp.partition)
            if known is None or not begin[tp] <= known.offset <= end[tp] or now_s - known.known_at_s > KEPT_S:
                # The part that was compacted away meanwhile may hold tombstones that we never saw.
                self.discard(tp.partition)
            self.store(tp.partition)
            position = self._positions.setdefault(tp.partition, _Position(begin[tp], now_s))
            position.forget()
            consumer.seek(tp, position.offset)
        wanted = {tp for tp in tps if self._positions[tp.partition].offset < end[tp]}
        records = 0
        merging: asyncio.Future[None] | None = None
        cancelled = False
        heard_at = time.monotonic()
        try:
            while wanted:
                fetched = await consumer.getmany(*wanted, timeout_ms=RESTORE_POLL_MS)
                heard_at = time.monotonic() if fetched else heard_at
                if time.monotonic() - heard_at > timeout_s:
                    raise StateError(
                        f"restoring {self.topic}{sorted(tp.partition for tp in wanted)}: the broker "
                        f"sent nothing for {timeout_s:g} s; the worker stops"
                    )
                for tp in list(wanted):
                    # The position, not the last record seen: a log may end in a transaction marker.
                    if await consumer.position(tp) >= end[tp]:
                        wanted.discard(tp)
                if merging is not None:
                    await asyncio.shield(merging)  # a cancellation must not lose sight of the thread
                records += sum(len(batch) for batches in fetched.values() for batch in batches)
                merging = asyncio.ensure_future(asyncio.to_thread(self._merge_all, fetched))
        finally:
            while merging is not None and not merging.done():  # nor may a second one
                try:
                    await asyncio.wait({merging})
                except asyncio.CancelledError:
                    cancelled = True
            if cancelled:
                raise asyncio.CancelledError
        if merging is not None:
            merging.result()
        for tp in tps:
            position = self._positions[tp.partition]
            position.offset, position.known_at_s = max(position.offset, end[tp]), now_s
        return records

    def _merge_all(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        for tp, batches in fetched.items():
            for batch in batches:
                self._merge(tp, batch)

    def _merge(self, tp: TopicPartition, batch: Any) -> None:
        try:
            self.store(tp.partition).merge(batch.keys, batch.values)
        except ValueError as error:
            raise StateError(
                f"restoring {tp.topic}[{tp.partition}]@{batch.offsets[0]}..{batch.offsets[-1]}: {error}; "
                "the worker stops"
            ) from error
        self._positions[tp.partition].offset = batch.next_offset
