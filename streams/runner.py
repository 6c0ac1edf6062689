"""The pump of a worker: takes micro-batches, has them computed in a thread, emits in order, acknowledges when written.

Fetching, computing and producing overlap. The event loop never waits for a model, so heartbeats and health checks go
on whatever it does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from streams.batcher import Batcher
from streams.clock import Clock, SystemClock, happens
from streams.compute import ComputeThreads
from streams.emitter import Letters, Sender, Sent
from streams.freshness import Pace
from streams.pipeline import Freshness
from streams.processor import Begun, Processor
from streams.records import RecordBatch
from streams.settings import Settings
from streams.stream_time import in_stream_time
from streams.tables import TableReader
from streams.telemetry import Telemetry
from streams.utilisation import Utilisation

logger = logging.getLogger(__name__)

SETTLE_S = 0.005  # most of what is in flight is written by then, where a lone instance is fast
PATIENT_S = 0.015
BUSY, SATURATED = 0.7, 0.9  # of the time, all instances together
# What several instances have begun is finished on the event loop where it takes no more of a CPU than this: one thread
# more that contends for the cores and the GIL costs more.
MOMENT_S = 0.02
HANDED_OVER_FROM = 64  # records: with fewer and nothing to overlap with, a second thread costs more than it saves


class Acknowledger(Protocol):
    """The part of the consumer that the runner needs."""

    def is_alive(self, message: Any) -> bool:
        """Whether the message's partition is still ours, unsought since its delivery."""

    def ack(self, message: Any) -> bool:
        """Everything that the message became is written."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record batch with the message that it came in."""

    batch: RecordBatch
    message: Any
    delivered_at: float
    event_time_ms: int | None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def partition(self) -> int:
        return self.batch.partition


@dataclass(frozen=True, slots=True)
class _Load:
    """What came of one partition for a micro-batch: computed and written as one record batch."""

    batch: RecordBatch
    messages: Sequence[Any]

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> list[_Load]:
        """A load for each partition. Of a quiet topic of many, a poll brings a few records in each of many batches."""
        by_partition: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            by_partition.setdefault(delivery.batch.partition, []).append(delivery)
        return [
            cls(RecordBatch.joined([each.batch for each in group]), [each.message for each in group])
            for group in by_partition.values()
        ]

    def is_alive(self, consumer: Acknowledger) -> bool:
        """Whether its partition is still ours: a revocation or a seek disowns all that was delivered before."""
        return consumer.is_alive(self.messages[0])


@dataclass(frozen=True, slots=True)
class _Begun:
    """A micro-batch in the works: what goes over the wire for it, or what is to be finished for that."""

    loads: Sequence[_Load]
    started: float
    work: asyncio.Future[list[Letters]] | asyncio.Future[Begun[Any]]


@dataclass(frozen=True, slots=True)
class _Job:
    loads: Sequence[_Load]
    letters: Sequence[Letters]


_Sent = tuple[_Load, Letters, Sent]


class Runner:
    """Drives a processor from deliveries to acknowledgements; implements `transport.Flow`.

    A batch is acknowledged after the emitter has committed everything that it became. A batch whose partition was
    revoked meanwhile is neither produced nor acknowledged. Belongs to one event loop.

    Args:
        processor: the pipeline.
        instances: a thread for each micro-batch that is begun at once.
        compute: an executor of one thread, which finishes in their order those that take more than a moment.

    Attributes:
        wanting: set while an instance is idle, or nothing waits for the next one; else a poll can wait. A lone instance
            always wants: it is done so soon that an idle moment costs more than a poll.
        emitter: is told of drains and revocations; `run` sets it, whoever needs it told before that may, too.
        reader: is told what was written to the log of a table, if there is one.
    """

    def __init__(
        self,
        processor: Processor[Any],
        instances: ComputeThreads,
        compute: Executor,
        settings: Settings,
        telemetry: Telemetry,
        clock: Clock | None = None,
    ) -> None:
        self._processor = processor
        self._instances, self._compute = instances, compute
        self._idle_instances = instances.count
        self._pace, self._finishing_pace = Pace(instances.count), Pace()
        self._instance_idle = asyncio.Event()
        self.wanting = asyncio.Event()
        self.wanting.set()
        self._settings = settings
        self._lz4 = settings.worker.compression == "lz4"
        self._telemetry = telemetry
        self._clock = clock or SystemClock()
        self._utilisation = Utilisation(instances.count, self._clock)
        self._freshness: Freshness | None = getattr(processor.pipeline, "freshness", None)
        shed = None if self._freshness is None else partial(self._shed, self._freshness)
        self._event_time: Callable[[RecordBatch], int | None] | None = getattr(processor.pipeline, "event_time", None)
        order = None if self._event_time is None else self._in_stream_time
        self._batcher: Batcher[Delivery] = Batcher(settings.batch, self._clock, shed, order)
        self._begun: asyncio.Queue[_Begun] = asyncio.Queue()  # as many as there are slots
        self._computed: asyncio.Queue[_Job] = asyncio.Queue(2)
        self._slots = asyncio.Semaphore(settings.worker.in_flight)
        # Each instance begins one while its last one is finished. With more, micro-batches would be cut small before a
        # slow model.
        self._in_works = asyncio.Semaphore(2 * instances.count)
        self._busy: Counter[int] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._failed = False
        self.emitter: Sender | None = None
        self.reader: TableReader | None = None

    async def offer(self, message: Any, consumer: Acknowledger) -> None:
        """Take one delivered message in; waits while the queue is full, which is what pauses the partitions."""
        if not self._draining and consumer.is_alive(message):
            time_ms = None if self._event_time is None else self._event_time(message.value)
            await self._batcher.put(Delivery(message.value, message, self._clock.monotonic(), time_ms))
            self._tell_wanting()
            self._telemetry.delivered(message.value, self._clock.time(), self._batcher.records)

    def _shed(self, freshness: Freshness, waiting: Sequence[Delivery]) -> list[Delivery]:
        batches = freshness.shed([each.batch for each in waiting], self._clock.time(), self._pace.seconds_each)
        return [
            each if batch is each.batch else replace(each, batch=batch)
            for each, batch in zip(waiting, batches, strict=True)
        ]

    def _in_stream_time(self, waiting: Sequence[Delivery]) -> list[int]:
        return in_stream_time(waiting, self._clock.monotonic())

    async def run(self, consumer: Acknowledger, emitter: Sender) -> None:
        """Until cancelled, or until something makes going on wrong.

        Raises:
            ExceptionGroup: of PipelineStopped, ProduceError or what else a stage could not handle.
        """
        self.emitter = emitter
        try:
            async with asyncio.TaskGroup() as tasks:
                beginning = tasks.create_task(self._begin_all(consumer))
                tasks.create_task(self._finish_all(beginning))
                tasks.create_task(self._emit_all(consumer, emitter, tasks))
        finally:
            self._failed = True

    async def _begin_all(self, consumer: Acknowledger) -> None:
        """Take micro-batches, one for each instance that is idle."""
        while True:
            await self._slots.acquire()
            await self._in_works.acquire()
            await self._idle_instance()
            taken = await self._batcher.take(self._idle_instances)
            deliveries = [each for each in taken if not self._draining and consumer.is_alive(each.message)]
            if not deliveries:
                self._slots.release()
                self._in_works.release()
                continue
            loads = _Load.of(deliveries)
            self._begin(loads)
            started = self._clock.monotonic()
            self._telemetry.taken(started, [each.delivered_at for each in deliveries], self._batcher.records)
            self._begun.put_nowait(_Begun(loads, started, self._submit([each.batch for each in loads])))

    def _submit(self, batches: Sequence[RecordBatch]) -> asyncio.Future[list[Letters]] | asyncio.Future[Begun[Any]]:
        """Have a micro-batch begun; by a lone instance, finished too."""
        loop = asyncio.get_running_loop()
        alone = self._instances.count == 1 and not self._in_works.locked()  # one of two permits is its own
        self._set_idle(self._idle_instances - 1)
        if alone and sum(map(len, batches)) < HANDED_OVER_FROM:
            letters = loop.run_in_executor(self._compute, self._begin_and_finish, batches)
            letters.add_done_callback(self._instance_is_idle)
            return letters
        if self._instances.count > 1:
            work = self._instances.call(self._processor.begin, batches)
            work.add_done_callback(self._instance_is_idle)
            return work
        begun = self._instances.submit(self._processor.begin, batches)
        asyncio.wrap_future(begun).add_done_callback(self._instance_is_idle)
        return loop.run_in_executor(self._compute, lambda: self._finish(begun.result()))

    async def _idle_instance(self) -> None:
        while not self._idle_instances:
            self._instance_idle.clear()
            await self._instance_idle.wait()

    def _instance_is_idle(self, begun: asyncio.Future[Any]) -> None:
        if not begun.cancelled():
            begun.exception()  # who finishes it raises it
        self._set_idle(self._idle_instances + 1)
        self._instance_idle.set()

    def _set_idle(self, idle: int) -> None:
        self._idle_instances = idle
        self._utilisation.set_idle(idle)
        self._tell_wanting()

    @property
    def patience_s(self) -> float:
        """How long a poll may wait for what is in flight.

        Several instances share their cores with what feeds them. While they have time left, what comes goes on at
        once; where they are busy nearly all of the time, fewer polls, of more records each, leave them more of the
        cores, and what waits waits less.
        """
        if self._instances.count == 1:
            return SETTLE_S
        busy = (self._utilisation.share - BUSY) / (SATURATED - BUSY)
        return PATIENT_S * min(max(busy, 0.0), 1.0)

    def _tell_wanting(self) -> None:
        if self._instances.count == 1 or self._idle_instances or not self._batcher.records:
            self.wanting.set()
        else:
            self.wanting.clear()

    async def _finish_all(self, beginning: asyncio.Task[None]) -> None:
        """What was begun, in that order."""
        while True:
            begun = await self._begun.get()
            try:
                letters = await self._finished(await begun.work)
            except Exception:
                # What came before is good: it is written and committed, so that it does not come again.
                beginning.cancel()
                self._end(begun.loads)
                while not self._begun.empty():
                    later = self._begun.get_nowait()
                    later.work.cancel()
                    self._end(later.loads)
                await self._wait_idle()
                raise
            self._in_works.release()
            self._pace.served(sum(len(each.batch) for each in begun.loads), self._clock.monotonic() - begun.started)
            await self._computed.put(_Job(begun.loads, letters))

    async def _finished(self, work: list[Letters] | Begun[Any]) -> list[Letters]:
        if isinstance(work, list):
            return work
        if self._processor.steady and 0 < work.processed.records * self._finishing_pace.seconds_each <= MOMENT_S:
            return self._finish(work)
        return await asyncio.get_running_loop().run_in_executor(self._compute, self._finish, work)

    def _begin_and_finish(self, batches: Sequence[RecordBatch]) -> list[Letters]:
        """In the compute thread, with nothing beside it."""
        return self._finish(self._processor.begin(batches))

    def _finish(self, begun: Begun[Any]) -> list[Letters]:
        """From what was begun to what goes over the wire; no two at once."""
        cpu_s = time.thread_time()  # a busy machine makes all take longer, wherever it is done
        processed = self._processor.finish(begun)
        self._telemetry.processed(processed)
        finished_at, timestamp_ms = self._clock.monotonic(), int(self._clock.time() * 1000)
        letters = [Letters(outbox, timestamp_ms, self._lz4) for outbox in processed.outboxes]
        self._telemetry.observe("headrace_stage_seconds", self._clock.monotonic() - finished_at, "pack")
        self._finishing_pace.served(processed.records, time.thread_time() - cpu_s)
        return letters

    async def _emit_all(self, consumer: Acknowledger, emitter: Sender, tasks: asyncio.TaskGroup) -> None:
        while True:
            job = await self._computed.get()
            started = self._clock.monotonic()
            sent: list[_Sent] = []
            for load, letters in zip(job.loads, job.letters, strict=True):
                handed_over = await emitter.send(letters, partial(load.is_alive, consumer))
                if handed_over is None:
                    self._lost(load, consumer)
                else:
                    sent.append((load, letters, handed_over))
            tasks.create_task(self._settle(job, sent, consumer, emitter.alone, started))

    async def _settle(self, job: _Job, sent: list[_Sent], consumer: Acknowledger, alone: bool, started: float) -> None:
        state = self._processor.state
        for load, _, handed_over in sent:
            for topic, offset, count in await handed_over.written() or ():
                if not load.is_alive(consumer):
                    continue
                if state is not None and topic == state.topic:
                    state.wrote(load.batch.partition, offset, count, alone)
                elif self.reader is not None and topic == self.reader.log_topic:
                    self.reader.wrote(load.batch.partition, offset + count)
        self._telemetry.observe("headrace_stage_seconds", self._clock.monotonic() - started, "produce")
        self._slots.release()
        for load, letters, handed_over in sent:
            if await handed_over.committed():
                for message in load.messages:
                    consumer.ack(message)
                self._telemetry.acknowledged(load.batch, letters.outputs, letters.poison, self._clock.time())
            else:
                self._lost(load, consumer)
        self._end(job.loads)

    def _lost(self, load: _Load, consumer: Acknowledger) -> None:
        """Its partition is, or soon will be, somebody else's; state that it changed was never written."""
        self._telemetry.add("headrace_records_discarded_total", len(load.batch))
        if self._processor.state is not None and load.is_alive(consumer):
            self._processor.state.discard(load.batch.partition)

    def _begin(self, loads: Sequence[_Load]) -> None:
        self._busy.update(each.batch.partition for each in loads)
        self._idle.clear()

    def _end(self, loads: Sequence[_Load]) -> None:
        self._busy.subtract(each.batch.partition for each in loads)
        self._busy = +self._busy
        if not self._busy:
            self._idle.set()

    async def _wait_idle(self) -> bool:
        if self.emitter is not None:
            self.emitter.flush()
        return await happens(self._idle, self._settings.worker.drain_timeout_s)

    async def drain(self) -> None:
        """Drop what waits and let what is computed or produced finish, for at most `drain_timeout_s`."""
        self._draining = True
        self._batcher.clear()
        self._tell_wanting()
        if not self._failed and not await self._wait_idle():
            logger.warning(
                "draining partitions %s took longer than worker.drain_timeout_s = %g; their batches in flight are "
                "discarded uncommitted and read again",
                sorted(self._busy),
                self._settings.worker.drain_timeout_s,
            )

    def revoked(self, partitions: frozenset[int]) -> None:
        """After a drain: stores of partitions that are still busy hold changes that will never be written."""
        state = self._processor.state
        for partition in partitions & self._busy.keys():
            if state is not None:
                state.discard(partition)
        if self.emitter is not None:
            self.emitter.revoked(partitions)
        self._draining = False
