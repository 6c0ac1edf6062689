"""The input topic is deleted and created anew under a running worker."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

BEFORE, TIMEOUT_S = (100, 5), 20


def recreate(servers: str, topic: str) -> None:
    """Delete a topic and create it again as soon as the broker lets its name go."""
    admin = AdminClient({"bootstrap.servers": servers})
    deleted = admin.delete_topics([topic])[topic]
    deadline = time.monotonic() + TIMEOUT_S
    while True:  # without a pause: the worker may see no moment without the topic
        try:
            admin.create_topics([NewTopic(topic, len(BEFORE), 1)])[topic].result(TIMEOUT_S)
            break
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                raise
    deleted.result(TIMEOUT_S)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
def test_every_record_of_a_topic_made_anew_is_predicted(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, longer: bool, guarantee: str
) -> None:
    """The worker goes on with the new topic, or ends with an error and its restart does.

    An offset of the old topic is beyond the end of a shorter new one, where it is noticed. In a longer one it is a
    place like any other, and all that stands before it would be skipped in silence.
    """
    servers = kafka.bootstrap_servers
    source, output = make_topics("anew", "anew-out", partitions=len(BEFORE))
    group, script = f"{source}-group", {"input": source, "output": output}
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})

    def feed(key: bytes, counts: tuple[int, ...]) -> None:
        for partition, count in enumerate(counts):
            for _ in range(count):
                producer.produce(source, b"{}", key, partition)
        assert producer.flush(TIMEOUT_S) == 0

    worker = workers.counting(group, script, worker__processing_guarantee=guarantee).running()
    feed(b"old", BEFORE)
    until(lambda: not verify.behind(servers, group, source), TIMEOUT_S, "a commit of everything")
    recreate(servers, source)
    if longer:
        feed(b"new", (200, 200))
    else:
        for _ in range(4):
            feed(b"new", (1, 1))
            time.sleep(0.2)  # polls between them: each brings a message of its own

    until(lambda: not worker.alive or not verify.behind(servers, group, source), TIMEOUT_S, "a commit, or the end")
    if not worker.alive:
        assert worker.process.returncode != 0
        worker = workers.counting(group, script, worker__processing_guarantee=guarantee).running()
        until(lambda: not verify.behind(servers, group, source), TIMEOUT_S, "a commit of everything by the restart")
    assert worker.stop() == 0
    inputs = verify.read(servers, source)
    assert {record.key for record in inputs} == {b"new"}
    outputs = [made for made in verify.read(servers, output) if made.key == b"new"]
    verify.assert_nothing_lost(inputs, outputs, source)
