"""aiokafka's clients, made to outlive a broker's restart.

Each change stands for a way in which a worker was seen to end, or to stand still, through an outage that is shorter
than `worker.broker_timeout_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    UnknownError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from streams.clock import happens

LARGEST_SEQUENCE = 0x7FFFFFFF
LONGEST_HELD_S = 2.0  # whoever asks how far a partition's end is away learns it from fetches
GROUP_REQUESTS = (JoinGroupRequest, SyncGroupRequest, HeartbeatRequest)


class SteadyClient(AIOKafkaClient):
    """Tries again, after a pause, where aiokafka's client gives up or does not pause."""

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().send(*args, **kwargs)
        except RuntimeError as error:  # uvloop's, for a transport that has closed; asyncio's own loop says nothing
            raise KafkaConnectionError(str(error)) from error
        except KeyError as error:  # after a timeout: another request has closed the connection already
            raise KafkaConnectionError("connection closed") from error

    async def coordinator_lookup(self, *args: Any) -> Any:
        try:
            return await super().coordinator_lookup(*args)
        except KafkaConnectionError as error:  # a transactional producer takes this one for the end
            raise NodeNotReadyError(str(error)) from error

    async def _metadata_update(self, *args: Any) -> bool:
        try:
            updated = bool(await super()._metadata_update(*args))
        except RuntimeError:  # as above; without this the task that refreshes the metadata ends for good
            updated = False
        if not updated:
            await asyncio.sleep(self._retry_backoff)  # a producer whose partition has no leader asks again at once
        return updated


class MemberClient(SteadyClient):
    """The client of a group's member; tells when the group does not know the member any more.

    Attributes:
        fetching: cleared, it holds the next fetch back, for at most `LONGEST_HELD_S`: a fetch that is sent as soon as
            the one before is read comes back with the first record that follows, and the rest waits for another.
    """

    displaced: Callable[[float], bool]
    fetching: asyncio.Event
    away = False
    _heard_at = 0.0

    async def send(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        if self.away and isinstance(request, JoinGroupRequest):
            await asyncio.Event().wait()  # until the worker ends
        if isinstance(request, FetchRequest):
            await happens(self.fetching, LONGEST_HELD_S)
        response = await super().send(node_id, request, **kwargs)
        if isinstance(request, GROUP_REQUESTS) and response.error_code == UnknownError.errno:
            raise KafkaConnectionError("the group coordinator has an error of its own")  # it is asked again
        if isinstance(request, HeartbeatRequest):
            codes = {response.error_code}
        elif isinstance(request, OffsetCommitRequest):
            codes = {code for _, partitions in response.topics for _, code in partitions}
            if UnknownTopicOrPartitionError.errno in codes:
                # aiokafka would try until the offset lands on a new topic of that name.
                raise KafkaError(f"committing offsets of {_topics(response)}: the topic is gone")
        else:
            return response
        if UnknownMemberIdError.errno not in codes:
            self._heard_at = time.monotonic()
        elif not self.away:
            self.away = self.displaced(time.monotonic() - self._heard_at)
        return response


def _topics(response: Any) -> str:
    return ", ".join(repr(topic) for topic, _ in response.topics)


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


def steady_consumer(consumer: AIOKafkaConsumer, displaced: Callable[[float], bool]) -> AIOKafkaConsumer:
    """The same consumer, not started yet, on a member's client.

    Args:
        displaced: called when its group has dropped it, or has given its slot to another, with the seconds since the
            group was last heard of. Where it answers True, the consumer does not join again.
    """
    consumer._client.__class__ = MemberClient
    consumer._client.displaced = displaced
    consumer._client.fetching = asyncio.Event()
    consumer._client.fetching.set()
    return consumer
