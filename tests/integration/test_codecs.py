"""Producers compress as they like: a worker reads all of it."""

from __future__ import annotations

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
EACH = 50


def test_every_codec_of_kafka_is_read(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("codecs", "codecs-out")
    for codec in CODECS:
        records = [(0, b"k", codec.encode() * 100, []) for _ in range(EACH)]
        verify.send(servers, source, records, **{"compression.type": codec})
    group = f"{source}-group"
    worker = workers.counting(group, {"input": source, "output": output}).running()
    until(lambda: not worker.alive or not verify.behind(servers, group, source), 30, "a commit of everything")
    assert worker.alive, worker.output()
    assert worker.stop() == 0
    came = verify.read(servers, source)
    assert len(came) == len(CODECS) * EACH
    assert verify.assert_nothing_lost(came, verify.read(servers, output), source) == 0
