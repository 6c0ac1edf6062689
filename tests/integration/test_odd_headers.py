"""Clients of other languages name headers as they like: a worker reads all of it."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.streams.test_blocks import Latin
from tests.waiting import until

COUNT = 20


async def send_odd(servers: str, topic: str) -> None:
    """Records in one block, the name of one header being no UTF-8."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 1 << 20)
        for number in range(COUNT):
            odd = [(Latin("caf\u00e9"), b"latin")] if number == COUNT // 2 else []
            assert batch.append(timestamp=1_000_000, key=b"k", value=b"%d" % number, headers=odd) is not None
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))


def test_a_header_whose_name_is_no_utf8_stops_nobody(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("odd", "odd-out")
    asyncio.run(send_odd(servers, source))
    verify.send(servers, source, [(0, b"k", b"after", [])])
    group = f"{source}-group"
    worker = workers.counting(group, {"input": source, "output": output}).running()
    until(lambda: not worker.alive or not verify.behind(servers, group, source), 30, "a commit of everything")
    assert worker.alive, worker.output()
    assert worker.stop() == 0
    assert len(verify.read(servers, output)) == COUNT + 1
