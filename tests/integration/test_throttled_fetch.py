"""A broker that throttles a fetch answers it with nothing, which does not say that nothing has come."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.fetching import BatchFetcher
from streams.wire import Fetch
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.record_batches import NOTHING_MS, SOON_S, run

CLIENT, BYTES_A_SECOND = "throttled", 1000.0
RECORD = bytes(8000)  # a quota counts over 10 s: one is below, two are above it
ALTER_CLIENT_QUOTAS = 49


def set_quota(servers: str, client: str, bytes_a_second: float) -> None:
    """How much a client may fetch; confluent_kafka has no request for it."""

    def text(value: str) -> bytes:
        return struct.pack(">h", len(value)) + value.encode()

    one = struct.pack(">i", 1)
    quota = one + text("consumer_byte_rate") + struct.pack(">d?", bytes_a_second, False)
    entity = one + text("client-id") + text(client)
    request = struct.pack(">hhi", ALTER_CLIENT_QUOTAS, 0, 1) + text("quota") + one + entity + quota + b"\0"
    host, port = servers.split(":")
    with socket.create_connection((host, int(port)), SOON_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(4096)
    (error,) = struct.unpack_from(">h", answer, 16)
    assert error == 0, answer


class Throttled:
    """Waits for an answer that a broker has throttled.

    Attributes:
        before_ms: when the partition was heard of last before it.
    """

    def __init__(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        self._send, self._fetcher, self._partition = consumer._client.send, consumer._fetcher, partition
        self.before_ms: int | None = None
        self.happened = asyncio.Event()
        consumer._client.send = self._answering

    async def _answering(self, node_id: int, request: Any, **options: Any) -> Any:
        answer = await self._send(node_id, request, **options)
        if isinstance(request, Fetch) and answer.throttled_ms and not self.happened.is_set():
            assert not answer.partitions
            self.before_ms = self._fetcher.heard_ms(self._partition)
            self.happened.set()
        return answer


def test_a_record_that_a_throttled_fetch_does_not_bring_is_not_said_to_be_absent(
    kafka: Kafka, make_topics: MakeTopics
) -> None:
    (topic,) = make_topics("throttled")
    set_quota(kafka.bootstrap_servers, CLIENT, BYTES_A_SECOND)
    sender = verify.Sender(kafka.bootstrap_servers, topic)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp, fetcher = TopicPartition(topic, 0), consumer._fetcher
        assert isinstance(fetcher, BatchFetcher)
        throttled, sent = Throttled(consumer, tp), 0
        while not throttled.happened.is_set():  # a quota holds a moment after it is set
            await asyncio.to_thread(sender.send, [(0, b"k", RECORD, [])])
            sent += 1
            while await consumer.position(tp) < sent and not throttled.happened.is_set():
                await consumer.getmany(timeout_ms=NOTHING_MS)
        assert await consumer.position(tp) < sent
        assert fetcher.heard_ms(tp) == throttled.before_ms

    run(kafka, topic, steps, client_id=CLIENT)
