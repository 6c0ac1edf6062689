"""The input topic is deleted and created anew under a running worker."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

PARTITIONS, TIMEOUT_S = 2, 20


def recreate(servers: str, topic: str) -> None:
    """Delete a topic and create it again as soon as the broker lets its name go."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([topic])[topic].result(TIMEOUT_S)

    def create() -> bool:
        try:
            admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            return False
        return True

    until(create, TIMEOUT_S, f"the creation of {topic} anew")


@pytest.mark.parametrize("longer", [False, True], ids=["shorter than before", "longer than before"])
def test_every_record_of_a_topic_made_anew_is_predicted(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, longer: bool
) -> None:
    """The worker goes on with the new topic, or ends with an error and its restart does."""
    servers = kafka.bootstrap_servers
    source, output = make_topics("anew", "anew-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output}

    def feed(key: bytes, counts: tuple[int, int]) -> None:
        rows = ((p, key, b"{}", []) for p, count in enumerate(counts) for _ in range(count))
        verify.send(servers, source, rows)

    worker = workers.counting(group, script).running()
    feed(b"old", (100, 5))
    until(lambda: not verify.behind(servers, group, source), TIMEOUT_S, "a commit of everything")

    recreate(servers, source)
    if longer:
        feed(b"new", (200, 200))
    else:
        for _ in range(4):
            feed(b"new", (1, 1))
            time.sleep(0.3)

    def outputs() -> list[verify.Record]:
        return [made for made in verify.read(servers, output) if made.key == b"new"]

    inputs = verify.read(servers, source)

    def done():
        return not worker.alive or len({made.source(source) for made in outputs()}) == len(inputs)

    until(done, TIMEOUT_S, "xxx")
    print("ALIVE", worker.alive)
    verify.assert_nothing_lost(inputs, outputs(), source)
