"""Writes outboxes to Kafka: one record batch a topic, to the partition number that the input came from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from streams.encoding import EncodedBatch, encode
from streams.errors import ProduceError
from streams.records import Outbox

# Below the broker's default message.max.bytes of 1 MiB, with room for a last record that overshoots.
MAX_BATCH_BYTES = 512 << 10

Acknowledgement = tuple[str, int, "asyncio.Future[RecordMetadata]"]


class Letters:
    """An outbox in the wire format, ready to be sent; made where computing is done, not on the event loop."""

    __slots__ = ("batches", "outputs", "partition", "poison")

    def __init__(self, outbox: Outbox, timestamp_ms: int) -> None:
        self.partition = outbox.partition
        self.outputs = outbox.outputs
        self.poison = outbox.poison
        self.batches: Sequence[tuple[str, EncodedBatch]] = [
            (outgoing.topic, batch)
            for outgoing in outbox.outgoing
            for batch in encode(outgoing, timestamp_ms, MAX_BATCH_BYTES)
        ]


class Emitter:
    """Sends letters in order. Order per key holds because an input partition's writes go to one output partition."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> list[Acknowledgement] | None:
        """Hand every record batch to the client, in order; waits while a partition's earlier one has not left.

        Args:
            alive: whether the partition is still ours; asked before each batch, since the last may have waited.

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
            try:
                future = await self._producer.send_batch(batch, topic, partition=letters.partition)
            except KafkaError as error:
                raise _failed(topic, letters.partition, batch.record_count(), error) from error
            future.add_done_callback(_look)
            sent.append((topic, batch.record_count(), future))
        return sent


def _look(future: asyncio.Future[RecordMetadata]) -> None:
    """After a first failure nobody waits for the others, and asyncio would complain about each."""
    if not future.cancelled():
        future.exception()


async def settle(
    partition: int, acknowledgements: Iterable[Acknowledgement], timeout_s: float | None = None
) -> list[tuple[str, int, int]]:
    """Wait for the broker. Returns topic, base offset and number of records of each write.

    Args:
        timeout_s: how long at most; the idempotent client itself would try for ever.

    Raises:
        ProduceError: a write was not acknowledged.
    """
    done: list[tuple[str, int, int]] = []
    for topic, count, future in acknowledgements:
        try:
            async with asyncio.timeout(timeout_s):
                metadata = await future
        except (KafkaError, TimeoutError) as error:
            raise _failed(topic, partition, count, error) from error
        done.append((topic, metadata.offset, count))
    return done


def _failed(topic: str, partition: int, count: int, error: Exception) -> ProduceError:
    cause = "not acknowledged in time" if isinstance(error, TimeoutError) else repr(error)
    return ProduceError(
        f"writing {count} records to {topic}[{partition}]: {cause}; the worker stops, "
        "their input stays uncommitted and is read again"
    )
