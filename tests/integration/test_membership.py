"""What a group has against a worker ends it with a sentence, and the group's other members go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from connectors.broker import Broker
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.test_bad_weather import SOON_S, assert_ends
from tests.processes import WorkerProcess, Workers
from tests.waiting import until


@pytest.mark.parametrize(
    ("guarantee", "at_once"), [("at_least_once", False), ("at_least_once", True), ("exactly_once", False)]
)
def test_two_workers_in_one_slot(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, guarantee: str, at_once: bool
) -> None:
    """One of them ends and says why; the other does the work."""
    servers = kafka.bootstrap_servers
    source, output = make_topics("slot", "slot-out", partitions=2)
    group, script = f"{source}-group", {"input": source, "output": output}
    settings = {"worker__slot": "one", "worker__processing_guarantee": guarantee, "worker__session_timeout_s": 6}
    first = workers.counting(group, script, **settings)
    if not at_once:
        first.running()
    pair = [first, workers.counting(group, script, **settings)]
    until(lambda: not all(worker.alive for worker in pair), 60, "the end of one of them")
    (left,) = [worker for worker in pair if worker.alive]
    (gone,) = [worker for worker in pair if not worker.alive]
    assert_ends(gone, r"another worker of group .* runs in slot 'one'")
    assert_works(left, servers, group, source, output)


def assert_works(worker: WorkerProcess, servers: str, group: str, source: str, output: str) -> None:
    """It works through records of both partitions, and ends in order."""
    verify.send(servers, source, [(number % 2, b"key", b"{}", []) for number in range(20)])
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.stop() == 0
    verify.assert_nothing_lost(verify.read(servers, source), verify.read(servers, output), source)


def test_a_group_of_other_consumers(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("foreign", "foreign-out", partitions=2)
    group = f"{source}-group"

    async def run() -> None:
        other = AIOKafkaConsumer(
            source,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=group,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
        )
        await other.start()
        try:
            worker = workers.counting(group, {"input": source, "output": output})
            await asyncio.to_thread(assert_ends, worker, f"group {group} has members that", "no workers of Headrace")
            assert len(other.assignment()) == 2
        finally:
            await other.stop()

    asyncio.run(run())


def test_a_session_timeout_that_the_broker_does_not_allow(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    source, output = make_topics("hasty", "hasty-out")
    worker = workers.counting(f"{source}-group", {"input": source, "output": output}, worker__session_timeout_s=0.5)
    assert_ends(worker, r"worker\.session_timeout_s = 0\.5", r"group\.min\.session\.timeout\.ms")


def test_a_group_that_is_full(private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers) -> None:
    broker = private_broker(properties={"group.max.size": "1"})
    broker.start()
    servers = broker.bootstrap_servers
    source, output = make_topics("full", "full-out", partitions=2, kafka=broker)
    group, script = f"{source}-group", {"input": source, "output": output}
    first = workers.counting(group, script, servers).running()
    assert_ends(workers.counting(group, script, servers), f"group {group} is full", r"group\.max\.size")
    assert_works(first, servers, group, source, output)
