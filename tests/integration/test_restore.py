"""A long changelog is read back whole before the first record is processed."""

from __future__ import annotations

import json

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.counting import ENTRY
from tests.processes import Workers
from tests.waiting import until

PARTITIONS, KEYS, ROUNDS = 2, 50_000, 4


def test_a_changelog_of_two_hundred_thousand_records(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("long", "long-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output}
    # The offsets that the changelog's records claim to contain.
    verify.send(servers, source, [(partition, b"filler", b"{}", []) for partition in range(PARTITIONS)] * ROUNDS)
    first = workers.counting(group, script).running()
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    assert first.stop() == 0
    changes = (
        (key % PARTITIONS, b"k%d" % key, ENTRY.pack(1 + turn, turn), [])
        for turn in range(ROUNDS)
        for key in range(KEYS)
    )
    verify.send(servers, f"{group}.changelog", changes)
    verify.send(servers, source, ((key % PARTITIONS, b"k%d" % key, b"{}", []) for key in range(KEYS)))

    worker = workers.counting(group, script).running(within_s=60)
    assert worker.metric("headrace_restored_records_total") >= ROUNDS * KEYS
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")
    until(lambda: worker.metric("headrace_state_keys") > KEYS, 10, "all keys in the metrics")
    assert worker.stop() == 0
    outputs = verify.read(servers, output)
    assert verify.assert_nothing_lost(verify.read(servers, source), outputs, source) == 0
    counted = {json.loads(made.value or b"")["count"] for made in outputs if made.key != b"filler"}
    assert counted == {ROUNDS + 1}
