"""A worker joins while nothing is committed yet, and records arrive before the partitions flow again."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

# A poll that was under way when the rebalance began ends within a second: the records must come while it waits.
PARTITIONS, RESTORE_S, TIMEOUT_S = 2, 1.0, 20


def test_partitions_without_a_commit_lose_nothing_in_a_rebalance(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    """What that poll takes is dropped. There is no commit to seek back to, and yet it must come again."""
    servers = kafka.bootstrap_servers
    source, output = make_topics("uncommitted", "uncommitted-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output, "restore_s": RESTORE_S}
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    producer.list_topics(source, TIMEOUT_S)  # connected: the first record must not wait for that

    def feed(times: int) -> None:
        for _ in range(times):
            for partition in range(PARTITIONS):
                producer.produce(source, b"{}", b"k", partition)
            assert producer.flush(TIMEOUT_S) == 0

    first = workers.counting(group, script).running()
    second = workers.counting(group, script)
    until(lambda: first.ready()[1]["phase"] == "restoring", TIMEOUT_S, "a rebalance")
    feed(5)
    assert first.ready()[1]["phase"] == "restoring", "too slow: the records must arrive during the restore"
    first.running()
    second.running()
    feed(1)  # what follows a loss is committed as if nothing had happened
    until(lambda: not verify.behind(servers, group, source), TIMEOUT_S, "a commit of everything")
    assert first.stop() == second.stop() == 0

    inputs = verify.read(servers, source)
    assert len(inputs) == 6 * PARTITIONS
    assert verify.assert_nothing_lost(inputs, verify.read(servers, output), source) == 0
