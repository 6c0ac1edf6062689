"""A group that stands beyond the end of its log, which an unclean election or a restored backup has made shorter."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

BEYOND, LEFT, MORE, SOON_S = 100, 50, 100, 20


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_what_is_left_and_what_follows_is_predicted_and_committed_and_a_warning_says_so(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, guarantee: str
) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("beyond", "beyond-out")
    group, script = f"{source}-group", {"input": source, "output": output}
    member = Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    member.commit(offsets=[TopicPartition(source, 0, BEYOND)], asynchronous=False)
    member.close()
    verify.send(servers, source, [(0, b"k", b"{}", [])] * LEFT)

    worker = workers.counting(group, script, worker__processing_guarantee=guarantee).running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of what is left, below the one before")
    worker.said(rf"WARNING.* {source}\[0\]: offset {BEYOND} is not in its log any more.* from its beginning on")
    assert worker.stop() == 0
    verify.send(servers, source, [(0, b"k", b"{}", [])] * MORE)  # they pass the offset that was committed first
    worker = workers.counting(group, script, worker__processing_guarantee=guarantee).running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.stop() == 0
    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    assert len(inputs) == LEFT + MORE
    assert verify.assert_nothing_lost(inputs, outputs, source) == 0
