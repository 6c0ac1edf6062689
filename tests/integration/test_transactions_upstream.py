"""Input that a transactional producer writes: committed, aborted, and markers at the log's end."""

from __future__ import annotations

import time

from confluent_kafka import Producer

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import POLL_S, until

PARTITIONS, RECORDS, STALL_S, TIMEOUT_S = 2, 20, 3, 20


def write(servers: str, topic: str, last_committed: bool) -> None:
    """Transactions over all partitions, committed and aborted in turn; what they hold says which."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    for turn in range(4):
        committed = (turn % 2 == 1) == last_committed
        producer.begin_transaction()
        for number in range(RECORDS):
            producer.produce(topic, b"{}", b"committed" if committed else b"aborted", number % PARTITIONS)
        assert producer.flush(TIMEOUT_S) == 0  # what is aborted must stand in the log, too
        producer.commit_transaction(TIMEOUT_S) if committed else producer.abort_transaction(TIMEOUT_S)


def test_what_is_committed_is_predicted_and_markers_at_the_end_are_no_lag(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    topics = {last: make_topics("upstream", "upstream-out", partitions=PARTITIONS) for last in (True, False)}
    running = [
        workers.counting(f"{source}-group", {"input": source, "output": output}, worker__stall_timeout_s=STALL_S)
        for source, output in topics.values()
    ]
    for worker, (last_committed, (source, _)) in zip(running, topics.items(), strict=True):
        worker.running()
        write(servers, source, last_committed)
    for worker in running:
        until(lambda: worker.metric("headrace_records_out_total") >= 2 * RECORDS, TIMEOUT_S, "all outputs")  # noqa: B023
        until(lambda: worker.metric("headrace_lag_records") == 0, TIMEOUT_S, "a lag of 0")  # noqa: B023

    quiet_until = time.monotonic() + 2 * STALL_S + 2
    while time.monotonic() < quiet_until:
        for worker in running:
            assert worker.alive, worker.output()
            status, body = worker.ready()
            assert status == 200, body
        time.sleep(POLL_S)
    for worker, (source, output) in zip(running, topics.values(), strict=True):
        assert worker.metric("headrace_lag_records") == worker.metric("headrace_lag_seconds") == 0
        assert worker.stop() == 0
        inputs, outputs = verify.read(servers, source), verify.read(servers, output)
        assert len(inputs) == 2 * RECORDS
        assert {made.key for made in outputs} == {b"committed"}
        assert verify.assert_nothing_lost(inputs, outputs, source) == 0
