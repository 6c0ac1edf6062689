"""A worker joins while nothing is committed yet, and records arrive before the partitions flow again."""

from __future__ import annotations

import pytest

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

PARTITIONS, RESTORE_S = 2, 0.8


def test_partitions_without_a_commit_lose_nothing_in_a_rebalance(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    """What a poll takes during the restore is dropped; without a commit to seek back to it must come again, too."""
    servers = kafka.bootstrap_servers
    source, output = make_topics("uncommitted", "uncommitted-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output, "restore_s": RESTORE_S}

    def feed(count: int) -> None:
        verify.send(servers, source, ((n % PARTITIONS, b"k", b"{}", []) for n in range(count)))

    first = workers.counting(group, script).running()
    second = workers.counting(group, script)
    until(lambda: first.ready()[1]["phase"] == "restoring", 20, "a rebalance")
    feed(10)
    assert first.ready()[1]["phase"] == "restoring", "too late: the records must arrive during the restore"
    first.running()
    second.running()
    feed(2)  # what follows a loss is committed as if nothing had happened
    until(lambda: not verify.behind(servers, group, source), 20, "a commit of everything")
    assert first.stop() == second.stop() == 0

    inputs = verify.read(servers, source)
    assert len(inputs) == 12
    assert verify.assert_nothing_lost(inputs, verify.read(servers, output), source) == 0
