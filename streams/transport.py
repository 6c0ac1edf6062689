"""Faust's Kafka transport, made to hand record batches to agents and to commit a contiguous low-water mark.

Everything hangs on Faust's own extension points: the consumer's scheduler decides what one message is, the consumer
decides what an acknowledgement and a committable offset are, its "thread" builds the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, Protocol, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from streams.client import steady_consumer, steady_producer
from streams.clock import happens
from streams.fetching import BatchFetcher, fetch_record_batches
from streams.membership import Membership
from streams.offsets import Flight, LowWaterMarks
from streams.records import RecordBatch
from streams.settings import Settings
from streams.watchdog import PartitionView

# A poll takes about so many records: some wait for their turn in memory, and whole record batches of a backlog are
# thousands of times as long as those of a quiet topic.
POLL_RECORDS = 32_768
FEWEST_BATCHES, MOST_BATCHES = 4, 1024
POLL_S = 1.0
FETCH_MAX_WAIT_MS = 250
METADATA_MAX_AGE_MS = 5_000
PREFETCH_BACKOFF_S = 2.0
FEW_RECORDS = 1024  # a poll of fewer has cost more than they have
FED_S = 0.05
HEARTBEATS_PER_SESSION = 8  # members hear of a rebalance at their heartbeat: for a third each would idle 2.7 s
MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000


class Flow(Protocol):
    """What the transport tells the worker about its partitions.

    Attributes:
        wanting: set while there is use for more records than wait already.
        patience_s: how long the next poll may wait for what is in flight.
    """

    wanting: asyncio.Event

    @property
    def patience_s(self) -> float: ...

    async def drain(self) -> None:
        """Drop what waits, let what is being computed finish, within a bound."""

    def revoked(self, partitions: frozenset[int]) -> None:
        """These partitions are somebody else's now: results still on their way must not be produced any more."""


class Received:
    """A record batch as it was delivered: what is acknowledged as one."""

    __slots__ = ("flight", "tp", "value")

    flight: Flight

    def __init__(self, tp: TP, value: RecordBatch) -> None:
        self.tp = tp
        self.value = value


class Consumer(driver.Consumer):
    """Faust's consumer with its own account of what is done.

    Faust takes offsets inside a record batch for gaps, and its committable offset can pass a message that is still
    in flight (its issue 606), so every method that keeps that account is replaced.
    """

    callback: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marks = LowWaterMarks()
        self.settled = asyncio.Event()  # nothing is in flight
        self.settled.set()
        self.membership = Membership(self.app.conf.id, self.transport.settings.worker)
        self._draining = False

    @property
    def _flow(self) -> Flow:
        flow: Flow = self.transport.flow
        return flow

    async def _drain_messages(self, fetcher: Any) -> None:
        """Poll and deliver, until the fetcher is stopped. A whole poll is one message.

        Faust's own makes a message of each record, which costs it as much as a hundred small events cost the pipeline,
        and five tasks of each poll, to look whether it should stop while the agent's queue is full: here a drain
        empties that. It also drops a message that begins below the last offset delivered; after a topic was made anew,
        or an unclean leader election, that is every message. Flights and their resets do that job.
        """
        try:
            while not (self.should_stop or fetcher.should_stop):
                if poll := await self._poll():
                    await self._deliver(poll)
                await asyncio.sleep(0)  # behind a backlog neither may ever have waited
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _poll(self) -> list[Received]:
        """The record batches that have come, in turn over the partitions."""
        records, _ = await self._wait_next_records(POLL_S)
        if not records or self.should_stop:
            return []
        if not self.flow_active:  # a rebalance: what has come is read again, by whoever the partition is assigned to
            try:
                await self.perform_seek()
            except Exception as error:
                self.log.warning("seeking back to what is committed: %r", error)
            return []
        queues = [[Received(tp, batch) for batch in batches] for tp, batches in records.items()]
        return [each for turn in zip_longest(*queues) for each in turn if each is not None]

    async def _deliver(self, poll: list[Received]) -> None:
        for received in poll:
            received.flight = self.marks.begin(received.tp, received.value.next_offset)
        self.settled.clear()
        await self.callback(self._message(poll))

    def _message(self, poll: list[Received]) -> ConsumerMessage:
        tp = poll[0].tp
        last = next(received.value for received in reversed(poll) if received.tp == tp)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offsets[-1],
            last.timestamps_ms[-1] / 1000,
            0,
            (),
            None,
            poll,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def is_alive(self, received: Received) -> bool:
        """False once the batch's partition was revoked, or sought back, after its delivery."""
        return self.marks.is_alive(received.tp, received.flight)

    def ack(self, received: Received) -> bool:
        """Everything that the batch became is written. Faust itself acknowledges nothing: its streams are `noack`."""
        self.marks.finish(received.tp, received.flight)
        if self.marks.settled():
            self.settled.set()
        return True

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full buffer makes the fetch loop wait, for as long as it is full.

        Faust would stop fetching the partition instead, and once all are stopped, sleep for a whole second.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, as above."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: the low-water mark knows no gaps."""

    def _new_offset(self, tp: TP) -> int | None:
        return self.marks.committable(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Faust's own never commits below what is committed; a position that was out of range may begin again there."""
        return bool(offset != self._committed_offset[tp])

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:
        return [
            tp
            for tp in cast(Iterable[TP], self.marks.partitions())
            if topics is None or tp in topics or tp.topic in topics
        ]

    def views(self) -> dict[int, PartitionView]:
        """Every assigned partition, as the watchdog looks at it."""
        assignment = self._thread._ensure_consumer()._subscription.subscription.assignment
        views: dict[int, PartitionView] = {}
        for tp in () if assignment is None else assignment.tps:
            state = assignment.state_value(tp)
            position = state.position if state is not None and state.has_valid_position else None
            in_flight = self.marks.in_flight(tp)
            # With nothing in flight all is done that was read over: transaction markers, too, which no record follows.
            done = self.marks.committable(tp) if in_flight else position
            if done is None:
                done = self._committed_offset.get(tp)
            views[tp.partition] = PartitionView(done, state.lso if state is not None else None, in_flight)
        return views

    def has_coordinator(self) -> bool:
        """Whether the client knows a living group coordinator; a heartbeat that fails makes it forget."""
        consumer = self._thread._consumer
        return consumer is not None and getattr(consumer._coordinator, "coordinator_id", None) is not None

    async def perform_seek(self) -> None:
        """Back to the committed offsets, or to the beginning where nothing is committed."""
        if self._draining:
            # Faust seeks back when it drops what it fetched meanwhile. The restore that follows seeks anyway; here
            # it would disown the batches that are being drained.
            return
        try:
            committed = await self.seek_to_committed()
            # What was assigned meanwhile is sought by that assignment.
            asked = [tp for tp in self.assignment() if tp in committed]
            self._committed_offset.update({tp: committed[tp] or None for tp in asked})
            # aiokafka seeks only where something is committed. Elsewhere a poll may have run ahead during the
            # rebalance, and what it took would never be read.
            unset = [TopicPartition(*tp) for tp in asked if not committed[tp]]
            if unset:
                await self._thread.seek_to_beginning(*unset)
        except (IllegalStateError, AssertionError):
            raise  # another rebalance has begun; the next assignment seeks
        except Exception as error:
            await self.crash(error)  # going on from wherever the poll stands would lose records
            raise
        self.marks.reset()  # everything is delivered again from there

    async def wait_empty(self) -> None:
        """Bounded, unlike Faust's: a batch that never finishes must not hold a rebalance for ever."""
        await self._flow.drain()
        self._unacked_messages.clear()
        await self.maybe_wait_for_commit_to_finish()  # or commit would leave it at what that one had seen
        await self.commit_and_end_transactions()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._draining = True
        try:
            await super().on_partitions_revoked(revoked)  # stops the flow, drains, commits
        finally:
            self._draining = False
        self.marks.reset(revoked)
        self._flow.revoked(frozenset(tp.partition for tp in revoked))

    def _new_consumer_thread(self) -> GroupClient:
        return GroupClient(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)


class GroupClient(driver.AIOKafkaConsumerThread):
    """The group's client, on the worker's own event loop.

    Faust gives it a thread, so that heartbeats survive an agent that computes. Here nothing computes on the loop, and
    each poll would cost hops between threads that wait for each other's GIL.
    """

    _batches = 64  # of the next poll
    _serving: asyncio.Task[None]
    _fetcher: BatchFetcher

    async def start(self) -> None:
        self._thread_started.set()
        self._thread_running = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self._serve())
        self._serving.add_done_callback(lambda done: done.cancelled() or done.exception())  # `crash` has told of it
        await self._thread_running

    async def _gather_remaining_tasks(self) -> None:
        """Nothing: the loop's other tasks are not this service's to cancel."""

    async def on_start(self) -> None:
        await super().on_start()
        # All partitions of a backlog are read on together: whose records wait for their turn is not left behind.
        self._ensure_consumer()._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S
        self._fetcher = fetch_record_batches(
            self._ensure_consumer(), self.transport.settings.batch.max_batch_size, FEW_RECORDS
        )

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's
        # Not through Faust's queue for calls into the thread: three hops that a poll can do without.
        return await self._fetch_records(self._ensure_consumer(), active_partitions, timeout, self._batches)

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        # Fetching as soon as a record is there would make a fetch, a poll, a micro-batch and a write of each. While
        # what the last poll brought is on its way, and while more waits than the pipeline can begin, more come; but
        # what takes long must not hold up the next.
        if self._fetcher.holds:
            flow = self.transport.flow
            await happens(self.consumer.settled, flow.patience_s)
            await happens(flow.wanting, FED_S)
            self._fetcher.let_go()
        polled = await super()._fetch_records(*args, **kwargs)
        if sizes := [len(batch) for batches in polled.values() for batch in batches]:
            self._batches = min(max(FEWEST_BATCHES, POLL_RECORDS * len(sizes) // sum(sizes)), MOST_BATCHES)
        return polled

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self.transport.settings.worker.processing_guarantee == "exactly_once":
            return True  # they were part of the transactions
        # A topic that was deleted: aiokafka would try again until the commit lands on a new topic of that name, whose
        # records below it would never be read.
        there = self._ensure_consumer()._client.cluster.partitions_for_topic
        known = {tp: offset for tp, offset in offsets.items() if there(tp.topic)}
        return bool(known) and bool(await super()._commit(known))

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        worker, conf = transport.settings.worker, self.app.conf
        consumer = AIOKafkaConsumer(
            **transport.settings.kafka.client_options(),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            # A worker that restarts under the same slot gets its partitions back without a rebalance.
            group_instance_id=None if worker.slot is None else f"{conf.id}-{worker.slot}",
            # Sticky: a rebalance moves as few partitions, and so as little state, as it can.
            partition_assignment_strategy=[StickyPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=worker.fetch_max_bytes,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            # A topic that was away, or has more partitions than before, is noticed no sooner than by looking.
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            session_timeout_ms=int(worker.session_timeout_s * 1000),
            heartbeat_interval_ms=int(worker.session_timeout_s * 1000 / HEARTBEATS_PER_SESSION),
            # Others wait this long for a member that drains: above the drain, below anybody's patience.
            rebalance_timeout_ms=int((worker.drain_timeout_s + worker.session_timeout_s) * 1000),
            # The fetch loop waits while the queue is full: that must not cost the membership. A stalled partition is
            # the watchdog's business.
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            isolation_level="read_committed",
        )
        return steady_consumer(consumer, self.consumer.membership)


class Producer(driver.Producer):
    """Faust's producer around an idempotent client: a retry neither repeats nor reorders a write."""

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        return steady_producer(super()._new_producer(transactional_id))

    async def flush(self) -> None:
        """Nothing: the low-water mark moves only after acknowledgements.

        Faust flushes before each commit and in each revocation, which would wait for the very writes that a drain
        has given up.
        """

    def _settings_default(self) -> Mapping[str, Any]:
        settings: Settings = self.transport.settings
        return {
            **settings.kafka.client_options(),
            # Also how long a batch may wait for its turn: a broker that is away for less costs nothing.
            "request_timeout_ms": int(settings.worker.broker_timeout_s * 1000),
            "client_id": self.client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
        }

    def _settings_auth(self) -> Mapping[str, Any]:
        return {}

    def _settings_extra(self) -> Mapping[str, Any]:
        return {}


class Transport(driver.Transport):
    """Ties the classes above together; carries the settings and the worker's flow to them."""

    Consumer = Consumer
    Producer = Producer
    settings: Settings
    flow: Flow
