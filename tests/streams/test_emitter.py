"""Letters on their way to the client: all of them in order, or no more of them once the partition is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.emitter import Emitter, Letters
from streams.records import Outbox, Outgoing
from tests.streams.inmemory import TOPIC, Log
from tests.streams.runner_bench import CHANGELOG, OUT, Bench, run, until

TOPICS = ["dead", "out", "changes"]


class Sent:
    """Stands for aiokafka's producer: remembers topics and partitions, acknowledges nothing."""

    def __init__(self) -> None:
        self.places: list[tuple[str, int]] = []

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.places.append((topic, partition))
        return asyncio.get_running_loop().create_future()


class Holding(Log):
    """Holds every write back until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def send_batch(self, builder: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.reached.set()
        await self.go.wait()
        return await super().send_batch(builder, topic, partition=partition)


def letters() -> Letters:
    """Three record batches of partition 7."""
    return Letters(Outbox(7, [Outgoing(topic, [b"k"], [b"v"]) for topic in TOPICS]), 0)


def test_everything_leaves_in_order_while_the_partition_is_ours() -> None:
    async def scenario() -> None:
        producer = Sent()
        sent = await Emitter(producer, 1.0).send(letters(), lambda: True)
        assert sent is not None
        assert producer.places == [(topic, 7) for topic in TOPICS]

    run(scenario)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_nothing_more_leaves_once_the_partition_is_lost(batches: int) -> None:
    async def scenario() -> None:
        producer = Sent()
        answer = await Emitter(producer, 1.0).send(letters(), lambda: len(producer.places) < batches)
        assert answer is None
        assert producer.places == [(topic, 7) for topic in TOPICS[:batches]]

    run(scenario)


def test_a_drain_limit_that_passes_in_the_midst_of_a_send_ends_it() -> None:
    """The client holds the first batch back; the partition is lost; what was behind it must not follow."""

    async def scenario() -> None:
        bench = Bench()
        bench.log = log = Holding()
        async with bench.running():
            message = await bench.deliver([b"x", b"poison"], 0)
            await until(log.reached.is_set)
            await bench.revoke(0)
            assert not bench.consumer.is_alive(message)
            log.go.set()
            await until(lambda: bench.metric("headrace_records_discarded_total") == 2)
            assert [each.topic for each in log.records] == [f"{TOPIC}.dead-letter"]
            assert bench.mark() is None
            assert bench.metric("headrace_records_out_total") == 0
            # It comes back, and everything is written.
            await bench.deliver([b"x", b"poison"], 0)
            await until(lambda: bench.mark() == 2)
            assert len(log.of(OUT)) == len(log.of(CHANGELOG)) == 1

    run(scenario)
