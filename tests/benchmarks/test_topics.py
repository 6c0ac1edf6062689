"""Counting what a subscriber finds, where end offsets count markers and aborted records too."""

from __future__ import annotations

import pytest

from tests.conftest import Kafka

pytest.importorskip("orjson", reason="needs the extra `bench`")

from confluent_kafka import Producer

from benchmarks.topics import Topics


def test_only_committed_records_count(kafka: Kafka) -> None:
    with Topics(kafka.bootstrap_servers) as topics:
        topic = topics.create("counted", partitions=3, config={"retention.ms": "600000"})
        assert len(topics.ends(topic)) == 3
        topics.fill(topic, ((b"k%d" % number, b"{}") for number in range(100)))
        assert topics.size(topic) == topics.committed(topic) == 100

        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
        producer.init_transactions(20)
        for end in (producer.commit_transaction, producer.abort_transaction):
            producer.begin_transaction()
            for number in range(10):
                producer.produce(topic, b"{}", b"k%d" % number)
            producer.flush(20)  # else the client throws away what it would have to abort
            end(20)
        assert topics.committed(topic) == 110
        assert topics.size(topic) > 120, "markers and aborted records have offsets"
