"""Record batches straight from the broker: aiokafka's fetcher with a shorter way for what is read all the time.

Positions, seeks, pauses, resets and the choice of what to fetch stay aiokafka's own business. What is replaced is the
fetch itself, which names only what has changed (`FetchSession`), and the waiting: of one poll aiokafka makes a dozen
steps of the event loop, and looks twice at every partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, OffsetResetStrategy
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import (
    KafkaError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.blocks import Blocks
from streams.clock import SystemClock, completes, happens
from streams.fetch_sessions import FetchSession
from streams.outages import NO_ANSWER
from streams.records import RecordBatch
from streams.wire import Fetched, FetchedPartition

logger = logging.getLogger(__name__)

LONGEST_HELD_S = 2.0  # whoever asks how far a partition's end is away learns it from fetches
Polled = dict[TopicPartition, list[RecordBatch]]


def fetch_record_batches(consumer: AIOKafkaConsumer, max_records: int, few: int = 0) -> BatchFetcher:
    """Make a started consumer's `getmany` return `{partition: [RecordBatch, ...]}`.

    Args:
        consumer: started; nothing may have been fetched yet (assign or subscribe afterwards, or at once).
        max_records: the longest record batch. `max_poll_records` now counts record batches.
        few: where a poll brings fewer records, the next fetch is held back.

    Returns:
        the consumer's fetcher from now on.
    """
    fetcher = consumer._fetcher
    fetcher._fetch_task.cancel()
    fetcher.__class__ = BatchFetcher
    taken: BatchFetcher = fetcher
    taken.take_over(max_records, few)
    return taken


class BatchFetcher(Fetcher):
    """Fetches for one consumer, and keeps what has come until it is polled; made by `fetch_record_batches`.

    A fetch that is sent as soon as the one before is read comes back with the first record that follows, and the rest
    waits for another. So it can be held back, for at most `LONGEST_HELD_S`, by whoever has enough for now.
    """

    def take_over(self, max_records: int, few: int) -> None:
        """In the place of an `__init__`: aiokafka has made the object."""
        self._max_records, self._few = max_records, few
        self._sessions: defaultdict[int, FetchSession] = defaultdict(FetchSession)  # by node
        self._clock = SystemClock()
        self._turn = asyncio.Event()  # there may be something to do
        self._wait_consume_future = _Signal(self._turn)
        self._resuming: set[asyncio.Future[None]] = set()
        self._held_until = 0.0
        self._fault: BaseException | None = None
        self._fetch_task = asyncio.create_task(self._fetch_requests_routine())

    @property
    def holds(self) -> bool:
        """Whether the next fetch waits to be let go."""
        return self._held_until > 0

    def hold(self) -> None:
        """Send no fetch until `let_go`."""
        self._held_until = self._clock.monotonic() + LONGEST_HELD_S

    def let_go(self) -> None:
        """Fetch on."""
        if self.holds:
            self._held_until = 0.0
            self._turn.set()

    def heard_ms(self, partition: TopicPartition) -> int | None:
        """When a broker's last answer was about a partition, in ms since the epoch: one that names it, or one that says
        by silence that it is as it was, for which aiokafka's `last_poll_timestamp` does not know."""
        place = (partition.topic, partition.partition)
        return max((each.heard_ms for each in self._sessions.values() if place in each.heard), default=None)

    async def close(self) -> None:
        self._closed = True
        self._fetch_task.cancel()
        await asyncio.gather(self._fetch_task, return_exceptions=True)
        self._tell()
        await self._drop()

    async def fetched_records(
        self,
        partitions: Collection[TopicPartition],
        timeout: float = 0,  # noqa: ASYNC109 - aiokafka's
        max_records: int | None = None,
    ) -> Polled:
        """What has been fetched; waits for it, for at most `timeout` seconds.

        Raises:
            KafkaError: a partition cannot be read.
        """
        until = self._clock.monotonic() + timeout
        while True:
            if self._fetch_task.done() and not self._closed:
                self._fetch_task.result()
            if self._subscriptions.reassignment_in_progress:
                await self._subscriptions.wait_for_assignment()
            if polled := self._read(partitions, max_records):
                return polled
            left_s = until - self._clock.monotonic()
            if left_s <= 0 or self._closed:
                return {}
            waiter = self._create_fetch_waiter()
            try:
                await completes(waiter, left_s)
            finally:
                waiter.cancel()
            if not waiter.cancelled():
                waiter.result()

    def _read(self, partitions: Collection[TopicPartition], max_records: int | None) -> Polled:
        """What has been fetched of these partitions, of all where none is named; what is read makes room for more."""
        polled: Polled = {}
        if not self._records:
            return polled
        left = max_records
        for partition in list(self._records):
            if partitions and partition not in partitions:
                if not self._subscriptions.is_assigned(partition):
                    del self._records[partition]
                continue
            result = self._records[partition]
            if type(result) is FetchError and polled:
                break  # the next poll is told
            if type(result) is FetchError:
                del self._records[partition]
                self._turn.set()
                result.check_raise()
            try:
                batches = result.getall(left)
            except KafkaError as error:  # what has been read of others is not lost with it
                self._records[partition] = FetchError(error=error, backoff=self._prefetch_backoff)
                if not polled:
                    return self._read(partitions, max_records)
                break
            if not result.has_more():
                del self._records[partition]
            if batches:
                polled[partition] = batches
                if left is not None and (left := left - len(batches)) == 0:
                    break
        if polled and sum(len(batch) for batches in polled.values() for batch in batches) < self._few:
            self.hold()
        else:
            self._turn.set()
        return polled

    async def _fetch_requests_routine(self) -> None:
        while self._fault is None:
            subscription = self._subscriptions.subscription
            if subscription is None or subscription.assignment is None or not subscription.assignment.active:
                with suppress(KafkaError):  # whoever polls is told of it
                    await self._subscriptions.wait_for_assignment()
                continue
            assignment = subscription.assignment
            assignment.unassign_future.add_done_callback(self._look)
            while assignment.active and self._fault is None:
                self._turn.clear()
                try:
                    wait_s = self._go_on(assignment)
                except Exception as error:  # as in `_do`
                    self._fault = error
                    break
                await happens(self._turn, wait_s)
            await self._drop()
            for session in self._sessions.values():
                session.restart()  # of the next assignment nothing is known: brokers are to name all of it
        logger.error("fetching has failed; nothing more is read", exc_info=self._fault)
        failure = KafkaError(f"fetching has failed: {self._fault!r}")
        self._tell(failure)
        raise failure from self._fault

    async def _drop(self) -> None:
        """Give up what is on its way, and what nobody has read."""
        pending = list(self._pending_tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._records.clear()

    def _go_on(self, assignment: Assignment) -> float:
        """Send what may be sent. Returns after how many seconds to look again if nothing happens."""
        fetches, resets, wait_s, stale, resuming = self._get_actions_per_node(assignment)
        held_s = self._held_until - self._clock.monotonic() if self.holds else 0.0
        if held_s > 0:
            wait_s = min(wait_s, held_s)
        else:
            self._held_until = 0.0
            for node, request in fetches:
                self._start(node, self._fetch(assignment, node, request))
        for node, partitions in resets.items():
            self._start(node, self._reset(assignment, node, partitions))
        if stale:
            self._client.force_metadata_update().add_done_callback(self._look)
        for future in {*resuming} - self._resuming:
            self._resuming.add(future)
            future.add_done_callback(self._resumed)
        return float(wait_s)

    def _start(self, node: int, work: Coroutine[Any, Any, bool]) -> None:
        self._in_flight.add(node)
        task = asyncio.create_task(self._do(node, work))
        self._pending_tasks.add(task)
        task.add_done_callback(self._pending_tasks.discard)

    async def _do(self, node: int, work: Coroutine[Any, Any, bool]) -> None:
        """Args: work: returns whether there may be something to do once it is done."""
        again = True
        try:
            again = await work
        except Exception as error:  # a fault of ours or of aiokafka's; whoever polls is told
            self._fault = error
        finally:
            self._in_flight.discard(node)
        if again:
            self._turn.set()

    def _look(self, _: object) -> None:
        self._turn.set()

    def _resumed(self, future: asyncio.Future[None]) -> None:
        self._resuming.discard(future)
        self._turn.set()

    def _tell(self, error: Exception | None = None) -> None:
        """Whoever polls goes on."""
        for waiter in list(self._fetch_waiters):
            if not waiter.done():
                waiter.set_result(None) if error is None else waiter.set_exception(error)

    async def _reset(self, assignment: Assignment, node: int, partitions: Collection[TopicPartition]) -> bool:
        """Find out where partitions are to be read from."""
        if await self._update_fetch_positions(assignment, node, partitions):
            self._tell()
        if any(not assignment.state_value(partition).has_valid_position for partition in partitions):
            self._client.force_metadata_update()  # it may lead no longer, and is fetched from only once this is done
        return True

    async def _fetch(self, assignment: Assignment, node: int, request: FetchRequest) -> bool:
        """Fetch from a node once. What there is to read is read before anything more is fetched there."""
        session = self._sessions[node]
        try:
            answer: Fetched = await self._client.send(node, session.asking(request))
        except KafkaError as error:
            session.restart()
            if not isinstance(error, NO_ANSWER):  # of those the client tells, once
                logger.warning("fetching from node %s: %r; it is tried again", node, error)
            await asyncio.sleep(self._retry_backoff)
            return True
        except BaseException:
            session.restart()
            raise
        session.answered(answer, int(self._clock.time() * 1000))
        kept = [self._keep(assignment, each, session) for each in answer.partitions] if assignment.active else []
        if any(kept):
            self._tell()
        if any(each.error for each in answer.partitions):
            await asyncio.sleep(self._retry_backoff)  # a broker says no at once, and would again
            return True
        return not any(kept)

    def _keep(self, assignment: Assignment, fetched: FetchedPartition, session: FetchSession) -> bool:
        """Keep what was fetched of a partition until it is read. Returns whether there is anything."""
        partition = TopicPartition(*fetched.place)
        state, (offset, _) = assignment.state_value(partition), session.wanted[fetched.place]
        if not fetched.error:
            state.highwater, state.lso, state.timestamp = fetched.highwater, fetched.stable, session.heard_ms
        if not state.has_valid_position or state.position != offset:
            return False  # it was sought meanwhile
        if fetched.error:
            return self._refused(partition, state, offset, for_code(fetched.error))
        if not fetched.blocks:
            return False
        records = MemoryRecords(fetched.blocks)
        if not records.has_next():
            self._set_error(partition, RecordTooLargeError(
                f"reading {partition.topic}[{partition.partition}] at offset {offset}: the record batch there is "
                f"longer than {self._max_partition_fetch_bytes} bytes"
            ))  # fmt: skip
            state.consumed_to(offset + 1)
            return True
        blocks = Blocks(
            partition, fetched.blocks, records, offset, fetched.aborted, self._isolation_level, self._max_records
        )
        self._records[partition] = FetchResult(
            partition, assignment=assignment, partition_records=blocks, backoff=self._prefetch_backoff
        )
        return True

    def _refused(self, partition: TopicPartition, state: Any, offset: int, error: type[KafkaError]) -> bool:
        """The broker does not let it be read from there. Returns whether whoever polls is to be told."""
        self._records.pop(partition, None)  # of a leader before this one; they come again
        if error is TopicAuthorizationFailedError:
            self._set_error(partition, error(partition.topic))
            return True
        if error is OffsetOutOfRangeError and self._default_reset_strategy == OffsetResetStrategy.NONE:
            self._set_error(partition, error({partition: offset}))
            return True
        if error is OffsetOutOfRangeError:
            logger.warning(
                "reading %s[%d]: offset %d is not in its log any more: retention has deleted it, or the log is shorter "
                "than it was; what is there is read from its %s on",
                *(partition.topic, partition.partition, offset),
                "beginning" if self._default_reset_strategy == OffsetResetStrategy.EARLIEST else "end",
            )
            state.await_reset(self._default_reset_strategy)
        elif error in (NotLeaderForPartitionError, UnknownTopicOrPartitionError):
            self._client.force_metadata_update()
        else:
            logger.warning("reading %s at offset %s: %s; it is tried again", partition, offset, error.__name__)
        return False


class _Signal:
    """What aiokafka takes for a future that it completes when something is read or sought."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self.done = event.is_set

    def set_result(self, _: None) -> None:
        self._event.set()
