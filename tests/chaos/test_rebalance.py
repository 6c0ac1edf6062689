"""Workers come and go under a live producer: nothing is lost, order per card holds, no partition is forgotten."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from tests import verify
from tests.chaos.flow import Flow, Row
from tests.conftest import Kafka, MakeTopics
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

PARTITIONS, KEYS, PER_SECOND = 8, 1_000, 2_000
SETTLED_S = 10.0


def rows() -> Iterator[Row]:
    """Without end, over all partitions in turn."""
    return ((number % PARTITIONS, b"k%d" % (number % KEYS), b"{}", []) for number in itertools.count())


def settle(running: list[WorkerProcess]) -> None:
    """Wait until every worker is ready and all partitions are spread over all of them."""

    def spread() -> bool:
        owned = [int(worker.metric("headrace_assigned_partitions")) for worker in running]
        return all(owned) and sum(owned) == PARTITIONS and all(worker.ready()[0] == 200 for worker in running)

    until(spread, 30, f"{PARTITIONS} partitions spread over {len(running)} workers")


def assert_none_idle(servers: str, group: str, source: str) -> None:
    """Every partition gets past where its log ended when the group settled."""
    before = verify.ends(servers, source)
    until(
        lambda: all(done >= before[partition] for partition, done in verify.committed(servers, group, source).items()),
        SETTLED_S,
        f"a commit of what each partition held when the group settled, {before}",
    )


def test_one_two_three_one_workers_under_load(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("moving", "moving-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output}

    def start() -> WorkerProcess:
        return workers.counting(group, script, worker__session_timeout_s=6, batch__max_batch_size=128)

    live = Flow(servers, source, rows(), PER_SECOND)
    try:
        running: list[WorkerProcess] = []
        for _ in range(3):
            running.append(start())
            settle(running)
            assert_none_idle(servers, group, source)
        for leaving in (running[0], running[2]):  # the one that has been there longest, and the one that came last
            assert leaving.stop() == 0
        settle(running[1:2])
        assert_none_idle(servers, group, source)
    finally:
        live.stop()
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    assert running[1].stop() == 0

    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    repeated = verify.assert_nothing_lost(inputs, outputs, source)
    assert repeated == 0, "planned moves drain and commit what is in flight"
    verify.assert_key_order(outputs, source)
    seen: dict[tuple[int, bytes | None], int] = {}
    for made in outputs:  # state moved with its partition: each key's counts go on by one
        key, count = (made.partition, made.key), json.loads(made.value or b"")["count"]
        assert count == seen.get(key, 0) + 1, f"{made} after a count of {seen.get(key, 0)}"
        seen[key] = count
    assert seen == verify.counts(inputs)
