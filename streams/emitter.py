"""Writes outboxes to Kafka: one record batch a topic, to the partition number that the input came from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError
from aiokafka.structs import RecordMetadata

from streams.acls import explained
from streams.clock import completes
from streams.encoding import EncodedBatch, encode
from streams.errors import ProduceError
from streams.records import Outbox

# Below the broker's default message.max.bytes of 1 MiB, with room for a last record that overshoots.
MAX_BATCH_BYTES = 512 << 10

Acknowledgement = tuple[str, int, "asyncio.Future[RecordMetadata]"]
Write = tuple[str, int, int]


class Letters:
    """An outbox in the wire format, ready to be sent; made where its micro-batch is finished."""

    __slots__ = ("batches", "first_offset", "next_offset", "outputs", "partition", "poison", "records")

    def __init__(self, outbox: Outbox, timestamp_ms: int, lz4: bool = False) -> None:
        self.partition = outbox.partition
        self.outputs = outbox.outputs
        self.poison = outbox.poison
        self.records = outbox.records
        self.first_offset, self.next_offset = outbox.first_offset, outbox.next_offset
        self.batches: Sequence[tuple[str, EncodedBatch]] = [
            (outgoing.topic, batch)
            for outgoing in outbox.outgoing
            for batch in encode(outgoing, timestamp_ms, MAX_BATCH_BYTES, lz4)
        ]


class Sent(Protocol):
    """What becomes of letters that were handed to an emitter."""

    async def written(self) -> Sequence[Write] | None:
        """Wait for the broker. Returns topic, base offset and number of records of each write; None: nothing counts.

        Raises:
            ProduceError: a write was not acknowledged.
        """

    async def committed(self) -> bool:
        """Wait until subscribers see it, and the input is done. False: it was lost with its partition.

        Raises:
            ProduceError: the broker refuses, or does not answer in time.
        """


class Sender(Protocol):
    """Takes letters, in order, and gives a processing guarantee."""

    alone: bool  # whether nobody else can have written to the changelog since it was restored

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> Sent | None:
        """Take letters; None where their partition is somebody else's by now.

        Args:
            alive: whether the partition is still ours; asked before each write.
        """

    def flush(self) -> None:
        """From now on nothing waits for company: the partitions are about to go, or the worker ends."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """What is not committed of these partitions never will be."""


class Emitter:
    """At least once: letters are committed when they are written.

    Order per key holds because an input partition's writes go to one output partition.

    Args:
        timeout_s: how long a write may take; the idempotent client itself would try for ever.
    """

    alone = False

    def __init__(self, producer: AIOKafkaProducer, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> Sent | None:
        """Hand every record batch to the client, in order; waits while a partition's earlier one has not left.

        Raises:
            ProduceError: the client refuses the write.
        """
        sent = await hand_over(self._producer, letters, alive)
        return None if sent is None else _Written(letters.partition, sent, self._timeout_s)

    def flush(self) -> None:
        """Nothing: nothing waits."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Nothing: what is written is written."""


class _Written:
    def __init__(self, partition: int, acknowledgements: Sequence[Acknowledgement], timeout_s: float) -> None:
        self._partition = partition
        self._acknowledgements = acknowledgements
        self._timeout_s = timeout_s

    async def written(self) -> Sequence[Write]:
        return await settle(self._partition, self._acknowledgements, self._timeout_s)

    async def committed(self) -> bool:
        return True


async def hand_over(
    producer: AIOKafkaProducer, letters: Letters, alive: Callable[[], bool], transactional: bool = False
) -> list[Acknowledgement] | None:
    """Give every record batch of `letters` to a client, in order.

    Returns:
        Per Kafka batch its topic, number of records, and the future of the broker's acknowledgement; None where the
        partition was lost on the way.

    Raises:
        ProduceError: the client refuses the write.
    """
    sent: list[Acknowledgement] = []
    for topic, batch in letters.batches:
        if not alive():
            return None
        batch.transactional = transactional
        try:
            future = await producer.send_batch(batch, topic, partition=letters.partition)
        except (KafkaError, AssertionError) as error:  # the latter: the topic has fewer partitions
            raise not_written(topic, letters.partition, batch.record_count(), error) from error
        future.add_done_callback(_look)
        sent.append((topic, batch.record_count(), future))
    return sent


def _look(future: asyncio.Future[RecordMetadata]) -> None:
    """After a first failure nobody waits for the others, and asyncio would complain about each."""
    if not future.cancelled():
        future.exception()


async def settle(partition: int, acknowledgements: Iterable[Acknowledgement], timeout_s: float) -> list[Write]:
    """Wait for the broker. Returns topic, base offset and number of records of each write.

    Raises:
        ProduceError: a write was not acknowledged in `timeout_s`.
    """
    done: list[Write] = []
    for topic, count, future in acknowledgements:
        if not await completes(future, timeout_s):
            raise not_written(topic, partition, count, TimeoutError())
        try:
            metadata = future.result()
        except KafkaError as error:
            raise not_written(topic, partition, count, error) from error
        done.append((topic, metadata.offset, count))
    return done


def not_written(topic: str, partition: int, count: int, error: Exception) -> ProduceError:
    """What to tell the operator."""
    if isinstance(error, TimeoutError):
        cause = "not acknowledged in time"
    elif isinstance(error, AssertionError):
        cause = "the topic has no such partition; it must have as many as the input"
    elif isinstance(error, InvalidTimestampError):
        cause = (
            "this machine's clock and the broker's differ by more than the topic's message.timestamp.before.max.ms and "
            "message.timestamp.after.max.ms allow; set the clocks"
        )
    else:
        cause = explained(error, "WRITE")
    return ProduceError(
        f"writing {count} records to {topic}[{partition}]: {cause}; the worker stops, "
        "their input stays uncommitted and is read again"
    )
