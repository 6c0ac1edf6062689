"""One partition's transactions: its producer, what is on its way, and the task that commits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.sender import Sender, TxnOffsetCommitHandler

from streams.client import SteadyClient, steady_producer
from streams.clock import Clock, happens
from streams.emitter import Acknowledgement, Letters, Write, hand_over, settle
from streams.errors import ProduceError
from streams.settings import Worker
from streams.telemetry import Telemetry

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 1.0
SMOOTHING = 0.1


class _OffsetCommit(TxnOffsetCommitHandler):
    """Fails where the input topic is gone: aiokafka would try until the offset lands on a new topic of that name."""

    def handle_response(self, response: Any) -> float | None:
        for topic, partitions in response.errors:
            if any(code == UnknownTopicOrPartitionError.errno for _, code in partitions):
                gone = UnknownTopicOrPartitionError(f"the input topic {topic!r} is gone")
                self._sender._txn_manager.error_transaction(gone)
                return None
        backoff_s: float | None = super().handle_response(response)
        return backoff_s


class _Sender(Sender):
    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        if offsets:
            node = await self._find_coordinator(CoordinationType.GROUP, group_id)
            await _OffsetCommit(self, offsets, group_id).do(node)


class TransactionalProducer(AIOKafkaProducer):
    """A transactional producer on a client that it shares: a client of its own for each partition would be dear."""

    def __init__(self, client: SteadyClient, options: Mapping[str, Any]) -> None:
        super().__init__(**options)
        steady_producer(self)
        self.client = client
        self._metadata = self._message_accumulator._cluster = client.cluster
        self._sender = _Sender(
            client,
            acks=-1,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=options["retry_backoff_ms"],
            request_timeout_ms=options["request_timeout_ms"],
        )

    @property
    def transactional_id(self) -> str:
        return str(self._txn_manager.transactional_id)

    @property
    def end(self) -> BaseException | None:
        """What its background task has ended with; aiokafka then refuses whatever comes, with other errors."""
        task = self._sender.sender_task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self, timeout_s: float = 0) -> None:
        """What was not sent never will be; an open transaction is aborted, since readers wait for its end.

        Args:
            timeout_s: for what is on the way, and for the abort.
        """
        self._closed = True
        accumulator = self._message_accumulator
        accumulator._exception = ProducerFenced()
        queued = [batch for batches in accumulator._batches.values() for batch in batches]
        accumulator._batches.clear()
        for batch in queued:
            batch.failure(ProducerFenced())
        try:
            if self._txn_manager.is_in_transaction():
                async with asyncio.timeout(timeout_s):
                    await self.abort_transaction()
        finally:
            for batch in list(accumulator._pending_batches):
                batch.failure(ProducerFenced())
            with suppress(Exception):  # it died of what ended the lane, which has been told
                async with asyncio.timeout(timeout_s):
                    await self._sender.close()
            # Nobody waits for these any more, and asyncio would complain about each.
            for future in (*(batch._drain_waiter for batch in queued), self._txn_manager.wait_for_transaction_end()):
                if future is not None and future.done() and not future.cancelled():
                    future.exception()


class Pending:
    """Letters on their way through a lane; implements `emitter.Sent`."""

    def __init__(self, letters: Letters, alive: Callable[[], bool], queued_at: float, timeout_s: float) -> None:
        self.letters = letters
        self.alive = alive
        self.queued_at = queued_at
        self._timeout_s = timeout_s
        loop = asyncio.get_running_loop()
        self.handed_over: asyncio.Future[list[Acknowledgement] | None] = loop.create_future()
        self.done: asyncio.Future[bool] = loop.create_future()

    async def written(self) -> Sequence[Write] | None:
        acknowledgements = await asyncio.shield(self.handed_over)  # the lane waits for it, too
        if acknowledgements is None:
            return None
        try:
            return await settle(self.letters.partition, acknowledgements, self._timeout_s)
        except ProduceError as error:
            if _shut_out(error):
                return None
            raise

    async def committed(self) -> bool:
        return await asyncio.shield(self.done)

    def lost(self) -> None:
        if not self.handed_over.done():
            self.handed_over.set_result(None)
        if not self.done.done():
            self.done.set_result(False)

    def failed(self, error: ProduceError) -> None:
        for future in (self.handed_over, self.done):
            if not future.done():
                future.set_exception(error)
                future.exception()  # the first who waits ends the worker; nobody may wait for the others


@dataclass(frozen=True)
class LaneContext:
    """What all lanes of a worker share.

    Args:
        failed: told when a lane cannot go on.
    """

    group: str
    worker: Worker
    telemetry: Telemetry
    clock: Clock
    failed: Callable[[ProduceError], None]


class Lane:
    """One partition: a queue of letters, and the task that puts them into one transaction after the other."""

    def __init__(self, context: LaneContext, producer: TransactionalProducer, source: TopicPartition) -> None:
        self._context = context
        self._producer = producer
        self._source = source
        self._settings = context.worker
        self._now = context.clock.monotonic
        self._queue: deque[Pending] = deque()
        self._open: list[Pending] = []  # in the transaction at hand
        self._changed = asyncio.Event()
        self._flushing = False
        self._next_offset = 0
        self._commit_s = 0.0  # what a commit takes, smoothed
        self._failure: ProduceError | None = None
        self._over = False
        self._task = asyncio.create_task(self._run())

    def put(self, letters: Letters, alive: Callable[[], bool]) -> Pending:
        pending = Pending(letters, alive, self._now(), self._settings.broker_timeout_s)
        if self._failure is not None:
            pending.failed(self._failure)
        elif self._over:
            pending.lost()
        else:
            self._queue.append(pending)
            self._changed.set()
        return pending

    def flush(self) -> None:
        self._flushing = True
        self._changed.set()

    async def close(self) -> None:
        """Whatever is not committed is lost."""
        aborted = bool(self._open)
        self._lose()
        self._task.cancel()
        with suppress(TimeoutError, KafkaError):
            await self._producer.stop(CLOSE_TIMEOUT_S)
        if aborted:
            self._context.telemetry.add("headrace_transactions_total", 1, "aborted")

    def _lose(self) -> None:
        self._over = True
        for pending in (*self._open, *self._queue):
            pending.lost()
        self._queue.clear()
        self._open.clear()

    async def _run(self) -> None:
        try:
            while True:
                await self._wait(None)
                if self._queue:
                    await self._transaction()
        except Exception as error:  # also the client's own assertions: a lane must not end unheard
            if _shut_out(error) or _shut_out(self._producer.end):
                self._context.telemetry.add("headrace_transactions_total", 1, "fenced")
                self._lose()
                error = await self._await_rebalance(error)
            self._fail(error)

    async def _transaction(self) -> None:
        interval_s = self._settings.transaction_interval_s
        # The interval ends when subscribers see it, so the commit begins earlier; not by more than half of it.
        records, due = 0, self._queue[0].queued_at + max(interval_s - self._commit_s, interval_s / 2)
        await self._producer.begin_transaction()
        while True:
            # No more than are there now: behind a backlog the queue may never be empty.
            for _ in range(len(self._queue)):
                pending = self._queue.popleft()
                self._open.append(pending)
                await self._hand_over(pending)
                records += pending.letters.records
            left_s = due - self._now()
            if self._flushing or records >= self._settings.transaction_max_records or left_s <= 0:
                break
            await self._wait(left_s)
        await self._commit()

    async def _hand_over(self, pending: Pending) -> None:
        letters = pending.letters
        if letters.first_offset < self._next_offset:
            raise ProduceError(
                f"{self._source.topic}[{self._source.partition}]@{letters.first_offset} was delivered again, behind "
                f"offset {self._next_offset}: its topic was made anew, or truncated; the worker stops and starts from "
                "the committed offset"
            )
        sent = await hand_over(self._producer, letters, pending.alive, transactional=True)
        if sent is None:
            raise ProducerFenced  # by ourselves: the partition is no longer ours
        self._next_offset = letters.next_offset
        if not pending.handed_over.done():
            pending.handed_over.set_result(sent)

    async def _commit(self) -> None:
        started, offset = self._now(), {self._source: self._next_offset}
        async with asyncio.timeout(self._settings.broker_timeout_s):
            await asyncio.gather(
                self._written(), self._producer.send_offsets_to_transaction(offset, self._context.group)
            )
            await self._producer.commit_transaction()
        for pending in self._open:
            if not pending.done.done():
                pending.done.set_result(True)
        self._open.clear()
        took_s = self._now() - started
        self._commit_s += (took_s - self._commit_s) * SMOOTHING
        self._context.telemetry.observe("headrace_stage_seconds", took_s, "commit")
        self._context.telemetry.add("headrace_transactions_total", 1, "committed")

    async def _written(self) -> None:
        """Not left to `commit_transaction`: it would commit what was written without what was refused."""
        for pending in self._open:
            if await pending.written() is None:
                raise ProducerFenced

    async def _wait(self, timeout_s: float | None) -> None:
        """Until something is queued or the lane is flushed, or the time is over."""
        self._changed.clear()
        if not self._queue:
            await happens(self._changed, timeout_s)

    async def _await_rebalance(self, error: Exception) -> ProduceError:
        """Who was shut out by the partition's next owner hears of it from the group, and this lane is closed."""
        logger.warning(
            "%s[%d]: the transactional producer was shut out (%s); the partition waits for a rebalance",
            *self._source,
            type(error).__name__,
        )
        patience_s = 2 * self._settings.session_timeout_s
        await asyncio.sleep(patience_s)
        return ProduceError(
            f"the transactional id {self._producer.transactional_id!r} is used by another application, or a "
            f"transaction took longer than worker.transaction_timeout_s = {self._settings.transaction_timeout_s:g} "
            f"({error!r}): no rebalance has followed within {patience_s:g} s; the worker stops, what is uncommitted is "
            "read again"
        )

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ProduceError):
            cause = "no answer in time" if isinstance(error, TimeoutError) else repr(error)
            error = ProduceError(
                f"committing the transaction of {self._source.topic}[{self._source.partition}] up to offset "
                f"{self._next_offset}: {cause}; the worker stops, what is uncommitted is read again"
            )
        self._failure = error
        for pending in (*self._open, *self._queue):
            pending.failed(error)
        self._context.failed(error)


def _shut_out(error: BaseException | None) -> bool:
    """Whether the partition has another owner, or the broker has given the transaction up; aiokafka wraps some."""
    while error is not None:
        if isinstance(error, (ProducerFenced, InvalidProducerIdMapping, InvalidTxnState)):
            return True
        error = error.__cause__
    return False
