"""A long changelog is read back whole before the first record is processed, and a long table is not in the way."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import numpy as np
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka_port import free_port
from models.fraud import ledger
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.counting import ENTRY
from tests.processes import Workers
from tests.waiting import until

PARTITIONS, KEYS, ROUNDS = 2, 50_000, 4
ENTRIES, ENDED_S = 400_000, 4.0


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


def _entry(number: int) -> bytes:
    column = np.array([number])
    (value,) = ledger.encode(ledger.Entries(column, [b"t%d" % (number % 1000)], column + 1_760_000_000_000, column))
    return value


def test_a_worker_that_is_ended_while_it_reads_a_long_table_does_not_read_on(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers, port = kafka.bootstrap_servers, free_port()
    source, output, labels = make_topics("tabled", "tabled-out", "tabled-labels")
    table = f"{source}.table"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(table, 1, 1)])[table].result(20)
    verify.send(servers, table, ((0, None, _entry(number), []) for number in range(ENTRIES)))
    settings = {"fraud__input": source, "fraud__output": output, "fraud__labels": labels, "worker__http_port": port}

    def reading() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)["reason"] == "reading the table"
        except urllib.error.URLError:
            return False
        raise AssertionError("all is read already")

    worker = workers.fraud(source, **settings)
    until(reading, 30, "the table being read")
    assert worker.stop(within_s=ENDED_S) == 0
