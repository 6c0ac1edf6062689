"""Tables: state that every worker of a pipeline holds whole, read from topics beside its own partitions.

A table looks back: what it answers for an event at time t depends on what happened until some days before t, wherever
in the cluster. Three things feed it:

- What the worker itself decodes goes in at once.
- What the pipeline's other workers have decoded comes out of the table's log, which they all write: a few bytes an
  event, in the same transaction as their outputs.
- An event that is far ahead of some partition, in a replay or after an outage, waits until the reader has read that
  partition's own records. So a table waits for the log of events only, never for a worker, and no two workers can wait
  for each other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.clock import Clock, SystemClock
from streams.errors import StateError
from streams.following import Follower
from streams.records import RecordBatch
from streams.settings import Kafka
from streams.state import RESTORE_POLL_MS

logger = logging.getLogger(__name__)

POLL_MS = 100
LONG_POLL_MS = 500  # an idle worker asks so seldom for labels; one that comes is there at once
LIVE_S = 60.0  # an event younger than this does not wait for what may have come since the last look
AHEAD_MS = 24 * 60 * 60 * 1000  # how far beyond what was asked for a table reads
FRESH_S = 5.0  # a record of a followed topic comes at once; that none has come may be heard so much later
GROWTH_S = 1.0  # between two looks at the number of partitions
LOOK_MS = 5  # who waits for a partition that has nothing waits so long


class Table(Protocol):
    """What a `TableReader` fills and a pipeline asks; called from two threads."""

    reached: Callable[[int], bool]
    """Set by the worker: `TableReader.reached`, for the table to call before it answers."""

    @property
    def copartitioned(self) -> bool:
        """Whether the topics that it follows must have as many partitions as the pipeline's input."""

    @property
    def nbytes(self) -> int:
        """Memory held."""

    def topics(self) -> Mapping[str, int]:
        """Topics to follow, all partitions -> how many ms before an event the table looks at them."""

    def append(self, partition: int, columns: Any) -> Sequence[bytes]:
        """Take what the pipeline has decoded of a partition of its input; returns what the log is to hold of it.

        In the order of the offsets; a repeat does nothing. Without a log, nothing is returned.
        """

    def restore(self, batch: RecordBatch) -> None:
        """Apply records of the log; a repeat does nothing. ValueError: one is none of ours."""

    def apply(self, batch: RecordBatch) -> int:
        """Apply records of a followed topic; a repeat does nothing. Returns how many were left out as none of ours."""

    def watermark(self, topic: str, partition: int) -> int | None:
        """The largest event time in ms known of a partition; None where nothing is."""

    def next_offset(self, topic: str, partition: int) -> int | None:
        """The first offset that is not known of a partition; None where nothing is."""


class TableReader:
    """Fills a table. Belongs to one event loop; `reached` is for the compute thread.

    Args:
        log_topic: where the pipeline keeps what it has decoded of its input; None for a table without a log.
        input_topic: of the pipeline; read only where somebody waits for it, if there is a log.
        partitions: topic -> number of partitions, of the log and of all followed topics.
        timeout_s: how long the broker may answer nothing.
    """

    def __init__(
        self,
        table: Table,
        log_topic: str | None,
        input_topic: str,
        partitions: Mapping[str, int],
        kafka: Kafka,
        timeout_s: float,
        clock: Clock | None = None,
    ) -> None:
        self.log_topic = log_topic
        self._table, self._timeout_s = table, timeout_s
        self._clock = clock or SystemClock()
        self._executor = ThreadPoolExecutor(1, "table")
        self._back_ms = dict(table.topics())
        sources = [TopicPartition(topic, number) for topic in self._back_ms for number in range(partitions[topic])]
        logged = log_topic is not None
        self._inputs = [tp for tp in sources if logged and tp.topic == input_topic]
        self._followed = [tp for tp in sources if tp not in self._inputs]
        self._sources = (*self._inputs, *self._followed)
        self._log_of = {tp: TopicPartition(str(log_topic), tp.partition) for tp in self._inputs}
        self._logs = {log: tp for tp, log in self._log_of.items()}
        self._follower = Follower(kafka, self._followed, LONG_POLL_MS, self._clock)
        self._log_reader = Follower(kafka, list(self._logs), POLL_MS, self._clock)
        self._looker = Follower(kafka, self._inputs, LOOK_MS, self._clock)
        self._own: frozenset[int] = frozenset()
        self._wrote: dict[TopicPartition, int] = {}  # the end of our own last write to a log
        self._targets: dict[TopicPartition, int] = {}  # of a restore that waits
        self._restored = asyncio.Event()
        self._records = 0
        self._applying: set[Follower] = set()  # whose position is ahead of the table
        self._readers: list[Follower] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._behind = asyncio.Event()  # somebody's question needs an input partition to be read
        self._progress = threading.Condition()
        # Below: guarded by the condition.
        self._asked_ms: int | None = None  # the latest time ever asked for
        self._question: tuple[int, float] | None = None  # the last one, and when
        self._ends: dict[TopicPartition, float] = {}  # -> when it was last known to hold nothing more
        self._applied = 0

    async def start(self) -> None:
        """Connect, and begin to follow.

        Raises:
            KafkaError: nobody answers.
        """
        for reader in (self._follower, *([self._log_reader, self._looker] if self._inputs else [])):
            self._readers.append(reader)
            await reader.start()
        with self._progress:  # of an empty topic nothing would be heard before a long poll is over
            self._ends.update(await self._follower.empty(self._followed))
        work = [self._follow(self._follower, self._wanted, self._table.apply), self._look_for_growth()]
        if self._inputs:
            work += [self._follow(self._log_reader, self._wanted_logs, self._restore), self._look_up()]
        self._tasks = [asyncio.create_task(self._guard(each)) for each in work]

    async def stop(self) -> None:
        """Close what is open."""
        for task in self._tasks:
            task.cancel()
        for reader in self._readers:
            await reader.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def watch(self) -> None:
        """Wait until the table cannot go on.

        Raises:
            StateError: with the reason.
        """
        await self._failure

    async def assigned(self, partitions: Iterable[int]) -> int:
        """Before partitions flow: read the log to its end, so that their last owners' events are all there.

        Returns:
            How many records were read.

        Raises:
            StateError: the log cannot be read, or a record is corrupt.
        """
        self._own = frozenset(partitions)
        return await self._read_to_end([log for log in self._logs if log.partition in self._own])

    async def fill(self) -> int:
        """Before the group is joined: read all logs, so that little is left to be read while partitions wait.

        Returns, raises:
            as `assigned`.
        """
        return await self._read_to_end(list(self._logs))

    async def _read_to_end(self, logs: Sequence[TopicPartition]) -> int:
        before = self._records
        if logs:
            try:
                ends = await self._log_reader.end_offsets(logs)
            except KafkaError as error:
                raise StateError(f"reading the table {self.log_topic}: {error!r}; the worker stops") from error
            await self._skip_own(ends)
            if await self._log_reader.is_past(ends) and self._log_reader not in self._applying:
                return 0
            self._restored.clear()
            self._targets = dict(ends)
            waiting = asyncio.create_task(self._restored.wait())
            either: set[asyncio.Future[Any]] = {waiting, self._failure}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                self._targets = {}
        if self._failure.done():
            self._failure.result()
        return self._records - before

    def wrote(self, partition: int, next_offset: int) -> None:
        """Our own records of the log were acknowledged up to here: they need not be read."""
        self._wrote[TopicPartition(str(self.log_topic), partition)] = next_offset

    def reached(self, time_ms: int) -> bool:
        """Wait, in the thread of whoever asks, until the table can answer for an event at `time_ms`.

        Returns:
            False: nothing came for `timeout_s`; the answer may lack something.
        """
        with self._progress:
            heard_at = asked_at = self._clock.monotonic()
            self._asked_ms = time_ms if self._asked_ms is None else max(self._asked_ms, time_ms)
            self._question = time_ms, asked_at
            live = time_ms > (self._clock.time() - LIVE_S) * 1000
            if live and self._lacking(time_ms, asked_at - LIVE_S):
                self._call_reader()  # a worker may be away, or a partition quiet: look at it, but wait for nothing
            while self._lacking(time_ms, -math.inf if live else asked_at):
                self._call_reader()
                applied = self._applied
                self._progress.wait(self._timeout_s)
                heard_at = self._clock.monotonic() if self._applied != applied else heard_at
                if self._clock.monotonic() - heard_at >= self._timeout_s:
                    return False
        return True

    def _call_reader(self) -> None:
        self._loop.call_soon_threadsafe(self._behind.set)

    def _lacking(self, time_ms: int, since: float) -> list[TopicPartition]:
        """Partitions that may hold more of what an event at `time_ms` must know, as of `since`, on this clock."""
        lacking = []
        for tp in self._sources:
            known = self._table.watermark(*tp)
            if known is None or known < time_ms - self._back_ms[tp.topic]:
                fresh = 0 if tp in self._log_of else FRESH_S
                if self._ends.get(tp, -math.inf) <= since - fresh:
                    lacking.append(tp)
        return lacking

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            if not isinstance(error, StateError):
                error = StateError(
                    f"reading the table's topics {', '.join(self._back_ms)}: {error!r}; the worker stops"
                )
            if not self._failure.done():
                self._failure.set_exception(error)
                self._failure.exception()  # whoever does not watch hears of it at the next restore

    async def _follow(
        self, reader: Follower, wants: Callable[[], list[TopicPartition]], apply: Callable[[RecordBatch], object]
    ) -> None:
        heard_at = self._clock.monotonic()
        while True:
            targets = self._targets if reader is self._log_reader else {}
            wanted = wants()
            if not wanted:
                reader.rest()
                await asyncio.sleep(POLL_MS / 1000)
                heard_at = self._clock.monotonic()  # who asked nothing cannot have waited for an answer
                continue
            await self._skip_own(wanted)
            batches = await reader.poll(wanted, RESTORE_POLL_MS if targets else POLL_MS)
            self._applying.add(reader)
            await self._apply(batches, apply)
            self._applying.remove(reader)
            await self._note_ends(reader, wanted)
            heard_at = self._clock.monotonic() if batches or not targets else heard_at
            if targets and await reader.is_past(targets) and targets is self._targets:
                self._restored.set()
            elif self._clock.monotonic() - heard_at > self._timeout_s:
                raise StateError(
                    f"reading the table {self.log_topic}: the broker sent nothing for {self._timeout_s:g} s; "
                    "the worker stops"
                )

    async def _look_for_growth(self) -> None:
        """Partitions that are added would be read by nobody: which there are is settled at the start.

        The input's own are told by whoever they are assigned to.
        """
        while True:
            await asyncio.sleep(GROWTH_S)
            if grown := sorted(self._follower.grown()):
                raise StateError(
                    f"reading the table's topics: {', '.join(grown)} has more partitions than at the start; the worker "
                    "stops, and reads all of them when it is started again"
                )

    def _wanted(self) -> list[TopicPartition]:
        """Followed partitions to read on: not those that are far enough ahead of all questions."""
        return [tp for tp in self._followed if not self._is_ahead(tp)]

    def _wanted_logs(self) -> list[TopicPartition]:
        """Logs likewise; and not those that we write ourselves, unless they are being restored."""
        foreign = [log for log, tp in self._logs.items() if log.partition not in self._own and not self._is_ahead(tp)]
        return [*self._targets, *foreign]

    def _is_ahead(self, source: TopicPartition) -> bool:
        with self._progress:
            asked_ms = self._asked_ms
        return asked_ms is None or (self._table.watermark(*source) or 0) > asked_ms + AHEAD_MS

    async def _skip_own(self, wanted: Iterable[TopicPartition]) -> None:
        for tp in self._wrote.keys() & set(wanted):
            await self._log_reader.skip_to(tp, self._wrote.pop(tp))

    async def _look_up(self) -> None:
        """Read input partitions themselves, while somebody waits for what they hold."""
        while True:
            await self._behind.wait()
            self._behind.clear()
            while wanted := self._lagging():
                for tp in set(wanted) - self._looker.reading:
                    await self._looker.skip_to(tp, self._table.next_offset(*tp) or 0)
                await self._apply(await self._looker.poll(wanted, LOOK_MS), self._table.apply)
                await self._note_ends(self._looker, wanted)
            self._looker.rest()

    def _lagging(self) -> list[TopicPartition]:
        """Input partitions that the last question needs; some way beyond it where they are being read anyway."""
        with self._progress:
            if self._question is None:
                return []
            time_ms, asked_at = self._question
            lacking = set(self._lacking(time_ms, asked_at))
            lacking |= self._looker.reading & set(self._lacking(time_ms + AHEAD_MS, asked_at))
            return [tp for tp in self._inputs if tp in lacking and self._log_is_read(tp, asked_at)]

    def _log_is_read(self, tp: TopicPartition, asked_at: float) -> bool:
        """The log of others is read first: it costs a tenth."""
        return tp.partition in self._own or self._ends.get(self._log_of[tp], -math.inf) >= asked_at - FRESH_S

    async def _note_ends(self, reader: Follower, partitions: Iterable[TopicPartition]) -> None:
        ended = await reader.ended(partitions)
        with self._progress:
            self._ends.update(ended)
            self._progress.notify_all()

    def _restore(self, batch: RecordBatch) -> None:
        try:
            self._table.restore(batch)
        except ValueError as error:
            raise StateError(
                f"reading the table {batch.topic}[{batch.partition}]@{batch.offsets[0]}..{batch.offsets[-1]}: {error}; "
                "the worker stops"
            ) from error

    async def _apply(self, batches: Iterable[RecordBatch], apply: Callable[[RecordBatch], object]) -> None:
        for batch in batches:
            await self._loop.run_in_executor(self._executor, apply, batch)
            self._records += len(batch)
            with self._progress:
                self._applied += 1
                self._progress.notify_all()
