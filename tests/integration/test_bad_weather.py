"""What makes a worker's work impossible ends it with one clear sentence, no traceback, and exit code 1."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from connectors.kafka_port import free_port
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import WorkerProcess, Workers

SOON_S = 20.0  # importing, connecting and ending, on a busy machine
GOOD = {"transaction_id": "t", "card_id": "c", "terminal_id": "m", "amount": 1.0, "event_time": 1_735_689_600_000}


def assert_ends(worker: WorkerProcess, *expected: str) -> None:
    """It ends with exit code 1, and its one `error:` line holds all that is expected."""
    code, said = worker.ended(SOON_S), worker.output()
    assert code == 1, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert said.splitlines()[-1] == errors[0]
    for part in expected:
        assert re.search(part, errors[0]), f"expected {part!r} in {errors[0]!r}"


def test_missing_input_topic(kafka: Kafka, workers: Workers) -> None:
    worker = workers.fraud("nowhere", fraud__input="never-made")
    assert_ends(worker, "input topic 'never-made' does not exist", "headrace topics create never-made")


@pytest.mark.parametrize("which", ["output", "dead-letter", "changelog"])
def test_partition_counts_that_do_not_match(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, which: str
) -> None:
    (source,) = make_topics("uneven", partitions=3)
    names = {"output": f"{source}-out", "dead-letter": f"{source}.dead-letter", "changelog": f"{source}.changelog"}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(names[which], 2, 1)])[names[which]].result(20)
    worker = workers.fraud(source, fraud__input=source, fraud__output=names["output"])
    assert_ends(worker, f"topic '{re.escape(names[which])}' has 2 partitions", f"'{source}' has 3")


def _widen(kafka: Kafka, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)


def test_partitions_that_are_added_to_a_topic_of_the_table(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    source, output, labels = make_topics("growing", "growing-out", "growing-labels")
    settings = {"fraud__input": source, "fraud__output": output, "fraud__labels": labels}
    worker = workers.fraud(source, **settings).running()
    _widen(kafka, labels, 2)
    assert_ends(worker, f"reading the table's topics: {labels} has more partitions", "reads all of them")
    assert workers.fraud(source, **settings).running().stop() == 0


def test_partitions_that_are_added_to_the_input(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output, labels = make_topics("widened", "widened-out", "widened-labels")
    settings = {"fraud__input": source, "fraud__output": output, "fraud__labels": labels}
    worker = workers.fraud(source, **settings).running()
    _widen(kafka, source, 3)
    assert_ends(worker, f"topic '{source}': expected the 1 partitions", "got partition [12] as well")
    assert_ends(workers.fraud(source, **settings), f"topic '{output}' has 1 partitions", f"'{source}' has 3")


def test_nobody_answers(tmp_path: Path, workers: Workers) -> None:
    port = free_port()
    worker = workers.fraud("alone", servers=f"127.0.0.1:{port}")
    assert_ends(worker, f"connecting to Kafka at '127.0.0.1:{port}'", "headrace broker start")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"worker__in_flight": "many"}, ["worker.in_flight", "HEADRACE_WORKER__IN_FLIGHT"]),
        ({"worker__in_flight": "0"}, ["worker.in_flight", "above zero"]),
        ({"worker__wings": "2"}, ["unknown setting worker.wings", "HEADRACE_WORKER__WINGS"]),
        ({"batch__max_queue_size": "1"}, ["batch.max_queue_size", "batch.max_batch_size"]),
        ({"kafka__security_protocol": "SASL_PLAINTEXT"}, ["kafka.sasl_username"]),
        ({"kafka__security_protocol": "SSL", "kafka__ssl_cafile": "/none.pem"}, ["TLS", "/none.pem"]),
        ({"fraud__model": "unheard-of"}, ["unheard-of"]),
        ({"fraud__version": "999"}, ["999"]),
        ({"fraud__engine": "steam"}, ["steam"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_settings(workers: Workers, settings: dict[str, str], expected: list[str]) -> None:
    worker = workers.fraud("unset", servers=f"127.0.0.1:{free_port()}", **settings)
    assert_ends(worker, *expected)


def test_settings_file_that_is_no_toml(tmp_path: Path, workers: Workers) -> None:
    (tmp_path / "headrace.toml").write_text("[kafka\n")
    assert_ends(workers.fraud("unset", servers="127.0.0.1:1"), "headrace.toml", "TOML")


def test_taken_http_port(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    (source,) = make_topics("port")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        worker = workers.fraud(source, fraud__input=source, fraud__output=f"{source}-out", worker__http_port=port)
        assert_ends(worker, f"127.0.0.1:{port}", "worker.http_port")


def test_corrupt_changelog(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, changelog = make_topics("rotten", "rotten-changelog", partitions=2)
    group = changelog.removesuffix(".changelog")
    verify.send(kafka.bootstrap_servers, source, [(1, b"c", json.dumps(GOOD).encode(), [])])
    worker = workers.fraud(group, fraud__input=source, fraud__output=f"{source}-out").running()
    assert worker.stop() == 0
    verify.send(kafka.bootstrap_servers, f"{group}.changelog", [(1, b"rubbish", b"rubbish", [])])
    worker = workers.fraud(group, fraud__input=source, fraud__output=f"{source}-out")
    assert_ends(worker, f"restoring {re.escape(group)}.changelog\\[1\\]@", "rubbish", "stops")


def poisoned(kafka: Kafka, source: str, bad: int, good: int) -> None:
    """In each of 50 rounds so many bad records and then so many good ones."""
    value = json.dumps(GOOD).encode()
    row = [(0, b"c", b"{oops", [])] * bad + [(0, b"c", value, [])] * good
    verify.send(kafka.bootstrap_servers, source, row * 50)


@pytest.mark.parametrize(
    ("bad", "good", "limit"),
    [(20, 0, "dead_letter.max_consecutive = 200"), (3, 2, r"dead_letter.max_share = 0\.5")],
    ids=["consecutive", "share"],
)
def test_dead_letter_limits(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, bad: int, good: int, limit: str
) -> None:
    (source,) = make_topics("drowning")
    servers, group = kafka.bootstrap_servers, f"{source}-group"
    poisoned(kafka, source, bad, good)
    settings = {"fraud__input": source, "fraud__output": f"{source}-out", "batch__max_batch_size": 16}
    settings["dead_letter__share_window"] = 240
    worker = workers.fraud(group, **settings)
    assert_ends(worker, limit, re.escape(f"{source}[0]@"), "poison", "of key 'c'", "decode", "uncommitted", "mend")
    letters = verify.ends(servers, f"{source}.dead-letter")[0]
    assert letters < 50 * bad, "it must not drain the topic"
    assert verify.committed(servers, group, source)[0] <= letters + verify.ends(servers, f"{source}-out")[0]


def test_a_model_that_fails_for_every_record(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("hopeless", "hopeless-out")
    servers, group = kafka.bootstrap_servers, f"{source}-group"
    verify.send(servers, source, [(0, b"k", b"{}", [])] * 500)
    worker = workers.counting(group, {"input": source, "output": output, "broken": True})
    assert_ends(worker, "model counting/1", "fails for every record", "nothing of it is committed")
    assert verify.committed(servers, group, source) == {0: 0}
    assert verify.ends(servers, output) == verify.ends(servers, f"{source}.dead-letter") == {0: 0}
