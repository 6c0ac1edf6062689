"""Writes outboxes to Kafka: one record batch a topic, to the partition number that the input came from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from streams.errors import ProduceError
from streams.records import NO_HEADERS, Headers, Outbox, Outgoing

Acknowledgement = tuple[str, int, "asyncio.Future[RecordMetadata]"]


class Emitter:
    """Sends outboxes in order. Order per key holds because an input partition's writes go to one output partition."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def send(self, outbox: Outbox) -> list[Acknowledgement]:
        """Hand every record to the client, in order; waits while a partition's earlier batch has not left.

        Returns:
            Per Kafka batch its topic, number of records, and the future of the broker's acknowledgement.

        Raises:
            ProduceError: a record is too large for the broker's limit or the client refuses the write.
        """
        sent: list[Acknowledgement] = []
        for outgoing in outbox.outgoing:
            for builder, count in self._builders(outgoing, outbox.partition):
                try:
                    future = await self._producer.send_batch(builder, outgoing.topic, partition=outbox.partition)
                except KafkaError as error:
                    raise _failed(outgoing.topic, outbox.partition, count, error) from error
                sent.append((outgoing.topic, count, future))
        return sent

    def _builders(self, outgoing: Outgoing, partition: int) -> list[tuple[Any, int]]:
        builders: list[tuple[Any, int]] = []
        builder = self._producer.create_batch()
        headers: Sequence[Headers] = outgoing.headers or [NO_HEADERS] * len(outgoing)
        for key, value, header in zip(outgoing.keys, outgoing.values, headers, strict=True):
            if builder.append(timestamp=None, key=key, value=value, headers=header) is None:
                builders.append((builder, builder.record_count()))
                builder = self._producer.create_batch()
                if builder.append(timestamp=None, key=key, value=value, headers=header) is None:
                    raise ProduceError(
                        f"writing to {outgoing.topic}[{partition}]: a record of {len(value or b'')} bytes does not fit "
                        "one batch; the input stays uncommitted"
                    )
        builders.append((builder, builder.record_count()))
        for each, _ in builders:
            each.close()
        return builders


async def settle(partition: int, acknowledgements: Sequence[Acknowledgement]) -> list[tuple[str, int, int]]:
    """Wait for the broker. Returns topic, base offset and number of records of each write.

    Raises:
        ProduceError: a write was not acknowledged.
    """
    done: list[tuple[str, int, int]] = []
    for topic, count, future in acknowledgements:
        try:
            metadata = await future
        except KafkaError as error:
            raise _failed(topic, partition, count, error) from error
        done.append((topic, metadata.offset, count))
    return done


def _failed(topic: str, partition: int, count: int, error: KafkaError) -> ProduceError:
    return ProduceError(
        f"writing {count} records to {topic}[{partition}]: {error!r}; the worker stops, "
        "their input stays uncommitted and is read again"
    )
