"""aiokafka's clients, made to outlive a broker's restart.

Each change stands for a way in which a worker or a producer was seen to end, to stand still, to fill its log or to
leave a connection open, most of them through an outage that is shorter than `worker.broker_timeout_s`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.produce import ProduceRequest

from streams.membership import JOINING, Membership
from streams.outages import OUTAGES
from streams.settings import Kafka
from streams.wire import Fetch, Produce

LARGEST_SEQUENCE = 0x7FFFFFFF
OPENING_S = 1.0  # to close a client that is being opened waits so long for its first connection


class SteadyClient(AIOKafkaClient):
    """Tries again, after a pause, where aiokafka's client gives up or does not pause, and tells `OUTAGES`."""

    _opening: asyncio.Task[None] | None = None
    _updated_s = float("-inf")

    async def bootstrap(self) -> None:
        # aiokafka holds its first connection in a local variable: cancelled, it would leave it open.
        self._opening = asyncio.create_task(super().bootstrap())
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        if self._opening is not None:
            await asyncio.wait({self._opening}, timeout=OPENING_S)
            if not self._opening.cancel() and not self._opening.cancelled():
                self._opening.exception()  # who waited for it has been told, or has gone
        await super().close()

    async def send(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        if type(request) is ProduceRequest and request.required_acks:
            request = Produce(request)
        try:
            answer = await super().send(node_id, request, **kwargs)
        except RequestTimedOutError:
            self._failed(node_id)
            raise
        except KafkaError:
            raise
        except NotImplementedError as error:  # it speaks only versions of this request that aiokafka does not
            raise IncompatibleBrokerVersion(f"asking Kafka at {self._address(node_id)}: {error}") from error
        except RuntimeError as error:  # uvloop's, for a transport that has closed; asyncio's own loop says nothing
            raise KafkaConnectionError(str(error)) from error
        except KeyError as error:  # after a timeout: another request has closed the connection already
            raise KafkaConnectionError("connection closed") from error
        if OUTAGES:
            OUTAGES.answered(self._address(node_id))
        return answer

    async def _get_conn(self, node_id: int, **kwargs: Any) -> Any:
        connection = await super()._get_conn(node_id, **kwargs)
        if connection is None:
            self._failed(node_id)
        return connection

    def _failed(self, node_id: int) -> None:
        if address := self._address(node_id):
            OUTAGES.failed(address)

    def _address(self, node_id: int) -> str:
        broker = self.cluster.broker_metadata(node_id)
        return f"{broker.host}:{broker.port}" if broker else ""

    async def coordinator_lookup(self, *args: Any) -> Any:
        try:
            return await super().coordinator_lookup(*args)
        except KafkaConnectionError as error:  # a transactional producer takes this one for the end
            raise NodeNotReadyError(str(error)) from error

    async def _metadata_update(self, *args: Any) -> bool:
        # Who misses a partition's leader, or a topic, asks again as soon as there is an answer.
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._updated_s + self._retry_backoff - now))
        try:
            return bool(await super()._metadata_update(*args))
        except RuntimeError:  # as above; without this the task that refreshes the metadata ends for good
            return False
        finally:
            self._updated_s = asyncio.get_running_loop().time()


class MemberClient(SteadyClient):
    """The client of a group's member.

    Attributes:
        membership: looks at what the group's coordinator answers; excluded, the member does not join again.
    """

    membership: Membership

    async def send(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        if type(request) is Fetch:
            return await super().send(node_id, request, **kwargs)
        await self._unless_excluded(request)
        response = await super().send(node_id, request, **kwargs)
        self.membership.heard(request, response)
        await self._unless_excluded(request)
        return response

    async def _unless_excluded(self, request: Any) -> None:
        if self.membership.excluded and isinstance(request, JOINING):
            await asyncio.Event().wait()  # until the worker ends


class WrappingSequences(TransactionManager):
    """Sequence numbers that begin again at 0, as Kafka's do, and not below it."""

    def increment_sequence_number(self, tp: TopicPartition, increment: int) -> None:
        self._sequence_numbers[tp] = (self._sequence_numbers[tp] + increment) & LARGEST_SEQUENCE


class Forgiving(set[Any]):
    """A set from which something may be removed twice, as aiokafka does with a batch that fails while it is retried."""

    remove = set.discard


def steady_producer(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """The same producer, not started yet, with all of the above."""
    producer.client.__class__ = SteadyClient
    producer._message_accumulator._pending_batches = Forgiving()
    if producer._txn_manager is not None:
        producer._txn_manager.__class__ = WrappingSequences
    return producer


def patient_producer(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """The same producer, not started yet, idempotent: it gives up no batch by itself. Its owner does, by `give_up`."""
    producer._message_accumulator._batch_ttl = float("inf")
    return steady_producer(producer)


def give_up(producer: AIOKafkaProducer, error: Exception) -> None:
    """Fail all that is not acknowledged, for which `producer.stop` would wait for ever."""
    held = producer._message_accumulator
    held.fail_all(error)
    for batches in held._batches.values():
        for batch in batches:
            batch._drain_waiter.exception()  # asyncio would complain that nobody has looked


def lone_consumer(kafka: Kafka, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group, not started yet, on a client that outlives a broker's restart.

    It reads what is committed, from the earliest record on, where aiokafka's `options` do not say otherwise.
    """
    usual = {"auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    own = {"group_id": None, "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(**kafka.client_options(), **usual | options | own)
    consumer._client.__class__ = SteadyClient
    return consumer


def steady_consumer(consumer: AIOKafkaConsumer, membership: Membership) -> AIOKafkaConsumer:
    """The same consumer, not started yet, on a member's client."""
    consumer._client.__class__ = MemberClient
    consumer._client.membership = membership
    return consumer
