"""Exactly once: what a partition's input became, and its offset, in one Kafka transaction.

Each input partition has a transactional producer, whose id names the group, the topic and the partition. Opening it
ends whatever the partition's last owner left open, and shuts that owner out: a zombie can neither write nor commit. So
the partition is opened before its state is read back.

A transaction that cannot be committed is aborted, by us where there is time, else by the broker at the next opening. A
partition whose transaction failed takes nothing more until then: its state in memory is ahead of what is committed.

References:
    KIP-98, Exactly Once Delivery and Transactional Messaging. The fencing rests on the transactional id and not on the
    group's generation (KIP-447), because the client cannot send the latter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    InvalidProducerIdMapping,
    InvalidTransactionTimeout,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)

from streams.clock import Clock, SystemClock
from streams.emitter import Acknowledgement, Letters, Write, hand_over, settle
from streams.errors import BrokerUnavailable, ProduceError
from streams.settings import Settings
from streams.telemetry import Telemetry

logger = logging.getLogger(__name__)

# A broker takes one request of a connection at a time, and a transaction is five of them.
CONNECTIONS = 4
RETRY_BACKOFF_MS = 50
CLOSE_TIMEOUT_S = 1.0

# The partition has another owner, or the broker has given the transaction up: either way this one is over.
_SHUT_OUT = (ProducerFenced, InvalidProducerIdMapping, InvalidTxnState)


class TransactionalEmitter:
    """Writes each partition's letters in transactions of its own; implements `emitter.Sender`.

    A transaction ends `worker.transaction_interval_s` after its oldest letters came, or at
    `worker.transaction_max_records`. Those of several partitions overlap.
    """

    alone = True

    def __init__(
        self, settings: Settings, group: str, input_topic: str, telemetry: Telemetry, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.group = group
        self._input_topic = input_topic
        self.clock = clock or SystemClock()
        self._clients: list[AIOKafkaClient] = []
        self._lanes: dict[int, _Lane] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, partitions: Sequence[int]) -> None:
        """Become the only writer of `partitions`; what anybody left open there is aborted when this returns.

        Raises:
            BrokerUnavailable: the broker has no transactions for us; says why.
        """
        self.revoked(list(self._lanes))
        timeout_s = self.settings.worker.broker_timeout_s
        first = self._producer_id(partitions[0]) if partitions else ""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect()
                await asyncio.gather(*(self._open(partition) for partition in partitions))
        except TimeoutError:
            raise BrokerUnavailable(
                f"opening the transactional producer {first!r}: no transaction coordinator within {timeout_s:g} s. "
                "The cluster must have transactions, and as many brokers as transaction.state.log.replication.factor; "
                "or use worker.processing_guarantee = 'at_least_once'"
            ) from None
        except KafkaError as error:
            raise _refused(first, error, self.settings.worker.transaction_timeout_s) from error

    async def watch(self) -> None:
        """Wait until a partition cannot go on.

        Raises:
            ProduceError: with the reason.
        """
        await self._failure

    async def _connect(self) -> None:
        while len(self._clients) < CONNECTIONS:
            client = AIOKafkaClient(
                **self.settings.kafka.client_options(), client_id=f"{self.group}-{len(self._clients)}"
            )
            await client.bootstrap()
            self._clients.append(client)

    def _producer_id(self, partition: int) -> str:
        return f"{self.group}-{self._input_topic}-{partition}"

    async def _open(self, partition: int) -> None:
        options: dict[str, Any] = {
            **self.settings.kafka.client_options(),
            "transactional_id": self._producer_id(partition),
            "transaction_timeout_ms": int(self.settings.worker.transaction_timeout_s * 1000),
            # Also how long a batch may wait for its turn.
            "request_timeout_ms": int(self.settings.worker.broker_timeout_s * 1000),
            "retry_backoff_ms": RETRY_BACKOFF_MS,
        }
        producer = _Producer(self._clients[partition % len(self._clients)], options)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        source = TopicPartition(self._input_topic, partition)
        self._lanes[partition] = _Lane(self, producer, source)

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> _Pending | None:
        """Queue letters for their partition's next transaction; never waits."""
        lane = self._lanes.get(letters.partition)
        if lane is None or not alive():
            return None
        return lane.put(letters, alive)

    def flush(self) -> None:
        """End each transaction as soon as nothing is queued for it."""
        for lane in self._lanes.values():
            lane.flush()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Give up what these partitions have not committed."""
        for partition in partitions:
            if lane := self._lanes.pop(partition, None):
                self._spawn(lane.close())

    async def stop(self) -> None:
        """Close all connections."""
        self.revoked(list(self._lanes))
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT_S)
        for client in self._clients:
            await client.close()

    def failed(self, error: ProduceError) -> None:
        """A lane cannot go on."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # whoever does not watch is told by the letters

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Producer(AIOKafkaProducer):
    """A transactional producer on a client that it shares: a client of its own for each partition would be dear."""

    def __init__(self, client: AIOKafkaClient, options: Mapping[str, Any]) -> None:
        super().__init__(**options)
        self.client = self._sender.client = client
        self._metadata = self._message_accumulator._cluster = client.cluster

    @property
    def transactional_id(self) -> str:
        return str(self._txn_manager.transactional_id)

    @property
    def in_transaction(self) -> bool:
        return bool(self._txn_manager.is_in_transaction())

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self) -> None:
        """At once: what was not sent never will be."""
        self._closed = True
        await self._sender.close()


class _Pending:
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
        acknowledgements = await self.handed_over
        if acknowledgements is None:
            return None
        try:
            return await settle(self.letters.partition, acknowledgements, self._timeout_s)
        except ProduceError as error:
            if isinstance(error.__cause__, _SHUT_OUT):
                return None
            raise

    async def committed(self) -> bool:
        return await self.done

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


class _Lane:
    """One partition: a queue of letters, and the task that puts them into one transaction after the other."""

    def __init__(self, emitter: TransactionalEmitter, producer: _Producer, source: TopicPartition) -> None:
        self._emitter = emitter
        self._producer = producer
        self._source = source
        self._settings = emitter.settings.worker
        self._now = emitter.clock.monotonic
        self._queue: deque[_Pending] = deque()
        self._open: list[_Pending] = []  # in the transaction at hand
        self._changed = asyncio.Event()
        self._flushing = False
        self._next_offset = 0
        self._failure: ProduceError | None = None
        self._over = False
        self._task = asyncio.create_task(self._run())

    def put(self, letters: Letters, alive: Callable[[], bool]) -> _Pending:
        pending = _Pending(letters, alive, self._now(), self._settings.broker_timeout_s)
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
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                try:
                    if self._producer.in_transaction:  # readers wait for its end
                        await self._producer.abort_transaction()
                finally:
                    await self._producer.stop()
        if aborted:
            self._emitter.telemetry.add("headrace_transactions_total", 1, "aborted")

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
        except _SHUT_OUT as error:
            self._emitter.telemetry.add("headrace_transactions_total", 1, "fenced")
            self._lose()
            self._fail(await self._await_rebalance(error))
        except Exception as error:  # also the client's own assertions: a lane must not end unheard
            self._fail(error)

    async def _transaction(self) -> None:
        records, due = 0, self._queue[0].queued_at + self._settings.transaction_interval_s
        await self._producer.begin_transaction()
        while True:
            while self._queue and records < self._settings.transaction_max_records:
                pending = self._queue.popleft()
                self._open.append(pending)
                await self._hand_over(pending)
                records += pending.letters.records
            if self._flushing or records >= self._settings.transaction_max_records:
                break
            if not await self._wait(due - self._now()):
                break
        await self._commit()

    async def _hand_over(self, pending: _Pending) -> None:
        letters = pending.letters
        if letters.first_offset < self._next_offset:
            raise ProduceError(
                f"{self._source.topic}[{self._source.partition}]@{letters.first_offset} was delivered again, behind "
                f"offset {self._next_offset}: its topic was made anew, or truncated; the worker stops and starts from "
                "the committed offset"
            )
        try:
            sent = await hand_over(self._producer, letters, pending.alive, transactional=True)
        except ProduceError as error:
            if isinstance(error.__cause__, _SHUT_OUT):
                raise error.__cause__ from None
            raise
        if sent is None:
            raise ProducerFenced  # by ourselves: the partition is no longer ours
        self._next_offset = letters.next_offset
        if not pending.handed_over.done():
            pending.handed_over.set_result(sent)

    async def _commit(self) -> None:
        started, offset = self._now(), {self._source: self._next_offset}
        async with asyncio.timeout(self._settings.broker_timeout_s):
            await asyncio.gather(
                self._written(), self._producer.send_offsets_to_transaction(offset, self._emitter.group)
            )
            await self._producer.commit_transaction()
        for pending in self._open:
            pending.done.set_result(True)
        self._open.clear()
        self._emitter.telemetry.observe("headrace_stage_seconds", self._now() - started, "commit")
        self._emitter.telemetry.add("headrace_transactions_total", 1, "committed")

    async def _written(self) -> None:
        """Not left to `commit_transaction`: it would commit what was written without what was refused."""
        for pending in self._open:
            if await pending.written() is None:
                raise ProducerFenced

    async def _wait(self, timeout_s: float | None) -> bool:
        """Until something is queued or the lane is flushed. False: not in time."""
        if self._queue or (timeout_s is not None and self._flushing):
            return True
        if timeout_s is not None and timeout_s <= 0:
            return False
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

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
            f"transaction took longer than worker.transaction_timeout_s = {self._settings.transaction_timeout_s:g}: "
            f"no rebalance has followed within {patience_s:g} s; the worker stops, what is uncommitted is read again"
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
        self._emitter.failed(error)


def _refused(producer_id: str, error: KafkaError, timeout_s: float) -> BrokerUnavailable:
    if isinstance(error, InvalidTransactionTimeout):
        why = (
            f"worker.transaction_timeout_s = {timeout_s:g} is above the broker's transaction.max.timeout.ms; "
            "lower the first, or raise the second"
        )
    elif isinstance(error, TransactionalIdAuthorizationFailed):
        why = "it may not be used by this user; allow Write on the transactional ids that begin with the group's name"
    elif isinstance(error, CoordinatorNotAvailableError):
        why = "the cluster has no transaction coordinator"
    else:
        why = repr(error)
    return BrokerUnavailable(f"opening the transactional producer {producer_id!r}: {why}; nothing was read or written")
