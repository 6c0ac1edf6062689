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
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidTransactionTimeout,
    KafkaError,
    TransactionalIdAuthorizationFailed,
)

from streams.client import SteadyClient
from streams.clock import Clock, SystemClock
from streams.emitter import Letters
from streams.errors import BrokerUnavailable, ProduceError
from streams.lanes import CLOSE_TIMEOUT_S, Lane, LaneContext, Pending, TransactionalProducer
from streams.settings import Settings
from streams.telemetry import Telemetry

# A broker takes one request of a connection at a time, and a transaction is five of them.
CONNECTIONS = 4
RETRY_BACKOFF_MS = 50


class TransactionalEmitter:
    """Writes each partition's letters in transactions of its own; implements `emitter.Sender`.

    A transaction ends `worker.transaction_interval_s` after its oldest letters came, or at
    `worker.transaction_max_records`. Those of several partitions overlap.
    """

    alone = True

    def __init__(
        self, settings: Settings, group: str, input_topic: str, telemetry: Telemetry, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._group = group
        self._input_topic = input_topic
        self._context = LaneContext(group, settings.worker, telemetry, clock or SystemClock(), self._failed)
        self._clients: list[SteadyClient] = []
        self._lanes: dict[int, Lane] = {}
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, partitions: Sequence[int]) -> bool:
        """Become the only writer of `partitions`; what anybody left open there is aborted when this returns.

        Returns:
            False where they were revoked meanwhile: to go on would shut their next owner out.

        Raises:
            BrokerUnavailable: the broker has no transactions for us; says why.
        """
        self.revoked(list(self._lanes))
        self._opening = asyncio.create_task(self._open_all(partitions))
        try:
            await asyncio.wait({self._opening})
        except asyncio.CancelledError:
            self._opening.cancel()
            raise
        if self._opening.cancelled():
            return False
        self._opening.result()
        return True

    async def _open_all(self, partitions: Sequence[int]) -> None:
        timeout_s = self._settings.worker.broker_timeout_s
        first = self._producer_id(partitions[0]) if partitions else ""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect()
                async with asyncio.TaskGroup() as tasks:
                    for partition in partitions:
                        tasks.create_task(self._open(partition))
        except TimeoutError:
            raise BrokerUnavailable(
                f"opening the transactional producer {first!r}: no transaction coordinator within {timeout_s:g} s. "
                "The cluster must have transactions, and as many brokers as transaction.state.log.replication.factor; "
                "or use worker.processing_guarantee = 'at_least_once'"
            ) from None
        except (KafkaError, ExceptionGroup) as error:
            raise self._refused(first, error) from error

    async def watch(self) -> None:
        """Wait until a partition cannot go on.

        Raises:
            ProduceError: with the reason.
        """
        await self._failure

    async def _connect(self) -> None:
        while len(self._clients) < CONNECTIONS:
            client = SteadyClient(
                **self._settings.kafka.client_options(), client_id=f"{self._group}-{len(self._clients)}"
            )
            try:
                await client.bootstrap()
            except BaseException:  # a rebalance too; the next one would cut off what is awaited here
                self._spawn(client.close())
                raise
            self._clients.append(client)

    def _producer_id(self, partition: int) -> str:
        return f"{self._group}-{self._input_topic}-{partition}"

    async def _open(self, partition: int) -> None:
        options: dict[str, Any] = {
            **self._settings.kafka.client_options(),
            "transactional_id": self._producer_id(partition),
            "transaction_timeout_ms": int(self._settings.worker.transaction_timeout_s * 1000),
            # Also how long a batch may wait for its turn.
            "request_timeout_ms": int(self._settings.worker.broker_timeout_s * 1000),
            "retry_backoff_ms": RETRY_BACKOFF_MS,
        }
        producer = TransactionalProducer(self._clients[partition % len(self._clients)], options)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        source = TopicPartition(self._input_topic, partition)
        self._lanes[partition] = Lane(self._context, producer, source)

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> Pending | None:
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
        if self._opening is not None:
            self._opening.cancel()
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

    def _failed(self, error: ProduceError) -> None:
        """A lane cannot go on."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # whoever does not watch is told by the letters

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _refused(self, producer_id: str, error: Exception) -> BrokerUnavailable:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, InvalidTransactionTimeout):
            why = (
                f"worker.transaction_timeout_s = {self._settings.worker.transaction_timeout_s:g} is above the broker's "
                "transaction.max.timeout.ms; lower the first, or raise the second"
            )
        elif isinstance(error, TransactionalIdAuthorizationFailed):
            why = "this user may not use it; allow Write on the transactional ids that begin with the group's name"
        else:
            why = repr(error)
        return BrokerUnavailable(
            f"opening the transactional producer {producer_id!r}: {why}; nothing was read or written"
        )
